"""Screens, documents and renders, with exact tiles and without, as Markdown tables.

    python benchmarks/not_photographs.py DOMAINS [PHOTOGRAPH...]

DOMAINS is a folder with screens/test, documents/test and rendered/test. Each picture is coded by the
default bundle at three qualities: as if it were a photograph, which is what was done before there were
exact tiles, and as it is done now. Beside it: lossless WebP (method 4, quality 100), AVIF (Pillow's
default: 4:2:0, speed 6) at the same number, and the smallest AVIF of qualities 25, 40, 50, 60, 75, 90, 97
and 100 whose PSNR is not below ours; where we are exact, that is none but by luck. The ratio is of our
bytes to the smaller of that AVIF and WebP.

PHOTOGRAPHs are coded both ways in turn: bytes must be equal, and the time is the best of each.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from softstair.bundle import Bundle, open_bundle
from softstair.codec import PictureEncoder, Rate, decode_picture, encode_picture
from softstair.evaluate import psnr
from softstair.evaluate.data import Pixels, read_rgb
from softstair.pictures import Picture

SETS = ("screens", "documents", "rendered")
QUALITIES = (50, 75, 90)
AVIF_QUALITIES = (25, 40, 50, 60, 75, 90, 97, 100)
TIMES = 5
_LOOK = "softstair.codec.encoder.look_at_cells"  # says None of photographs


@dataclass(frozen=True)
class Coded:
    """A file: bytes, dB."""

    size: int
    psnr: float

    def __str__(self) -> str:
        return f"{self.size} | {'exact' if np.isinf(self.psnr) else f'{self.psnr:.1f}'}"


@dataclass(frozen=True)
class Row:
    """A picture at a quality. peer: smallest AVIF that is as good, if any."""

    name: str
    quality: int
    before: Coded
    after: Coded
    avif: Coded
    peer: int | None
    webp: int

    @property
    def smaller(self) -> int:
        return self.webp if self.peer is None else min(self.peer, self.webp)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("domains", type=Path)
    parser.add_argument("photographs", nargs="*", type=Path)
    parser.add_argument("--every", type=int, default=1, help="one of so many pictures")
    parser.add_argument("--model", help="another bundle than the default")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.model)
    found = {
        name: list(rows_of(sorted((arguments.domains / name / "test").iterdir())[:: arguments.every], bundle))
        for name in SETS
    }
    print(f"Bundle {bundle.name}, {bundle.fingerprint.hex()}.\n")
    print(
        "| set | quality | bytes before | dB | bytes now | exact | AVIF as good, or WebP, whichever is "
        "smaller | now to that | worst | over 1.10 |\n| --- |" + " --: |" * 9
    )
    for name, rows in found.items():
        for quality in QUALITIES:
            print(summary(name, quality, [row for row in rows if row.quality == quality]))
    if arguments.photographs:
        print("\n| photograph | bytes before | bytes now | time now to before |\n| --- |" + " --: |" * 3)
        for path in arguments.photographs:
            print(photograph(path, bundle), flush=True)
    print(
        "\n| picture | quality | bytes before | dB | bytes now | dB | AVIF | dB | AVIF as good | "
        "lossless WebP | ratio |\n| --- |" + " --: |" * 10
    )
    for row in (row for rows in found.values() for row in rows):
        peer = "none" if row.peer is None else row.peer
        print(
            f"| {row.name} | {row.quality} | {row.before} | {row.after} | {row.avif} | {peer} | {row.webp} | "
            f"{row.after.size / row.smaller:.2f} |"
        )


def rows_of(paths: Sequence[Path], bundle: Bundle) -> Iterator[Row]:
    for path in paths:
        pixels = read_rgb(path)
        webp = len(written(pixels, "WEBP", lossless=True, method=4, quality=100))
        avifs = [avif(pixels, quality) for quality in AVIF_QUALITIES]
        with patch(_LOOK, lambda pixels: None):
            before = at_qualities(pixels, bundle)
        for quality, old, new in zip(QUALITIES, before, at_qualities(pixels, bundle), strict=True):
            as_good = [coded.size for coded in avifs if coded.psnr >= new.psnr]
            beside = avifs[AVIF_QUALITIES.index(quality)]
            yield Row(path.stem, quality, old, new, beside, min(as_good, default=None), webp)


def at_qualities(pixels: Pixels, bundle: Bundle) -> list[Coded]:
    encoder = PictureEncoder(Picture(pixels), bundle, threads=1)
    files = [encoder.fit(Rate(quality)).data for quality in QUALITIES]
    return [Coded(len(data), psnr(pixels, decode_picture(data, bundle, threads=1).pixels)) for data in files]


def avif(pixels: Pixels, quality: int) -> Coded:
    data = written(pixels, "AVIF", quality=quality)
    with Image.open(io.BytesIO(data)) as image:
        return Coded(len(data), psnr(pixels, np.asarray(image.convert("RGB"))))


def summary(name: str, quality: int, rows: Sequence[Row]) -> str:
    before, now, smaller = (
        sum(values)
        for values in zip(*((row.before.size, row.after.size, row.smaller) for row in rows), strict=True)
    )
    ratios = [row.after.size / row.smaller for row in rows]
    exact = sum(np.isinf(row.after.psnr) for row in rows)
    decibels = np.mean([row.before.psnr for row in rows])
    return (
        f"| {name} | {quality} | {before} | {decibels:.1f} | {now} | {exact} of {len(rows)} | {smaller} | "
        f"{now / smaller:.2f} | {max(ratios):.2f} | {sum(ratio > 1.1 for ratio in ratios)} |"
    )


def photograph(path: Path, bundle: Bundle) -> str:
    picture, best, sizes = Picture(read_rgb(path)), {True: np.inf, False: np.inf}, {}
    for _ in range(TIMES):
        for exact in (True, False):
            with nullcontext() if exact else patch(_LOOK, lambda pixels: None):
                start = time.process_time()
                sizes[exact] = len(encode_picture(picture, Rate(75), bundle, threads=1).data)
                best[exact] = min(best[exact], time.process_time() - start)
    return f"| {path.stem} | {sizes[False]} | {sizes[True]} | {best[True] / best[False]:.3f} |"


def written(pixels: Pixels, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
