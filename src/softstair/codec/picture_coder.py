"""The learned tiles of one picture, at as many rate positions as are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from softstair.engine import Planes, release_memory
from softstair.mode import POSITIONS_PER_LAYER
from softstair.pictures import Picture
from softstair.tiles import TileGrid

from .budget import Plan
from .flatness import CellMap, sum_cells
from .geometry import STRIDE, Geometry, borders_of
from .latent_plane import LatentPlane
from .tile import Analysed, CodedTile, TileCoder
from .windows import analyse_box, synthesise_windows
from .workers import Workers

_Outcome = tuple[bytes, float, tuple[int, ...]]  # payload, what tables charge, where layers end
_REMEMBERED = 3  # codings of a picture: a search ends beside what it will return


@dataclass(frozen=True)
class Payloads:
    """Payloads of all tiles at a rate position.

    table_bits: what the tables alone charge for what is learned, which has so many ``learned_bytes``.
    layer_ends: where layers end in each.
    """

    tiles: tuple[bytes, ...]
    table_bits: float
    learned_bytes: int
    layer_ends: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Measured:
    """A picture as it is coded at a rate position.

    errors: squared, over all samples of a cell that can be seen. bits: about what a cell takes.
    """

    errors: CellMap
    bits: CellMap


class PictureCoder:
    """Codes one picture at as many rate positions as are asked for; in layers, of the last one.

    Args:
        smoothing: of pixels, by rate position.
        keep: hold the latents of all tiles, so that they are computed once; else once a position.
        left_out: tiles that get no payload, and latents of zero.
    """

    def __init__(
        self,
        picture: Picture,
        grid: TileGrid,
        workers: Workers,
        plan: Plan,
        smoothing: Callable[[int], int],
        *,
        keep: bool,
        left_out: frozenset[int] = frozenset(),
    ) -> None:
        self._pixels, self._alpha, self._grid, self._workers = picture.pixels, picture.alpha, grid, workers
        self._left_out, self._smoothing = left_out, smoothing
        self._windows = TileGrid(grid.height, grid.width, plan.window)
        self._kept: dict[int, Analysed] | None = {} if keep else None
        # The latest ones, by position and rate weight.
        self._coded: dict[tuple[int, float | None], Payloads] = {}
        self._measured: dict[int, Measured] = {}

    def analyse(self) -> None:
        """Compute the latents that are kept, if they are."""
        if self._kept is not None:
            for index in range(self._grid.count):
                if index not in self._left_out:
                    self._analysed(index)

    def code(self, position: int, rate_weight: float | None = None) -> Payloads:
        """Payloads of all tiles, with the mode's rate weight or another one."""
        key = position, rate_weight
        if key not in self._coded:
            coded = self._code_tiles(range(self._grid.count), position, rate_weight)
            self._remember(key, [(tile.payload, tile.table_bits, tile.layer_ends) for tile in coded])
        return self._coded[key]

    def error(self, position: int) -> float:
        """Squared error, over all samples that can be seen. Codes the picture, too."""
        return float(self.measure(position).errors.sum())

    def measure(self, position: int) -> Measured:
        """Cell by cell what ``error`` is of all. Codes the picture, too."""
        if position not in self._measured:
            self._measured[position] = self._measure(position)
        return self._measured[position]

    def _remember(self, key: tuple[int, float | None], tiles: Iterable[_Outcome]) -> None:
        payloads, table_bits, layer_ends = zip(*tiles, strict=True)
        self._coded[key] = Payloads(payloads, sum(table_bits), sum(map(len, payloads)), layer_ends)
        if len(self._coded) > _REMEMBERED:
            del self._coded[next(iter(self._coded))]

    def _measure(self, position: int) -> Measured:
        coded: dict[int, _Outcome] = {}
        cells = self._grid.whole.cells(STRIDE)
        measured = Measured(*(np.zeros((cells.rows, cells.columns)) for _ in range(2)))

        def decoded(indices: Sequence[int]) -> Iterator[Planes]:
            for index, tile in zip(indices, self._code_tiles(indices, position), strict=True):
                coded[index] = tile.payload, tile.table_bits, tile.layer_ends
                measured.bits[self._grid.box(index).cells(STRIDE).slices] = tile.bits_of_places()
                yield tile.latents

        whole, plane = self._grid.whole, LatentPlane(self._grid, decoded)
        smoothing = self._smoothing(position)
        field = 0 if self._windows.count == 1 else self._workers.synthesis_field(smoothing)
        for box, pixels in synthesise_windows(
            self._workers, plane, position, smoothing, self._windows, whole, field
        ):
            original = self._pixels[box.slices]
            if original.ndim == 2:
                original = original[..., None]
            squares = np.square(pixels.astype(np.float32) - original).sum(axis=2)
            if self._alpha is not None:
                squares[self._alpha[box.slices] == 0] = 0
            measured.errors[box.cells(STRIDE).slices] = sum_cells(squares)
        self._remember((position, None), (coded[index] for index in range(self._grid.count)))
        return measured

    def _code_tiles(
        self, indices: Sequence[int], position: int, rate_weight: float | None = None
    ) -> Iterator[CodedTile]:
        """As many tiles at a time as may be worked on."""

        first = position - POSITIONS_PER_LAYER * (self._workers.whole.layers - 1)

        def work(coder: TileCoder, analysed: Analysed) -> CodedTile:
            return coder.code(analysed, first, rate_weight=rate_weight)

        for start in range(0, len(indices), self._workers.count):
            batch = indices[start : start + self._workers.count]
            analysed = [self._analysed(index) for index in batch if index not in self._left_out]
            coded = self._workers.map(work, analysed)
            yield from (self._nothing(index) if index in self._left_out else next(coded) for index in batch)
            if self._grid.count > 1:
                release_memory()

    def _nothing(self, index: int) -> CodedTile:
        cells = self._grid.box(index).cells(STRIDE)
        shape = (cells.rows, cells.columns, self._workers.whole.channels)
        latents = np.zeros((1, shape[2], *shape[:2]), np.float32)
        return CodedTile(b"", latents, 0.0, np.zeros(shape, np.int16))

    def _analysed(self, index: int) -> Analysed:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        box = self._grid.box(index)
        latents = analyse_box(
            self._workers.whole, self._pixels, box, self._windows, self._workers.analysis_field
        )
        borders = borders_of(box, self._grid.whole)
        analysed = Analysed(Geometry(box.columns, box.rows), latents, borders)
        if self._kept is not None:
            self._kept[index] = analysed
        return analysed
