"""What context networks save and cost: files of a bundle without and of one with them, picture by picture.

    python -m experiments.context.run WITHOUT.stairs WITH.stairs DATA/kodak [--positions 16 40 64 88 120 148]
    python -m experiments.context.run WITHOUT.stairs WITH.stairs --time PICTURE

Bytes are those of files, of files without the context of signs, and of z (what a decoder has read when it
knows z); PSNR is of decoded pictures, since a search by other tables may decide otherwise;
what is saved at equal PSNR follows from the curve of the bundle without. Times are of all symbols of a
picture's first tile, the bundles in turn: medians, in milliseconds of one core, whoever else uses it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean, median

import numpy as np
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from scipy.interpolate import PchipInterpolator

from softstair import _core
from softstair.bundle import CONTEXT, Bundle, open_bundle
from softstair.codec import Rate, decode_picture, encode_picture
from softstair.evaluate import find_data_set
from softstair.pictures import Picture, read_picture
from softstair.stream import read_stream

POSITIONS = (16, 40, 64, 88, 120, 148)
ROUNDS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("without", type=open_bundle)
    parser.add_argument("with_", metavar="with", type=open_bundle)
    parser.add_argument("data_set", type=Path, nargs="?")
    parser.add_argument("--positions", type=int, nargs="+", default=POSITIONS)
    parser.add_argument("--every", type=int, default=1, help="take every so many pictures")
    parser.add_argument("--time", type=Path, metavar="PICTURE")
    arguments = parser.parse_args()
    bundles = [arguments.without, arguments.with_]
    if arguments.data_set is not None:
        pictures = [load(path) for path in find_data_set(arguments.data_set).paths[:: arguments.every]]
        savings(bundles, pictures, arguments.positions)
    if arguments.time is not None:
        times(bundles, load(arguments.time), arguments.positions)


def load(path: Path) -> Picture:
    return read_picture(path.read_bytes(), path.name)


def without_signs(bundle: Bundle) -> Bundle:
    """The bundle without its context of signs; all else decides as before."""
    tensors = load_safetensors(bundle.entries[CONTEXT])
    kept = {name: value for name, value in tensors.items() if not name.startswith("sign.")}
    return Bundle({**bundle.entries, CONTEXT: save_safetensors(kept)}, bundle.origin)


def savings(bundles: list[Bundle], pictures: list[Picture], positions: list[int]) -> None:
    """Print a row a position: bits a pixel without, per cent saved of all bytes and by part, PSNR gained."""
    without, with_ = bundles
    parts = without, without_signs(with_), with_
    # (positions, parts, (bytes, bytes of z, dB))
    rows = np.array([[of_all(bundle, pictures, position) for bundle in parts] for position in positions])
    rate_of = PchipInterpolator(rows[:, 0, 2], np.log(rows[:, 0, 0]))
    pixels = sum(one.array.shape[0] * one.array.shape[1] for one in pictures)
    print("| position | bits a pixel | saved | by z | by the place | by signs | of z | PSNR, dB", end="")
    print(" | at equal PSNR |\n" + 9 * "| --: " + "|")
    for position, (plain, unsigned, full) in zip(positions, rows, strict=True):
        by_z, by_signs, by_all = plain[1] - unsigned[1], unsigned[0] - full[0], plain[0] - full[0]
        saved = (by_all, by_z, by_all - by_z - by_signs, by_signs)
        print(
            f"| {position} | {8 * plain[0] / pixels:.3f} |",
            " | ".join(f"{100 * value / plain[0]:.2f} %" for value in saved),
            f"| {100 * by_z / plain[1]:.1f} % | {full[2] - plain[2]:+.3f}",
            f"| {100 * (1 - full[0] / np.exp(rate_of(full[2]))):.2f} % |",
        )


def of_all(bundle: Bundle, pictures: list[Picture], position: int) -> tuple[int, int, float]:
    """Sums of bytes of files and of z, and the mean of PSNR."""
    each = [measured(bundle, picture, position) for picture in pictures]
    return sum(one[0] for one in each), sum(one[1] for one in each), mean(one[2] for one in each)


def measured(bundle: Bundle, picture: Picture, position: int) -> tuple[int, int, float]:
    """Bytes of the file, of z in it, and PSNR."""
    data = encode_picture(picture, Rate(position=position), bundle, threads=1).data
    stream, z = read_stream(data), 0
    for index, payload in enumerate(stream.tiles):
        if index in stream.exact:
            continue
        cells = stream.header.grid.box(index).cells(16)
        model = bundle.at(position, stream.header.mode).model
        z += _core.TileDecoder(model, payload, cells.rows, cells.columns).bytes_read
    decoded = decode_picture(data, bundle, threads=1).array.astype(float)
    error = np.mean((decoded - picture.array.astype(float)) ** 2)
    return len(data), z, float(10 * np.log10(255**2 / error))


def times(bundles: list[Bundle], picture: Picture, positions: list[int]) -> None:
    """Print milliseconds for all symbols of a picture's first tile, with and without AVX2."""
    print("| position | AVX2 | without context | with | more |")
    print("| --: | --- | --: | --: | --: |")
    for position in positions:
        jobs = []
        for bundle in bundles:
            stream = read_stream(encode_picture(picture, Rate(position=position), bundle, threads=1).data)
            cells = stream.header.grid.box(0).cells(16)
            jobs.append((bundle, stream.header.mode, stream.tiles[0], cells.rows, cells.columns))
        for simd in (True, False):
            models = [bundle.at(position, mode, simd=simd).model for bundle, mode, *_ in jobs]
            taken: list[list[float]] = [[], []]
            for _ in range(ROUNDS):
                for which, model in enumerate(models):
                    taken[which].append(milliseconds(model, *jobs[which][2:]))
            without, with_ = map(median, taken)
            kernels = "yes" if simd else "no"
            print(f"| {position} | {kernels} | {without:.1f} | {with_:.1f} | {with_ - without:.1f} |")


def milliseconds(model: _core.Model, payload: bytes, rows: int, columns: int) -> float:
    start = time.thread_time()
    model.decode(payload, rows, columns)
    return 1000 * (time.thread_time() - start)


if __name__ == "__main__":
    main()
