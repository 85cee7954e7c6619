"""Milliseconds of the integer half of the codec, on one thread, as a Markdown table.

    python benchmarks/coder.py PICTURE... [--position 80] [--runs 41] [--portable]

Times are medians and include handing arrays to Python. The symbols are those of the picture at
the rate position, coded with the shipped bundle, in every mode.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from softstair import _core, open_bundle
from softstair.codec import networks_of
from softstair.codec.tile import Symbols, TileCoder
from softstair.evaluate.data import read_rgb
from softstair.mode import Mode
from softstair.quantize.phases import PHASES, phase_map
from softstair.quantize.staircase import UNIFORM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--position", type=int, default=80)
    parser.add_argument("--runs", type=int, default=41)
    parser.add_argument("--portable", action="store_true", help="without vector kernels")
    arguments = parser.parse_args()
    for path in arguments.pictures:
        pixels = read_rgb(path)
        print(f"\n{path.name}, {pixels.shape[1]} x {pixels.shape[0]}, rate position {arguments.position}\n")
        print("| mode | latents coded | bytes | over the tables | scale network | choosing levels |", end=" ")
        print("search alone | ns a latent | writing | reading y alone | reading all symbols |")
        print("| --- |" + " --: |" * 10)
        for mode in open_bundle().modes:
            print(
                row(pixels, mode, arguments.position, arguments.runs, simd=not arguments.portable), flush=True
            )


def row(pixels: npt.NDArray[np.uint8], mode: Mode, position: int, runs: int, *, simd: bool) -> str:
    bundle = open_bundle()
    coder = TileCoder(bundle, networks_of(bundle, 1, mode), mode)
    analysed = coder.analyse(pixels)
    coded = coder.code(analysed, position)
    payload = coded.payload
    size = analysed.geometry.rows, analysed.geometry.columns
    symbols = coder.read_symbols(payload, analysed.geometry, position)
    setting = bundle.at(position, mode, simd=simd)
    model = setting.model
    case = Case(model, symbols, size)
    y, gain = np.ascontiguousarray(analysed.latents[0]), setting.inverse_step
    values = symbols.y.transpose(2, 0, 1) * np.float32(0.5 if mode.is_trellis else 1)
    mean = np.ascontiguousarray(coded.latents[0] - values / gain[:, None, None])
    tile = case.begin()
    for _ in range(PHASES):
        tile.begin_phase()
        tile.put(symbols.y)
    rows, levels = tile.coded
    lanes = 4 if size[0] * size[1] >= 256 else 1
    tables = bundle.integers.codings[mode].tables.core
    y_stream = tables.encode(rows, levels, lanes)
    if not np.array_equal(tables.decode(y_stream, rows, lanes), levels):
        raise SystemExit("The symbols of y do not survive coding.")

    scale, phases = case.median_of_phases(runs, None), median(lambda: model.log_scale(symbols.z, *size), runs)
    arguments = y, mean, gain, setting.rate_weight
    choosing = case.median_of_phases(runs, arguments)
    residuals = case.residuals((y - mean) * gain[:, None, None])
    settings = setting.rate_weight, UNIFORM, lanes, simd
    search = median(lambda: [_core.search(mode.states, tables, *one, *settings) for one in residuals], runs)
    write = median(tile.finish, runs)
    read_y = median(lambda: tables.decode(y_stream, rows, lanes), runs)
    read = median(lambda: model.decode(payload, *size), runs)
    over = 100 * (len(payload) / (sum(tile.cross_entropy()) / 8) - 1)
    return (
        f"| {mode} | {len(rows)} of {y.size} | {len(payload)} | {over:+.3f} % | {scale + phases:.2f} | "
        f"{choosing:.2f} | {search:.2f} | {1e6 * search / len(rows):.1f} | {write:.2f} | {read_y:.2f} | "
        f"{read:.2f} |"
    )


@dataclass(frozen=True)
class Case:
    """What is timed: the symbols of one tile, and what reads them."""

    model: _core.Model
    symbols: Symbols
    size: tuple[int, int]

    def begin(self) -> _core.TileEncoder:
        return _core.TileEncoder(self.model, self.symbols.z, *self.size)

    def residuals(self, residual: npt.NDArray[np.float32]) -> list[tuple[npt.NDArray[Any], ...]]:
        """Of every phase, residuals and rows of what is coded, in coding order; residual (C, h, w)."""
        tile, phases = self.begin(), []
        by_position, order = residual.transpose(1, 2, 0), phase_map(*residual.shape).transpose(1, 2, 0)
        for phase in range(PHASES):
            rows = tile.begin_phase()
            is_coded = rows >= 0
            phases.append((by_position[order == phase].reshape(rows.shape)[is_coded], rows[is_coded]))
            tile.put(self.symbols.y)
        return phases

    def median_of_phases(self, runs: int, arguments: tuple[Any, ...] | None) -> float:
        """Milliseconds that the four phases take together: of choosing levels, or of the rows."""
        totals = []
        decoded = np.zeros(self.symbols.y.shape[2:] + self.size, np.float32)
        for _ in range(runs + 1):
            tile, total = self.begin(), 0.0
            for _ in range(PHASES):
                begun = seconds(tile.begin_phase)
                if arguments is None:
                    total += begun
                    tile.put(self.symbols.y)
                else:
                    total += seconds(lambda tile=tile: tile.quantize(*arguments, UNIFORM, decoded))
            totals.append(total)
        return statistics.median(totals[1:]) * 1e3


def median(action: Callable[[], object], runs: int) -> float:
    """Milliseconds of an action, after one run to warm up."""
    return statistics.median([seconds(action) for _ in range(runs + 1)][1:]) * 1e3


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
