"""Pictures that no photographer took, and pictures coded again and again, as Markdown tables.

    python benchmarks/robustness.py PHOTOGRAPH...

First table: PSNR of Softstair at three rate positions beside AVIF (4:4:4, speed 6) and JPEG (4:4:4) at
the largest quality that takes no more bytes, or at their smallest file. Second table: PSNR against the
original after so many generations, each coding what the last one decoded, on crops of 256x256 of the
photographs; of AVIF and JPEG, and of our files that a trellis did not choose, at the quality nearest in
size in the first generation.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from not_photographs import written
from PIL import Image, ImageDraw, ImageFont

import softstair
from softstair.evaluate import psnr
from softstair.evaluate.data import Pixels, read_rgb

POSITIONS = (40, 80, 120)
EFFORT = 5  # the default
GENERATIONS = (1, 2, 5, 10, 20, 50)
SIDE, CROP = 384, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path)
    photographs = [read_rgb(path) for path in parser.parse_args().photographs]
    print("| picture | rate position | bytes | Softstair, dB | AVIF: bytes | dB | JPEG: bytes | dB |")
    print("| --- |" + " --: |" * 7)
    for name, pixels in unusual():
        for position in POSITIONS:
            print(f"| {name} | {position} |", beside(pixels, position), flush=True)
    print("\n| codec |", " | ".join(f"{count} generations" for count in GENERATIONS), "|")
    print("| --- |" + " --: |" * len(GENERATIONS))
    crops = [centre(pixels) for pixels in photographs]
    for name, coders in again_and_again(crops):
        figures = np.mean([fading(crop, coder) for crop, coder in zip(crops, coders, strict=True)], axis=0)
        print(f"| {name} |", " | ".join(f"{value:.2f}" for value in figures), "|", flush=True)


def unusual() -> Iterator[tuple[str, Pixels]]:
    """Pictures that differ from photographs in one way each."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    yield "text", text()
    yield "screenshot", screenshot()
    yield "noise, sigma 40", np.clip(rng.normal(128, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    yield "noise, uniform", rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    yield "one colour", np.full((SIDE, SIDE, 3), (37, 142, 205), np.uint8)
    bars = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 255], [255, 255, 0], [0, 255, 255]])
    yield "saturated bars", bars[(columns * 6 // SIDE)].astype(np.uint8)
    yield (
        "saturated gradient",
        np.dstack([rows * 255 // SIDE, columns * 255 // SIDE, 255 - rows * 255 // SIDE]).astype(np.uint8),
    )
    yield "checks of one pixel", np.repeat(((rows + columns) % 2 * 255)[..., None], 3, 2).astype(np.uint8)
    yield "one pixel wide", text()[:, SIDE // 2 : SIDE // 2 + 1].copy()
    yield "one pixel high", text()[SIDE // 2 : SIDE // 2 + 1].copy()


def text() -> Pixels:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    for line in range(24):
        size = 9 + line // 3
        words = "The quick brown fox jumps over the lazy dog, 0123456789 times. " * 2
        draw.text((6, 4 + 16 * line), words, "black", ImageFont.load_default(size))
    return np.asarray(image)


def screenshot() -> Pixels:
    image = Image.new("RGB", (SIDE, SIDE), "#f3f3f3")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIDE, 28), fill="#2b5797")
    draw.text((10, 7), "Settings - Display", "white", ImageFont.load_default(12))
    for row in range(9):
        top = 44 + 36 * row
        draw.rectangle((12, top, SIDE - 12, top + 28), fill="white", outline="#bbbbbb")
        draw.text((20, top + 8), f"Option number {row + 1}", "#222222", ImageFont.load_default(11))
        draw.ellipse((SIDE - 44, top + 6, SIDE - 28, top + 22), fill=("#1a9c4b", "#c2c2c2")[row % 2])
    return np.asarray(image)


def beside(pixels: Pixels, position: int) -> str:
    data = softstair.encode(pixels, rate_position=position)
    cells = [str(len(data)), decibels(pixels, softstair.decode(data))]
    for save in (avif, jpeg):
        files = [save(pixels, quality) for quality in range(0, 101, 4)]
        other = max((file for file in files if len(file) <= len(data)), key=len, default=min(files, key=len))
        cells += [str(len(other)), decibels(pixels, opened(other))]
    return " | ".join(cells) + " |"


def again_and_again(crops: list[Pixels]) -> Iterator[tuple[str, list[Callable[[Pixels, int], Pixels]]]]:
    """Names, and for every crop what codes it in a generation."""

    def ours(effort: int, positions: Sequence[int]) -> Callable[[Pixels, int], Pixels]:
        return lambda pixels, generation: softstair.decode(
            softstair.encode(pixels, rate_position=positions[generation % len(positions)], effort=effort)
        )

    def other(save: Callable[[Pixels, int], bytes], qualities: list[int]) -> Callable[[Pixels, int], Pixels]:
        return lambda pixels, generation: opened(save(pixels, qualities[generation % len(qualities)]))

    for positions in ((80,), (80, 96)):
        kind = "the same rate" if len(positions) == 1 else "two rates in turn"
        yield f"Softstair, {kind}", [ours(EFFORT, positions) for _ in crops]
        matched = [[nearest(plain, crop, position) for position in positions] for crop in crops]
        yield f"Softstair, effort 2, {kind}", [ours(2, near) for near in matched]
        for name, save in (("AVIF", avif), ("JPEG", jpeg)):
            matched = [[nearest(save, crop, position) for position in positions] for crop in crops]
            yield f"{name}, {kind}", [other(save, qualities) for qualities in matched]


def nearest(save: Callable[[Pixels, int], bytes], pixels: Pixels, position: int) -> int:
    size = len(softstair.encode(pixels, rate_position=position, effort=EFFORT))
    return min(range(0, 101, 2), key=lambda quality: abs(len(save(pixels, quality)) - size))


def fading(pixels: Pixels, coder: Callable[[Pixels, int], Pixels]) -> list[float]:
    figures, current = [], pixels
    for generation in range(max(GENERATIONS)):
        current = coder(current, generation)
        if generation + 1 in GENERATIONS:
            figures.append(psnr(pixels, current))
    return figures


def plain(pixels: Pixels, position: int) -> bytes:
    return softstair.encode(pixels, rate_position=position, effort=2)


def avif(pixels: Pixels, quality: int) -> bytes:
    return written(pixels, "AVIF", quality=quality, subsampling="4:4:4", speed=6, max_threads=1)


def jpeg(pixels: Pixels, quality: int) -> bytes:
    return written(pixels, "JPEG", quality=max(quality, 1), subsampling=0)


def opened(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def centre(pixels: Pixels) -> Pixels:
    top, left = (pixels.shape[0] - CROP) // 2, (pixels.shape[1] - CROP) // 2
    return np.ascontiguousarray(pixels[top : top + CROP, left : left + CROP])


def decibels(one: Pixels, other: Pixels) -> str:
    return f"{psnr(one, other):.2f}"


if __name__ == "__main__":
    main()
