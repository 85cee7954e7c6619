"""The ladder: what every part of a pack is worth on a domain that it was not made of.

    python -m experiments.packs.run DOMAINS [--domains screens ...] [--rungs tables ...] [--minutes M]
        [--every N] [--exact]

DOMAINS holds NAME/adapt and NAME/test. Files of every N-th test picture by the default bundle, changed as
far as each rung goes, at four rate positions; sums of bytes and of squared errors go into rows.json, from
which `python -m experiments.packs.page` writes results/packs.md. A rung that is there for the same bundle,
minutes and pictures is not measured again. Without --exact nothing is coded exactly, so that bytes are those
of the networks and tables alone; with it files are as people get them.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import torch
from PIL import Image

from softstair.bundle import Bundle, merged, open_bundle, write_pack
from softstair.codec import Rate, decode_picture, encode_picture
from softstair.learn.data import Pixels, load_pictures
from softstair.learn.stages.adapt import Adaptation, Part, packed, split, trained
from softstair.pictures import Picture

HERE = Path(__file__).parent
POSITIONS = (40, 72, 104, 136)
AVIF_QUALITIES = (30, 50, 65, 80, 90)
RUNGS: dict[str, tuple[Part, ...]] = {
    "base": (),
    "tables": (),
    "biases": ("biases",),
    "decoder": ("biases", "decoder"),
    "encoder": ("biases", "decoder", "encoder"),
    "full": ("full",),
}
_NO_CELLS = "softstair.codec.encoder.exact_cells"  # says which cells are worth coding exactly


class Row(msgspec.Struct, frozen=True):
    """A rung on a domain, or AVIF. bytes: of the pack. seconds: of a wall clock, to make it. points: bytes
    of all files and dB of their mean squared error, the finest last."""

    domain: str
    rung: str
    bundle: str
    minutes: float
    every: int
    exact: bool
    pictures: int
    steps: int
    bytes: int
    seconds: float
    points: list[tuple[float, float]]

    @property
    def key(self) -> tuple[object, ...]:
        minutes = 0 if self.rung in ("avif", "base", "tables") else self.minutes
        return self.domain, self.rung, self.bundle, minutes, self.every, self.exact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--domains", nargs="+", default=["screens", "rendered", "documents"])
    parser.add_argument("--rungs", nargs="+", default=[*RUNGS, "avif"], choices=[*RUNGS, "avif"])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs/packs"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle, path = open_bundle(), HERE / "rows.json"
    rows = msgspec.json.decode(path.read_bytes(), type=list[Row]) if path.exists() else []
    for domain in arguments.domains:
        learning, held_back = split(load_pictures([arguments.root / domain / "adapt"]))
        pictures = load_pictures([arguments.root / domain / "test"])[:: arguments.every]
        for rung in arguments.rungs:
            wanted = Row(
                domain,
                rung,
                bundle.fingerprint.hex(),
                arguments.minutes,
                arguments.every,
                arguments.exact,
                *(len(pictures), 0, 0, 0.0, []),
            )
            if any(row.key == wanted.key for row in rows):
                continue
            start, steps, size, changed = time.monotonic(), 0, 0, bundle
            if rung not in ("base", "avif"):
                changed, steps, size = adapted(bundle, learning, held_back, rung, domain, arguments)
            seconds = time.monotonic() - start
            with nullifying(arguments.exact):
                points = avif(pictures) if rung == "avif" else files(changed, pictures)
            replaced = msgspec.structs.replace
            rows.append(replaced(wanted, steps=steps, bytes=size, seconds=seconds, points=points))
            path.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
            print(domain, rung, f"{seconds:.0f} s", size, points, flush=True)


def adapted(
    bundle: Bundle,
    learning: list[Pixels],
    held_back: list[Pixels],
    rung: str,
    domain: str,
    arguments: argparse.Namespace,
) -> tuple[Bundle, int, int]:
    """The bundle as a rung changes it, after how many steps, and the bytes of its pack."""
    minutes = 0 if rung == "tables" else arguments.minutes
    settings = Adaptation(f"{domain}-{rung}", "unknown", minutes, RUNGS[rung])
    run = arguments.runs / f"{domain}-{rung}-{minutes:g}"
    found = trained(bundle, learning, held_back, run, settings, lambda line: print(rung, line, flush=True))
    adapters, integers, steps = found
    pack = packed(bundle, adapters, integers, learning, settings, {"steps": steps})
    arguments.runs.mkdir(parents=True, exist_ok=True)
    write_pack(arguments.runs / f"{domain}-{rung}.pack", pack.entries)
    return merged(bundle, pack), steps, pack.size


@contextmanager
def nullifying(exact: bool) -> Iterator[None]:
    """Without exact tiles, unless they are wanted."""
    if exact:
        yield
        return
    with patch(_NO_CELLS, lambda *_: None):
        yield


def files(bundle: Bundle, pictures: Sequence[Pixels]) -> list[tuple[float, float]]:
    def code(pixels: Pixels, position: float) -> tuple[int, Pixels]:
        rate = Rate(position=int(position))
        data = encode_picture(Picture(pixels), rate, bundle, threads=1).data
        return len(data), decode_picture(data, bundle, threads=1).rgb

    return curve(pictures, POSITIONS, code)


def avif(pictures: Sequence[Pixels]) -> list[tuple[float, float]]:
    """Pillow's default, 4:2:0 at speed 6."""

    def code(pixels: Pixels, quality: float) -> tuple[int, Pixels]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "AVIF", quality=int(quality))
        with Image.open(buffer) as image:
            return buffer.tell(), np.asarray(image.convert("RGB"))

    return curve(pictures, AVIF_QUALITIES, code)


def curve(
    pictures: Sequence[Pixels],
    qualities: Sequence[float],
    code: Callable[[Pixels, float], tuple[int, Pixels]],
) -> list[tuple[float, float]]:
    """Bytes of all files, and dB of the squared error of all their samples."""
    points = []
    for quality in qualities:
        coded = [code(pixels, quality) for pixels in pictures]
        errors = [
            np.square(decoded.astype(np.float64) - pixels).sum()
            for (_, decoded), pixels in zip(coded, pictures, strict=True)
        ]
        mean = sum(errors) / sum(pixels.size for pixels in pictures)
        points.append((float(sum(size for size, _ in coded)), 10 * math.log10(255**2 / mean)))
    return points


if __name__ == "__main__":
    main()
