"""Milliseconds of the integer half of the codec, on one thread, as a Markdown table.

    python benchmarks/coder.py PICTURE [--position 80] [--runs 41] [--portable]

Times are medians and include handing arrays to Python. The symbols are those of the picture at
the rate position, coded with the shipped bundle.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from softstair import _core, open_bundle
from softstair.codec import networks_of
from softstair.codec.tile import Symbols, TileCoder
from softstair.quantize.phases import PHASES, phase_channels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--position", type=int, default=80)
    parser.add_argument("--runs", type=int, default=41)
    parser.add_argument("--portable", action="store_true", help="without vector kernels")
    arguments = parser.parse_args()
    bundle = open_bundle()
    with Image.open(arguments.picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    coder = TileCoder(bundle, networks_of(bundle, 1))
    analysed = coder.analyse(pixels)
    payload = coder.code(analysed, arguments.position).payload
    symbols = coder.read_symbols(payload, analysed.geometry, arguments.position)
    model = bundle.model(arguments.position, simd=not arguments.portable)
    print_table(Case(model, bundle._tables.y.core, symbols, payload), arguments.runs)


@dataclass(frozen=True)
class Case:
    """What is timed: the symbols of one tile and the stream that holds them."""

    model: _core.Model
    y_tables: _core.Tables
    symbols: Symbols
    payload: bytes

    @property
    def size(self) -> tuple[int, int]:
        return self.symbols.y.shape[0], self.symbols.y.shape[1]

    def begin(self) -> _core.TileEncoder:
        return _core.TileEncoder(self.model, self.symbols.z, *self.size)

    def put_all(self) -> _core.TileEncoder:
        tile = self.begin()
        for _ in range(PHASES):
            tile.begin_phase()
            tile.put(self.symbols.y)
        return tile

    def coded_y(self) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
        """Rows and symbols of all coded latents of y, in coding order."""
        tile, y = self.begin(), self.symbols.y
        rows, values = [], []
        for phase in range(PHASES):
            row = np.asarray(tile.begin_phase())
            value = np.take_along_axis(y, phase_channels(y.shape[2], *self.size, phase), axis=2)
            tile.put(y)
            rows.append(row[row >= 0])
            values.append(value[row >= 0])
        return np.concatenate(rows), np.concatenate(values)


def print_table(case: Case, runs: int) -> None:
    tile = case.put_all()
    rows, values = case.coded_y()
    lanes = 4 if case.size[0] * case.size[1] >= 256 else 1
    y_stream = case.y_tables.encode(rows, values, lanes)
    if not np.array_equal(case.y_tables.decode(y_stream, rows, lanes), values):
        raise SystemExit("The symbols of y do not survive coding.")

    print(f"{case.size[1]} x {case.size[0]} positions, {tile.coded} of {case.symbols.y.size} latents coded\n")
    print("| step | ms | ns a coded latent |")
    print("| --- | --- | --- |")

    def line(name: str, milliseconds: float, *, per_latent: bool = False) -> None:
        each = f"{1e6 * milliseconds / tile.coded:.2f}" if per_latent and tile.coded else ""
        print(f"| {name} | {milliseconds:.2f} | {each} |", flush=True)

    line("scale network, part 1", median(lambda: case.model.log_scale(case.symbols.z, *case.size), runs))
    line("scale network, four phases", median_of_phases(case, runs))
    decode_y = median(lambda: case.y_tables.decode(y_stream, rows, lanes), runs)
    line("symbols of y, decode alone", decode_y, per_latent=True)
    encode_y = median(lambda: case.y_tables.encode(rows, values, lanes), runs)
    line("symbols of y, encode alone", encode_y, per_latent=True)
    line("symbols of z and y, encode (finish)", median(tile.finish, runs), per_latent=True)
    line("whole decode to symbols", median(lambda: case.model.decode(case.payload, *case.size), runs))

    charged = sum(tile.cross_entropy()) / 8
    over = len(case.payload) - charged
    print(f"\n{len(case.payload)} bytes, {charged:.1f} by the tables alone:", end=" ")
    print(f"{over:+.1f} ({100 * over / charged:+.3f} %)")


def median(action: Callable[[], object], runs: int) -> float:
    """Milliseconds of an action, after one run to warm up."""
    return statistics.median([seconds(action) for _ in range(runs + 1)][1:]) * 1e3


def median_of_phases(case: Case, runs: int) -> float:
    """Milliseconds that the four calls of begin_phase take together."""
    totals = []
    for _ in range(runs + 1):
        tile, total = case.begin(), 0.0
        for _ in range(PHASES):
            total += seconds(tile.begin_phase)
            tile.put(case.symbols.y)
        totals.append(total)
    return statistics.median(totals[1:]) * 1e3


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
