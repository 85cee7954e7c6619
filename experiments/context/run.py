"""What context networks save and cost: files of a bundle without and of one with them, picture by picture.

    python -m experiments.context.run WITHOUT.stairs WITH.stairs DATA/kodak [--positions 16 40 64 88 120 148]
    python -m experiments.context.run WITHOUT.stairs WITH.stairs --time PICTURE

Bytes are those of files, of files without the context of signs, and of z (what a decoder has read when it
knows z); PSNR is of decoded pictures, since a search by other tables may decide otherwise;
what is saved at equal PSNR follows from the curve of the bundle without. Times are of all symbols of a
picture's first tile, the bundles in turn: medians, in milliseconds of one core, whoever else uses it. Those
of V8, for which Node.js is needed, include the SHA-256 of the symbols and are medians of several processes:
these differ by half a millisecond.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import mean, median

import numpy as np
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from scipy.interpolate import PchipInterpolator

from softstair import _core
from softstair.bundle import CONTEXT, Bundle, open_bundle, write_bundle
from softstair.codec import Rate, decode_picture, encode_picture
from softstair.evaluate import find_data_set
from softstair.pictures import Picture, read_picture
from softstair.stream import read_stream

POSITIONS = (16, 40, 64, 88, 120, 148)
ROUNDS = 15
PROCESSES = 7  # of V8


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
    """Print milliseconds for all symbols of a picture's first tile, with and without AVX2, and in V8."""
    print("| position | kernels | without context | with | more |")
    print("| --: | --- | --: | --: | --: |")
    for position in positions:
        rate = Rate(position=position)
        files = [encode_picture(picture, rate, bundle, threads=1).data for bundle in bundles]
        runs = {
            "AVX2": [natively(bundles, files, position, simd=True)],
            "without AVX2": [natively(bundles, files, position, simd=False)],
            "V8": [in_v8(bundles, files) for _ in range(PROCESSES)],
        }
        for kernels, each in runs.items():
            without, with_ = (median(run[which] for run in each) for which in range(2))
            more = median(run[1] - run[0] for run in each)
            print(f"| {position} | {kernels} | {without:.1f} | {with_:.1f} | {more:.1f} |", flush=True)


def natively(bundles: list[Bundle], files: list[bytes], position: int, *, simd: bool) -> list[float]:
    """Medians of every bundle."""
    jobs = []
    for bundle, data in zip(bundles, files, strict=True):
        stream = read_stream(data)
        cells = stream.header.grid.box(0).cells(16)
        model = bundle.at(position, stream.header.mode, simd=simd).model
        jobs.append((model, stream.tiles[0], cells.rows, cells.columns))
    taken: list[list[float]] = [[] for _ in jobs]
    for _ in range(ROUNDS):
        for which, job in enumerate(jobs):
            taken[which].append(milliseconds(*job))
    return [median(one) for one in taken]


def in_v8(bundles: list[Bundle], files: list[bytes]) -> list[float]:
    """The same, in a process of Node.js."""
    with tempfile.TemporaryDirectory() as folder:
        paths: list[Path] = []
        for which, (bundle, data) in enumerate(zip(bundles, files, strict=True)):
            one = Path(folder) / f"{which}.stairs", Path(folder) / f"{which}.stair"
            write_bundle(one[0], bundle.entries)
            one[1].write_bytes(data)
            paths += one
        script = Path(__file__).parent / "symbols.mjs"
        command: list[str | Path] = ["node", "--single-threaded-gc", script, str(ROUNDS), *paths]
        taken = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [median(one) for one in taken]


def milliseconds(model: _core.Model, payload: bytes, rows: int, columns: int) -> float:
    start = time.thread_time()
    model.decode(payload, rows, columns)
    return 1000 * (time.thread_time() - start)


if __name__ == "__main__":
    main()
