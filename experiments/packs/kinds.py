"""Kinds of pictures told by a linear classifier: pooled latents against pooled pixels.

    python -m experiments.packs.kinds DATA

DATA holds domains/NAME/{adapt,test}, train/, kodak/ and photos768/. Linear discriminants of five kinds
(photographs and four domains; the covariance within kinds, shrunk towards a multiple of one) learn from the
adapt pictures and 84 training photographs. Features: log2 of the deviation of every latent over the picture,
or of every coefficient of 8x8 cosine transforms of luma and chroma. Writes kinds.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

from softstair.bundle import Bundle, open_bundle
from softstair.codec import networks_of
from softstair.learn.data import Pixels, load_pictures

HERE = Path(__file__).parent
DOMAINS = ("screens", "rendered", "documents", "aerial")
_LEAST = 2.0**-6
_SHRINKAGE = 0.1
_LARGEST = 640, 896  # of what is looked at
_OF_A_PACK = 12  # training photographs
Features = Callable[[Pixels], npt.NDArray[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    packs = [data / f"train/pack-0{index}.tar" for index in range(7)]
    photographs = [one for pack in packs for one in load_pictures([pack])[:_OF_A_PACK]]
    learned = [photographs] + [load_pictures([data / "domains" / name / "adapt"]) for name in DOMAINS]
    tested = {name: load_pictures([data / "domains" / name / "test"]) for name in DOMAINS}
    tested |= {name: load_pictures([data / name]) for name in ("kodak", "photos768")}
    bundle = open_bundle()
    found = {}
    for name, features in {"latents": lambda one: of_latents(bundle, one), "pixels": of_pixels}.items():
        classify = classifier([np.stack([features(_middle(one)) for one in group]) for group in learned])
        found[name] = {
            kind: np.bincount(
                classify(np.stack([features(_middle(one)) for one in pictures])), minlength=5
            ).tolist()
            for kind, pictures in tested.items()
        }
        print(name, found[name], flush=True)
    content = {"bundle": bundle.fingerprint.hex(), "columns": ["photographs", *DOMAINS], "counts": found}
    (HERE / "kinds.json").write_text(json.dumps(content, indent=1) + "\n")


def _middle(pixels: Pixels) -> Pixels:
    tops = [max(side - most, 0) // 2 for side, most in zip(pixels.shape, _LARGEST, strict=False)]
    sides = [min(side, most) // 32 * 32 for side, most in zip(pixels.shape, _LARGEST, strict=False)]
    return np.ascontiguousarray(pixels[tops[0] : tops[0] + sides[0], tops[1] : tops[1] + sides[1]])


def of_latents(bundle: Bundle, pixels: Pixels) -> npt.NDArray[np.float64]:
    planes = pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    y = networks_of(bundle, 1).analysis(np.ascontiguousarray(planes))[0]
    return np.log2(np.maximum(y.std((1, 2)).astype(np.float64), _LEAST))


def of_pixels(pixels: Pixels) -> npt.NDArray[np.float64]:
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    blue, red = (pixels[..., channel] - luma for channel in (2, 0))
    rows, columns = (side // 8 for side in luma.shape)
    blocks = np.stack([luma, blue, red]).reshape(3, rows, 8, columns, 8).transpose(0, 1, 3, 2, 4)
    deviations = dctn(blocks, axes=(3, 4), norm="ortho").std((1, 2)).ravel()
    return np.log2(np.maximum(deviations, _LEAST))


def classifier(
    groups: list[npt.NDArray[np.float64]],
) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.int64]]:
    """The number of the group that rows of features belong to."""
    middle, spread = groups[0].mean(0), groups[0].std(0) + 1e-3
    scaled = [(group - middle) / spread for group in groups]
    covariance = sum(np.cov(group.T) for group in scaled) / len(scaled)
    width = len(covariance)
    inverse = np.linalg.inv(covariance + _SHRINKAGE * np.trace(covariance) / width * np.eye(width))
    means = [group.mean(0) for group in scaled]

    def classify(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        seen = (rows - middle) / spread
        scores = [seen @ inverse @ mean - 0.5 * mean @ inverse @ mean for mean in means]
        found: npt.NDArray[np.int64] = np.argmax(scores, 0)
        return found

    return classify


if __name__ == "__main__":
    main()
