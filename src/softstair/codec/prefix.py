"""Tiles that a file ends in: shown as far as their bytes reach, and grey beyond.

Nothing but z is needed to show a place: missing symbols of y are taken for zero, which leaves their
means. Where z was not read, no network runs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from softstair import _core
from softstair.engine import Planes
from softstair.errors import CorruptStream
from softstair.stream import StreamReader
from softstair.tiles import Box

from .geometry import STRIDE, Geometry, borders_of
from .tile import Symbols, TileCoder


def first_part(model: _core.Model, payload: bytes, rows: int, columns: int) -> int:
    """How many bytes of a payload hold z and the first phase. rows, columns: of y."""
    tile = _core.TileDecoder(model, payload, rows, columns)
    tile.read_phase()
    return tile.bytes_read


class CutTiles:
    """Beginnings of tiles of a stream. Their bytes are covered by no checksum."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._symbols: dict[int, Symbols] = {}

    @property
    def indices(self) -> frozenset[int]:
        """Tiles of which something was read."""
        return frozenset(self._symbols)

    def read(self, index: int, coder: TileCoder) -> bool:
        """Read what is there of a tile; False if that is nothing, or nothing that an encoder wrote."""
        position = self._reader.header.position
        try:
            if index in self._reader.exact or not (payload := self._reader.beginning(index)):
                return False
            symbols = coder.read_beginning(payload, self._geometry(index), position, index)
        except CorruptStream:
            return False
        if len(symbols.y):
            self._symbols[index] = symbols
        return index in self._symbols

    def share(self, index: int) -> float:
        """Of a tile's rows that were read."""
        return len(self._symbols[index].y) / self._geometry(index).rows

    def known(self, index: int) -> Box:
        """The pixels of which something was read."""
        box = self._reader.grid.box(index)
        return Box(box.top, box.left, box.top + STRIDE * len(self._symbols[index].y), box.right).within(box)

    def latents(self, index: int, coder: TileCoder) -> Planes:
        """y^ of a tile, (1, C, rows, columns); zero where nothing was read."""
        symbols, geometry, grid = self._symbols[index], self._geometry(index), self._reader.grid
        borders = borders_of(self.known(index), grid.whole)
        if (rows := len(symbols.y)) < geometry.rows:
            borders = replace(borders, bottom=False)  # there is nothing to be shown a mirror image of
        planes = np.zeros((1, coder.channels, geometry.rows, geometry.columns), np.float32)
        planes[:, :, :rows] = coder.reconstruct(symbols, self._reader.header.position, borders)
        return planes

    def _geometry(self, index: int) -> Geometry:
        box = self._reader.grid.box(index)
        return Geometry(box.columns, box.rows)
