"""Tiles of a stream, decoded when they are needed: latents, and what lies exactly over their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from softstair.engine import Planes
from softstair.engine.checked import CheckedNetworks
from softstair.errors import CorruptStream, StreamError, TruncatedStream
from softstair.exact import Samples, unpack_samples
from softstair.stream import NO_BUNDLE, ExactPayload, StreamReader, read_exact_payload
from softstair.tiles import Box

from .geometry import Geometry, borders_of
from .icon import icon
from .prefix import CutTiles
from .tile import TileCoder
from .windows import GREY, Pixels
from .workers import Workers

Result = TypeVar("Result")
_LEAST_READ = 1 / 64  # of the tiles; where less was read, there is no picture to be completed


class TileSource:
    """Decodes tiles of a stream; where it may, it makes up for those that it cannot.

    missing: tiles of which nothing can be shown. damaged: those of them that were there. cut: tiles of
    which a beginning can. needed: how many were checked.
    """

    def __init__(self, reader: StreamReader, *, partial_allowed: bool) -> None:
        self._reader, self._partial = reader, partial_allowed
        self.missing: set[int] = set()
        self.damaged: set[int] = set()
        self.cut = CutTiles(reader)
        self.needed = 0

    def check(self, box: Box, coder: TileCoder | None = None) -> None:
        """Check all tiles that a box of pixels needs, before time is spent on any of them.

        coder: of learned tiles, for the one that the data ends in; None if there are no learned ones.

        Raises:
            StreamError: one is truncated or corrupt; where gaps are allowed, all but a little is.
        """
        last: StreamError | None = None
        read, whole = 0.0, 0
        for index in self._reader.grid.meeting(box):
            self.needed += 1
            try:
                self._learned(index)
                read, whole = read + 1, whole + 1
            except StreamError as error:
                if not self._partial:
                    raise
                last = error
                if coder is not None and self.cut.read(index, coder):
                    read += self.cut.share(index)
                else:
                    self._miss(index, error)
        # Where every tile that is there is damaged it is the index that is, and a beginning means nothing.
        if last is not None and (read < self.needed * _LEAST_READ or (self.damaged and not whole)):
            raise last

    def latents(self, workers: Workers, indices: Sequence[int]) -> Iterator[Planes]:
        """y^ of tiles, (1, C, rows, columns); zero where it is missing or no pixel needs it."""
        return workers.map(self._latents, indices)

    def icons(self, workers: Workers, networks: CheckedNetworks, indices: Sequence[int]) -> Iterator[Planes]:
        """What ``icon`` makes of learned tiles that were checked."""

        def made(coder: TileCoder, index: int) -> Planes:
            header, box = self._reader.header, self._reader.grid.box(index)
            borders = borders_of(box, self._reader.grid.whole)
            geometry = Geometry(box.columns, box.rows)
            return icon(coder, networks, self._learned(index), geometry, header.position, index, borders)

        return workers.map(made, indices)

    def image(self, index: int) -> Samples | None:
        """What of a tile is exact, (rows, columns, 4); alpha is 0 where it is not, else 255."""
        if index not in self._reader.exact:
            return None
        return self._or_missing(index, lambda: self._image(index))

    def hides(self, box: Box) -> bool:
        """True if no pixel of a box is learned."""
        return all(map(self._wholly_exact, self._reader.grid.meeting(box)))

    def is_blank(self, box: Box, seen: Box) -> bool:
        """True if no pixel of a box is learned, or nothing was read of what it sees."""
        known = map(self._known, self._reader.grid.meeting(seen))
        return self.hides(box) or not any(part is not None and part.meets(seen) for part in known)

    def paint_unread(self, box: Box, pixels: Pixels) -> None:
        """Make grey what was not read of the pixels of a box, (rows, columns) or (rows, columns, 3)."""
        if not self.missing and not self.cut.indices:
            return
        for index in self._reader.grid.meeting(box):
            tile, known = self._reader.grid.box(index), self._known(index)
            unread = tile if known is None else replace(tile, top=known.bottom)
            if unread.meets(box):
                pixels[unread.within(box).seen_from(box).slices] = GREY

    def _known(self, index: int) -> Box | None:
        if index in self.missing:
            return None
        return self.cut.known(index) if index in self.cut.indices else self._reader.grid.box(index)

    def _miss(self, index: int, error: StreamError) -> None:
        self.missing.add(index)
        if not isinstance(error, TruncatedStream):
            self.damaged.add(index)

    def _wholly_exact(self, index: int) -> bool:
        return index in self._reader.exact and self._or_missing(index, lambda: self._learned(index)) == b""

    def _latents(self, coder: TileCoder, index: int) -> Planes:
        header, box = self._reader.header, self._reader.grid.box(index)
        geometry = Geometry(box.columns, box.rows)

        def decoded() -> Planes | None:
            if index in self.cut.indices:
                return self.cut.latents(index, coder)
            if not (payload := self._learned(index)) and index in self._reader.exact:
                return None
            borders = borders_of(box, self._reader.grid.whole)
            return coder.decode(payload, geometry, header.position, index, borders)

        planes = self._or_missing(index, decoded)
        if planes is None:
            return np.zeros((1, coder.channels, geometry.rows, geometry.columns), np.float32)
        return planes

    def _image(self, index: int) -> Samples:
        payload, box = self._exact(index), self._reader.grid.box(index)
        samples = unpack_samples(payload.image, box.rows, box.columns, f"exact image of tile {index}")
        alpha = samples[..., 3]
        if not np.isin(alpha, (0, 255)).all():
            raise CorruptStream(f"The exact image of tile {index} has half-transparent pixels.")
        if not payload.learned and not alpha.all():
            raise CorruptStream(
                f"The exact image of tile {index} has gaps, and nothing learned to fill them."
            )
        return samples

    def _learned(self, index: int) -> bytes:
        """The learned payload of a tile, empty if it is wholly exact."""
        if index not in self._reader.exact:
            payload = self._reader.tile(index)
        elif not (payload := self._exact(index).learned):
            return b""
        if self._reader.header.fingerprint == NO_BUNDLE:
            raise CorruptStream(f"Tile {index} is learned, but the stream names no bundle.")
        return payload

    def _exact(self, index: int) -> ExactPayload:
        return read_exact_payload(self._reader.tile(index), index)

    def _or_missing(self, index: int, work: Callable[[], Result | None]) -> Result | None:
        """What ``work`` gives; None for a tile that is missing, or found to be and may."""
        if index not in self.missing:
            try:
                return work()
            except StreamError as error:
                if not self._partial:
                    raise
                self._miss(index, error)
        return None


class ExactCover:
    """The exact pixels of a picture, window by window from the top; what lies above is let go."""

    def __init__(self, reader: StreamReader, source: TileSource) -> None:
        self._reader, self._source = reader, source
        self._images: dict[int, Samples | None] = {}

    def put_over(self, box: Box, pixels: Pixels) -> None:
        """Write what is exact into the pixels of a box, (rows, columns, 3), or (rows, columns) for grey."""
        grid = self._reader.grid
        for index in [index for index in self._images if grid.box(index).bottom <= box.top]:
            del self._images[index]
        for index in self._reader.exact.intersection(grid.meeting(box)):
            if index not in self._images:
                self._images[index] = self._source.image(index)
            image = self._images[index]
            if image is None:
                continue
            tile = grid.box(index)
            common = tile.within(box)
            samples = image[common.seen_from(tile).slices]
            target = pixels[common.seen_from(box).slices]
            shown = samples[..., 3] != 0
            target[shown] = samples[shown][:, 1] if pixels.ndim == 2 else samples[shown][:, :3]
