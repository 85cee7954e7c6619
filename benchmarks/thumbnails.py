"""Time and memory of small pictures beside those of all of it, as Markdown.

    python benchmarks/thumbnails.py PHOTOGRAPH [--bundle BUNDLE] [--quality 75] > results/thumbnails.md
    python benchmarks/thumbnails.py PHOTOGRAPH --many FOLDER > results/thumbnails-kodak.md

The photograph as it is, one of 12 megapixels, of the photograph continued by its mirror images, and files of
25 and 100 megapixels whose tiles are all one, made likewise. Every measurement is a process of its own with
one thread: time is that of the processor in the second of two runs, memory the peak with the interpreter and
the bundle. Then where the time goes, and PSNR: that beside means of the whole picture, and of either beside
means of the photograph. With --many, of a folder's photographs as they are: the least of five decodes of
each, scales in turn.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from parts import parts_of, shares

import softstair
from softstair.bundle import ICON, PREVIEW, Bundle
from softstair.codec.encoder import small_beside
from softstair.evaluate import markdown_table, psnr
from softstair.evaluate.data import Pixels, read_rgb
from softstair.pictures import Picture
from softstair.stream import read_stream, write_stream

TILE = 2048
TILINGS = {"25": (3, 2), "100": (6, 4)}  # columns and rows of tiles, by megapixels
DIVISORS = (4, 8, 16, 32)


def mirrored(pixels: Pixels, side: int) -> Pixels:
    """A square, continued by mirror images."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, side - height), (0, side - width), (0, 0)), mode="symmetric")


