"""Decoded latents of a picture, of which only the tiles in use are held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from softstair.engine import Planes, release_memory
from softstair.quantize.grids import STRIDE
from softstair.tiles import Box, TileGrid


class LatentPlane:
    """y^ of a picture; windows of it may cross tiles.

    A tile is fetched once: ``prepare`` gets all that a row of windows needs, ``drop_above`` lets go
    of those that no later row will need.

    Args:
        grid: the tiles of the picture.
        fetch: y^ of tiles, (1, C, rows, columns) each, in the order asked for.
        thrifty: windows and tiles leave each other no memory that they keep for runs to come.
    """

    def __init__(
        self, grid: TileGrid, fetch: Callable[[Sequence[int]], Iterable[Planes]], *, thrifty: bool = True
    ) -> None:
        self._grid, self._fetch, self._thrifty = grid, fetch, thrifty
        self._tiles: dict[int, Planes] = {}
        self.whole = grid.whole.cells(STRIDE)

    def prepare(self, cells: Box) -> None:
        """Fetch the tiles that a box of latents meets and that are not there yet."""
        thrifty = self._thrifty and self._grid.count > 1
        if thrifty:
            release_memory()
        missing = [index for index in self._grid.meeting(cells.times(STRIDE)) if index not in self._tiles]
        for index, latents in zip(missing, self._fetch(missing), strict=True):
            self._tiles[index] = latents
        if thrifty and missing:
            release_memory()

    def window(self, cells: Box) -> Planes:
        """Latents of a box that was prepared, (1, C, rows, columns); a view if one tile has it."""
        indices = list(self._grid.meeting(cells.times(STRIDE)))
        first = self._tiles[indices[0]]
        if len(indices) == 1:
            return first[:, :, *cells.seen_from(self._cells(indices[0])).slices]
        result = np.empty((1, first.shape[1], cells.rows, cells.columns), np.float32)
        for index in indices:
            tile = self._cells(index)
            common = tile.within(cells)
            source = self._tiles[index][:, :, *common.seen_from(tile).slices]
            result[:, :, *common.seen_from(cells).slices] = source
        return result

    def drop_above(self, row: int) -> None:
        """Let go of tiles that end above a row of latents."""
        for index in [index for index in self._tiles if self._cells(index).bottom <= row]:
            del self._tiles[index]

    def _cells(self, index: int) -> Box:
        return self._grid.box(index).cells(STRIDE)
