"""Whether a search that spares smooth places looks better: its rate weight by local activity, judged.

python -m experiments.activity.run BUNDLE --data-root DATA [--exponents 0 0.3 -0.3] -o ROWS.json

The search of mode rdoq, written again in numpy with a rate weight for every place: the mode's, times
2**(exponent * (activity - its mean)). Activity is log2 of 1 + the deviation of luma, in grey levels, in a
cell of 16 pixels and the cells around it. Bits by the tables; bits at equal quality against exponent 0.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from experiments.judging import HELD_OUT, JUDGES, even, gains

from softstair import _core
from softstair.bundle import Bundle, open_bundle
from softstair.codec import networks_of
from softstair.codec.tile import TileCoder
from softstair.learn.data import load_pictures
from softstair.mode import Mode
from softstair.quantize.grids import STRIDE
from softstair.quantize.phases import PHASES, phase_map

POSITIONS = (24, 48, 72, 104)
LUMA = (0.299, 0.587, 0.114)
LEVELS = 64
Plane = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=open_bundle)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--exponents", type=float, nargs="+", default=(0.0, 0.3, -0.3))
    parser.add_argument("--every", type=int, default=2, help="take every so many pictures")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    pictures = [even(one) for one in load_pictures([arguments.data_root / HELD_OUT])[:: arguments.every]]
    search = Search(arguments.bundle)
    curves = {}
    for exponent in arguments.exponents:
        rows = [[measured(search, one, at, exponent) for one in pictures] for at in POSITIONS]
        curves[exponent] = np.mean(rows, 1)
        found = gains(curves[arguments.exponents[0]], curves[exponent])
        print(exponent, " ".join(f"{name} {gain:+.2f} %" for name, gain in zip(JUDGES, found, strict=True)))
        arguments.output.write_text(json.dumps({str(k): np.round(v, 5).tolist() for k, v in curves.items()}))


def measured(search: Search, pixels: npt.NDArray[np.uint8], position: int, exponent: float) -> list[float]:
    bits, decoded = search.code(pixels, position, weights_of(pixels, exponent))
    return [bits / pixels[..., 0].size, *(judge(pixels, decoded) for judge in JUDGES.values())]


def weights_of(pixels: npt.NDArray[np.uint8], exponent: float) -> Plane:
    """What the rate weight of every place is multiplied by, (rows, columns)."""
    luma = pixels @ np.array(LUMA)
    rows, columns = (side // STRIDE for side in luma.shape)
    cells = luma.reshape(rows, STRIDE, columns, STRIDE)
    mean, square = around(cells.mean((1, 3))), around((cells**2).mean((1, 3)))
    activity = np.log2(1 + np.sqrt(np.maximum(square - mean**2, 0)))
    result: Plane = 2 ** (exponent * (activity - activity.mean()))
    return result


def around(cells: Plane) -> Plane:
    """Means of three by three."""
    padded = np.pad(cells, 1, mode="edge")
    rows, columns = cells.shape
    return np.mean([padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], 0)


class Search:
    """Mode rdoq of a bundle, with a rate weight for every place."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._coder = TileCoder(bundle, networks_of(bundle, 1, Mode.RDOQ), Mode.RDOQ)
        tables = bundle.integers.codings[Mode.RDOQ].tables
        self._bits = np.zeros((tables.rows, LEVELS))
        for row in range(tables.rows):
            p = tables.probabilities(row)
            largest = len(p) // 2 - 1
            known = min(largest + 1, LEVELS)
            self._bits[row, :known] = -np.log2((p[largest : largest + known] + p[largest::-1][:known]) / 2)
            self._bits[row, known:] = -np.log2(p[-1]) + 8

    def code(
        self, pixels: npt.NDArray[np.uint8], position: int, weights: Plane
    ) -> tuple[float, npt.NDArray[np.uint8]]:
        """Bits by the tables, and decoded pixels."""
        coder, setting = self._coder, self._bundle.at(position, Mode.RDOQ)
        begun = coder.begin(coder.analyse(pixels), position)
        y, decoded = np.ascontiguousarray(begun.analysed.latents[0]), np.zeros_like(begun.analysed.latents)
        tile = _core.TileEncoder(setting.model, begun.z, *y.shape[1:])
        phases = phase_map(*y.shape)
        for phase in range(PHASES):
            rows = tile.begin_phase()
            mean = begun.means.of_phase(decoded, phase)
            residual = ((y - mean) * setting.inverse_step[:, None, None]).transpose(1, 2, 0)
            mine = (phases == phase).transpose(1, 2, 0)
            mine_residual = residual[mine].reshape(rows.shape)
            levels = self._decide(mine_residual, rows, setting.rate_weight * weights[..., None])
            symbols = np.zeros(residual.shape, np.int16)
            symbols[mine] = levels.ravel()
            tile.put(symbols)
            _core.reconstruct_phase(
                phase, tile.symbols, setting.mode.states, setting.grid, mean, setting.step, decoded[0]
            )
        shown = coder.synthesise(decoded, begun.analysed.geometry, position)
        return float(sum(tile.cross_entropy())), shown

    def _decide(self, residual: Plane, rows: npt.NDArray[np.int16], weight: Plane) -> npt.NDArray[np.int16]:
        nearest = np.rint(residual)
        best, least = nearest, self._cost(residual, nearest, rows, weight)
        for level in (nearest - np.sign(nearest), np.zeros_like(nearest)):
            cost = self._cost(residual, level, rows, weight)
            best = np.where(cost < least, level, best)
            least = np.minimum(cost, least)
        return np.where(rows >= 0, best, 0).astype(np.int16)

    def _cost(self, residual: Plane, level: Plane, rows: npt.NDArray[np.int16], weight: Plane) -> Plane:
        size = np.minimum(np.abs(level), LEVELS - 1).astype(int)
        result: Plane = (residual - level) ** 2 + weight * self._bits[np.maximum(rows, 0), size]
        return result


if __name__ == "__main__":
    main()