def tiled(pixels: Pixels, bundle: Bundle, quality: float, columns: int, rows: int) -> bytes:
    """A file of so many equal tiles, with the small picture that an encoder would put beside them."""
    one = read_stream(softstair.encode(mirrored(pixels, TILE), quality, bundle=bundle, effort=2))
    header = replace(one.header, width=columns * TILE, height=rows * TILE, layout=TILE // 256)
    small = small_beside(Picture(mosaic(pixels, columns, rows)), bundle, threads=1)
    return write_stream(replace(one, header=header, tiles=one.tiles * (columns * rows), small=small))


def mosaic(pixels: Pixels, columns: int, rows: int) -> Pixels:
    """What such a file shows."""
    return np.tile(mirrored(pixels, TILE), (rows, columns, 1))


def measure(path: str, bundle: str, divisor: int, runs: int) -> None:
    """Print milliseconds and megabytes of decoding in this process."""
    data, opened = Path(path).read_bytes(), softstair.open_bundle(bundle)
    for _ in range(runs):
        start = time.process_time()
        softstair.decode(data, scale=1 / divisor, bundle=opened, threads=1)
        spent = time.process_time() - start
    (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps([1e3 * spent, int(peak) / 1e3]))


def shares_of(data: bytes, bundle: Bundle, divisor: int) -> dict[str, str]:
    def decode() -> Pixels:
        return softstair.decode(data, scale=1 / divisor, bundle=bundle, threads=1)

    decode()
    return shares(parts_of(decode))


def means(pixels: Pixels, divisor: int) -> Pixels:
    height, width = (side // divisor * divisor for side in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // divisor, divisor, width // divisor, divisor, 3)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--bundle", default="photo")
    parser.add_argument("--quality", type=float, default=75)
    parser.add_argument("--many", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    bundle = softstair.open_bundle(arguments.bundle)
    if arguments.many is not None:
        print(table_of_many(arguments.many, bundle, arguments.quality))
        return
    pixels = read_rgb(arguments.photograph)
    files = {f"{pixels[..., 0].size / 1e6:.1f}": softstair.encode(pixels, arguments.quality, bundle=bundle)}
    many = mosaic(pixels, 2, 2)[:3000, :4000]
    files["12"] = softstair.encode(many, arguments.quality, bundle=bundle, effort=2)
    for name, (columns, rows) in TILINGS.items():
        files[name] = tiled(pixels, bundle, arguments.quality, columns, rows)
    print(
        f"# Thumbnails\n\n`benchmarks/thumbnails.py`, {arguments.photograph.stem}, bundle {bundle.name}, ",
        end="",
    )
    print(f"quality {arguments.quality:g}, one thread: time, peak memory, share of the time.\n")
    print(
        "| megapixels | whole | "
        + " | ".join(f"1/{d}" for d in DIVISORS)
        + " |\n|--:|"
        + "--:|" * (1 + len(DIVISORS)),
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            path = Path(folder) / "a.stair"
            path.write_bytes(data)
            runs = "1" if name == "100" else "2"
            found = []
            for divisor in (1, *DIVISORS):
                command = [sys.executable, __file__, "--one", path, arguments.bundle, str(divisor), runs]
                found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            cells = [f"{ms:.0f} ms, {mb:.0f} MB, {100 * ms / found[0][0]:.0f} %" for ms, mb in found]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print("\n| share of the time, 25 megapixels | whole | " + " | ".join(f"1/{d}" for d in DIVISORS) + " |")
    print("|---|" + "--:|" * (1 + len(DIVISORS)))
    found = [shares_of(files["25"], bundle, divisor) for divisor in (1, *DIVISORS)]
    for part in dict.fromkeys(part for one in found for part in one):
        print(f"| {part} | " + " | ".join(one.get(part, "") for one in found) + " |")
    entries = {name: entry for name, entry in bundle.entries.items() if name not in (PREVIEW, ICON)}
    without = Bundle(entries, "without")
    data = next(iter(files.values()))
    print("\n| dB | small picture to means | small picture to the photograph | means to the photograph |")
    print("|--:|--:|--:|--:|")
    for divisor in DIVISORS:
        small, mean = (softstair.decode(data, scale=1 / divisor, bundle=one) for one in (bundle, without))
        original = means(pixels, divisor)
        print_psnr(f"1/{divisor}", small, mean, original)
    shown = softstair.decode(files["100"], scale=1 / 32, bundle=bundle)
    mean = means(softstair.decode(files["100"], bundle=bundle), 32)
    print_psnr("1/32, 100 megapixels", shown, mean, means(mosaic(pixels, *TILINGS["100"]), 32))


def table_of_many(folder: Path, bundle: Bundle, quality: float) -> str:
    """Milliseconds of each photograph and their means, with the share of a whole decode."""
    head = ["photograph", "bytes", "whole", *(f"1/{divisor}" for divisor in DIVISORS)]
    lines, times = [], []
    for path in sorted(folder.iterdir()):
        data = softstair.encode(read_rgb(path), quality, bundle=bundle, threads=1)
        times.append(least(data, bundle))
        lines.append([path.stem, str(len(data)), *cells_of(times[-1])])
    lines.append(["mean", "", *cells_of(np.mean(times, axis=0))])
    about = f"Bundle {bundle.name}, quality {quality:g}, one thread, milliseconds."
    return f"{about}\n\n{markdown_table(head, lines)}"


def least(data: bytes, bundle: Bundle) -> list[float]:
    """Milliseconds of the whole picture and of each scale, the least of five in turn after one to warm up."""
    found = np.full((6, 1 + len(DIVISORS)), np.inf)
    for turn in range(len(found)):
        for index, divisor in enumerate((1, *DIVISORS)):
            start = time.process_time()
            softstair.decode(data, scale=1 / divisor, bundle=bundle, threads=1)
            found[turn, index] = 1e3 * (time.process_time() - start)
    return [float(one) for one in found[1:].min(axis=0)]


def cells_of(times: Sequence[float]) -> list[str]:
    return [f"{ms:.0f}, {100 * ms / times[0]:.1f} %" for ms in times]


def print_psnr(name: str, small: Pixels, mean: Pixels, original: Pixels) -> None:
    height, width = original.shape[:2]
    pairs = ((small, mean), (small[:height, :width], original), (mean[:height, :width], original))
    print(f"| {name} | " + " | ".join(f"{psnr(*pair):.2f}" for pair in pairs) + " |")


if __name__ == "__main__":
    main()
