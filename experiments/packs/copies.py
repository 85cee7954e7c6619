"""Copies of pictures found by `softstair.latents`, as the documentation does it.

    python -m experiments.packs.copies FOLDER

Every picture of the folder becomes a file at the default quality, and so do seven copies of it. A copy is
found if its correlation with the picture is above the documentation's threshold. What is found, what is found
wrongly, and milliseconds of `latents` and of `decode`, one thread, the two taking turns, go into copies.json.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import softstair
from softstair.bundle import open_bundle
from softstair.codec import Rate, encode_picture
from softstair.pictures import Picture

HERE = Path(__file__).parent
CELLS, THRESHOLD = 4, 0.9  # of the documentation's example
Pixels = npt.NDArray[np.uint8]


def resized(factor: float) -> Callable[[Pixels], Pixels]:
    def make(pixels: Pixels) -> Pixels:
        height, width = (round(side * factor) for side in pixels.shape[:2])
        return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))

    return make


def cropped(share: float) -> Callable[[Pixels], Pixels]:
    """The middle of a picture, so much of both sides."""

    def make(pixels: Pixels) -> Pixels:
        margins = [round(side * (1 - share) / 2) for side in pixels.shape[:2]]
        return np.ascontiguousarray(pixels[margins[0] : -margins[0], margins[1] : -margins[1]])

    return make


def jpeg(pixels: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=50)
    return np.array(Image.open(buffer))


COPIES: dict[str, tuple[Callable[[Pixels], Pixels], float]] = {
    "quality 30": (lambda pixels: pixels, 30),
    "from JPEG at quality 50": (jpeg, 75),
    "half the size": (resized(0.5), 75),
    "three quarters of the size": (resized(0.75), 75),
    "the middle 95 %": (cropped(0.95), 75),
    "the middle 90 %": (cropped(0.9), 75),
    "the middle 80 %": (cropped(0.8), 75),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    bundle = open_bundle()
    pictures = [np.array(Image.open(path).convert("RGB")) for path in sorted(arguments.folder.iterdir())]

    def files(change: Callable[[Pixels], Pixels], quality: float) -> list[bytes]:
        return [
            encode_picture(Picture(change(one)), Rate(quality=quality), bundle, threads=1).data
            for one in pictures
        ]

    originals = files(lambda pixels: pixels, 75)
    vectors = {"originals": _vectors(originals)}
    for name, made in COPIES.items():
        vectors[name] = _vectors(files(*made))
        print(name, flush=True)
    middle = np.concatenate(list(vectors.values())).mean(0)
    unit = {name: _unit(found - middle) for name, found in vectors.items()}
    rows = {}
    for name in COPIES:
        alike = unit["originals"] @ unit[name].T
        own = np.eye(len(pictures), dtype=bool)
        rows[name] = {
            "found": int((alike[own] > THRESHOLD).sum()),
            "nearest": int((alike.argmax(0) == np.arange(len(pictures))).sum()),
            "wrong": int((alike[~own] > THRESHOLD).sum()),
            "of": len(pictures),
        }
    found = {"bundle": bundle.fingerprint.hex(), "copies": rows, "milliseconds": _times(originals)}
    (HERE / "copies.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def _vectors(files: list[bytes]) -> npt.NDArray[np.float32]:
    return np.stack([softstair.latents(data, cells=CELLS, threads=1).means.ravel() for data in files])


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _times(files: list[bytes]) -> dict[str, float]:
    """Medians, the calls taking turns."""
    calls: dict[str, Callable[[bytes], object]] = {
        "latents": lambda data: softstair.latents(data, cells=CELLS, threads=1),
        "decode": lambda data: softstair.decode(data, threads=1),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for data in files:
        for name, call in calls.items():
            start = time.perf_counter()
            call(data)
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: round(statistics.median(values), 1) for name, values in taken.items()}


if __name__ == "__main__":
    main()
