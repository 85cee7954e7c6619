"""How a picture is cut into tiles, and the boxes that this takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

UNIT = 256  # pixels; sides of tiles are multiples of it
ONE_TILE = 0  # the layout of a picture that is not cut
MAX_LAYOUT = 256  # a side of 65536 pixels, which is that of the largest picture


@dataclass(frozen=True)
class Box:
    """Rows top to bottom and columns left to right of a plane, both ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> int:
        return self.bottom - self.top

    @property
    def columns(self) -> int:
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns to index an array with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def meets(self, other: Box) -> bool:
        """True if the two have a place in common."""
        return (
            self.top < other.bottom
            and other.top < self.bottom
            and self.left < other.right
            and other.left < self.right
        )

    def inside(self, other: Box) -> bool:
        """True if the other covers this one."""
        return self.meets(other) and self.within(other) == self

    def within(self, other: Box) -> Box:
        """What the two have in common; they must meet."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def grown(self, margin: int, within: Box) -> Box:
        """With a margin on every side, as far as there is something."""
        wider = Box(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)
        return wider.within(within)

    def seen_from(self, other: Box) -> Box:
        """The same place counted from the top left of another box."""
        return Box(
            self.top - other.top, self.left - other.left, self.bottom - other.top, self.right - other.left
        )

    def times(self, factor: int) -> Box:
        """On a plane of ``factor`` times the resolution."""
        return Box(self.top * factor, self.left * factor, self.bottom * factor, self.right * factor)

    def cells(self, side: int) -> Box:
        """The smallest box of square cells that covers this one."""
        return Box(self.top // side, self.left // side, -(-self.bottom // side), -(-self.right // side))


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a picture of height x width pixels, in raster order.

    layout: largest side of a tile in units of 256 pixels; 0 is one tile. A side of the picture is
    cut into as few parts as that allows, of equal length but for a unit.
    """

    height: int
    width: int
    layout: int = ONE_TILE

    @cached_property
    def _row_cuts(self) -> tuple[int, ...]:
        return self._cuts(self.height)

    @cached_property
    def _column_cuts(self) -> tuple[int, ...]:
        return self._cuts(self.width)

    @property
    def rows(self) -> int:
        return len(self._row_cuts) - 1

    @property
    def columns(self) -> int:
        return len(self._column_cuts) - 1

    @property
    def count(self) -> int:
        return self.rows * self.columns

    @property
    def whole(self) -> Box:
        return Box(0, 0, self.height, self.width)

    @property
    def largest(self) -> Box:
        """As high as the highest tile and as wide as the widest one."""
        rows = max(end - start for start, end in pairwise(self._row_cuts))
        columns = max(end - start for start, end in pairwise(self._column_cuts))
        return Box(0, 0, rows, columns)

    def box(self, index: int) -> Box:
        """Where a tile lies, in pixels."""
        row, column = divmod(index, self.columns)
        return Box(
            self._row_cuts[row],
            self._column_cuts[column],
            self._row_cuts[row + 1],
            self._column_cuts[column + 1],
        )

    def meeting(self, box: Box) -> Iterator[int]:
        """Tiles that a box of pixels meets."""
        rows = [r for r in range(self.rows) if _overlap(self._row_cuts, r, box.top, box.bottom)]
        columns = [c for c in range(self.columns) if _overlap(self._column_cuts, c, box.left, box.right)]
        return (row * self.columns + column for row in rows for column in columns)

    def _cuts(self, length: int) -> tuple[int, ...]:
        units = -(-length // UNIT)
        parts = 1 if self.layout == ONE_TILE else -(-units // self.layout)
        return (*(UNIT * (part * units // parts) for part in range(parts)), length)


def _overlap(cuts: tuple[int, ...], part: int, first: int, end: int) -> bool:
    return cuts[part] < end and first < cuts[part + 1]
