"""A synthesis in layers, each on blocks of its plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt

from softstair import _core
from softstair.tiles import Box

from . import Planes
from .synthesis_graph import Layer, Part

# Cells of the largest block: what a layer makes of it stays in the last cache, and margins cost little.
_MOST_CELLS = 2300
_MARGINS = 4  # cells that a layer sees beyond a block, both sides together, about
_LEAST_ROWS, _LEAST_COLUMNS = 16, 24  # of a block that is worth threads of its own
Run = Callable[[Part, Planes], Planes]


@dataclass(frozen=True)
class _Plane:
    """What a layer made of some cells, (rows, columns, C), so many places on a side of a cell."""

    values: npt.NDArray[np.float32]
    cells: Box
    scale: int

    def within(self, cells: Box) -> Planes:
        """(1, rows, columns, C) of a box."""
        return np.ascontiguousarray(self.values[cells.seen_from(self.cells).times(self.scale).slices])[None]


@dataclass(frozen=True)
class _Latents:
    """Where it all begins; hat: hat weights."""

    values: Planes
    hat: Planes

    @property
    def cells(self) -> Box:
        return Box(0, 0, *self.values.shape[2:])

    def within(self, cells: Box, part: Part) -> Planes:
        """The input of a part that sees latents."""
        chosen = [self.values[:, channels, *cells.slices] for channels in part.latents]
        ends = np.cumsum([0, *(one.shape[1] for one in chosen)])
        given = np.empty((1, ends[-1] + part.rate_planes, cells.rows, cells.columns), np.float32)
        for one, (first, end) in zip(chosen, pairwise(ends), strict=True):
            given[:, first:end] = one
        if part.points:
            given[:, ends[-1] : ends[-1] + part.points] = self.hat[..., None, None]
            given[:, ends[-1] + part.points :] = 0
        return given


def blocks_at_once(shown: Box, threads: int) -> int:
    """On how many blocks of some cells so many threads should work side by side."""
    return max(1, min(threads, (shown.rows // _LEAST_ROWS) * (shown.columns // _LEAST_COLUMNS)))


def synthesise(
    layers: Sequence[Layer], run: Run, latents: Planes, hat: Planes, shown: Box, at_once: int
) -> Planes:
    """Pixels of some cells of latents, (1, 3, 16 rows, 16 columns), about [0, 1].

    run: a part on its input, called by so many threads at once. shown: cells.
    """
    begin = _Latents(latents, hat)
    beneath: _Plane | None = None
    with ExitStack() as stack:
        each = map if at_once == 1 else stack.enter_context(ThreadPoolExecutor(at_once)).map
        for layer, region in zip(layers, _regions(layers, shown, begin.cells), strict=True):
            sides = region.rows * layer.scale, region.columns * layer.scale
            made = _Plane(np.empty((*sides, layer.channels), np.float32), region, layer.scale)
            for _ in each(partial(_make, layer, run, begin, beneath, made), _blocks(region, at_once)):
                pass
            beneath = made
    assert beneath is not None
    return beneath.values.transpose(2, 0, 1)[None]


def _make(
    layer: Layer, run: Run, latents: _Latents, beneath: _Plane | None, made: _Plane, block: Box
) -> None:
    """Cells of a plane."""
    target = block.seen_from(made.cells).times(made.scale)
    for index, part in enumerate(layer.parts):
        if part.latents or beneath is None:
            seen = block.grown(part.reach, latents.cells)
            given = latents.within(seen, part)
        else:
            seen = block.grown(part.reach, beneath.cells)
            given = beneath.within(seen)
        core = block.seen_from(seen).times(layer.scale // part.factor)
        patches = run(part, given)[0]
        _core.spread(
            patches,
            core.top,
            core.left,
            core.rows,
            core.columns,
            part.factor,
            index > 0,
            made.values,
            target.top,
            target.left,
        )


def _regions(layers: Sequence[Layer], shown: Box, whole: Box) -> list[Box]:
    """The cells that each layer must make."""
    regions = [shown]
    for layer in layers[:0:-1]:
        regions.insert(0, regions[0].grown(layer.reach, whole))
    return regions


def _blocks(region: Box, at_once: int) -> list[Box]:
    """A region in equal blocks with little margin, as many for each of those that work side by side."""
    needed = max(at_once, -(-region.rows * region.columns // _MOST_CELLS))
    counts = range(1, needed + at_once)
    rows, columns = min(
        (pair for pair in product(counts, counts) if pair[0] * pair[1] >= needed),
        key=lambda pair: (
            pair[0] * pair[1] % at_once > 0,
            (region.rows + _MARGINS * pair[0]) * (region.columns + _MARGINS * pair[1]),
            pair[1],  # rows of a plane lie together
        ),
    )
    cuts = _cuts(region.top, region.bottom, rows), _cuts(region.left, region.right, columns)
    return [Box(top, left, bottom, right) for (top, bottom), (left, right) in product(*map(pairwise, cuts))]


def _cuts(first: int, end: int, parts: int) -> list[int]:
    return [first + part * (end - first) // parts for part in range(parts + 1)]
