"""Ways to code a picture: learned, exactly, exactly in fewer colours, or each where it costs less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from softstair.exact import Samples, pack_samples
from softstair.pictures import Picture
from softstair.stream import ExactPayload
from softstair.tiles import Box, TileGrid

from .colours import by_colour, in_fewer_colours
from .flatness import CELL, CellMap, Cells
from .ground import without_noise
from .ink import Mask
from .picture_coder import Measured, Payloads, PictureCoder
from .shown import losses_of, shifts_of
from .windows import as_rgb

# What a bit is worth at a quality: squared error, summed over a pixel's samples, that photographs save
# for the next one. Interpolated in its logarithm.
_QUALITIES = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 100.0)
_WORTHS = (9000.0, 4400.0, 1450.0, 250.0, 53.0, 25.0, 17.0)
# Bits that a side of a cell takes where it is exact and its neighbour is not: an edge in the learned part, a
# gap in the image. It moves cells to what those around them are, round by round.
_BORDER, _ROUNDS = 32.0, 3


@dataclass(frozen=True)
class Form:
    """coder: of the learned tiles; None if there are none. images: exact ones by tile, VP8L.

    losses: squared error of the images, over all samples of a cell that can be seen; None if they are of the
    picture itself. shifts: what patches that change as a whole show beyond their squared error.
    """

    coder: PictureCoder | None
    images: Mapping[int, bytes] = field(default_factory=dict)
    losses: CellMap | None = None
    shifts: CellMap | None = None

    @property
    def shifted(self) -> float:
        """What the images show beyond their squared error."""
        return 0.0 if self.shifts is None else float(self.shifts.sum())

    @property
    def lost(self) -> float:
        """Squared error of the images, over all samples that can be seen."""
        return 0.0 if self.losses is None else float(self.losses.sum())

    @property
    def exact(self) -> frozenset[int]:
        """Tiles whose payload is an exact one."""
        return frozenset(self.images)

    def code(self, position: int, rate_weight: float | None = None) -> Payloads:
        """Payloads of all tiles, learned parts at a rate position; bits and bytes are of learned parts."""
        if self.coder is None:
            tiles = tuple(ExactPayload(b"", self.images[index]).pack() for index in sorted(self.images))
            return Payloads(tiles, 0.0, 0)
        learned = self.coder.code(position, rate_weight)
        tiles = tuple(
            ExactPayload(tile, self.images[index]).pack() if index in self.images else tile
            for index, tile in enumerate(learned.tiles)
        )
        return replace(learned, tiles=tiles)

    def error(self, position: int) -> float:
        """Squared error at a rate position, over all samples that can be seen."""
        return self.lost + (0.0 if self.coder is None else self.coder.error(position))


def worth_of_a_bit(quality: float) -> float:
    """Squared error that a bit should save at a quality of 0 to 100."""
    return float(np.exp(np.interp(quality, _QUALITIES, np.log(_WORTHS))))


def divide(unlike: CellMap, exactly: Form, learned: Measured, worth: float) -> tuple[Cells, float]:
    """Cells that cost less exactly than learned, and about what the picture then costs, in bits.

    Bits of the exact images are thought to be those of pixels unlike their neighbours, of which a cell has
    so many. Borders between cells are not in the cost.

    exactly, learned: the whole picture. worth: squared error that a bit should save.
    """
    bits = unlike * (8.0 * sum(map(len, exactly.images.values())) / max(float(unlike.sum()), 1.0))
    exact = bits
    for error in (exactly.losses, exactly.shifts):
        exact = exact if error is None else exact + error / worth
    other = learned.bits + learned.errors / worth
    cells: Cells = exact <= other
    for _ in range(_ROUNDS):
        exact_sides = _sides(cells)
        cells = exact + _BORDER * (4 - exact_sides) <= other + _BORDER * exact_sides
    return cells, float(np.minimum(exact, other).sum())


def _sides(cells: Cells) -> CellMap:
    """How many of its four neighbours of each cell are set; beyond the border is what is within it."""
    around = np.pad(cells.astype(np.float64), 1, mode="edge")
    sides: CellMap = around[2:, 1:-1] + around[:-2, 1:-1] + around[1:-1, 2:] + around[1:-1, :-2]
    return sides


def exact_images(picture: Picture, grid: TileGrid, chosen: Mask | None = None) -> dict[int, bytes]:
    """Exact images of all tiles, or of those that have one of the chosen pixels, where these are."""
    return {index: _pack(picture.pixels[box.slices], part) for index, box, part in _exact_parts(grid, chosen)}


def images_in_fewer_colours(
    picture: Picture,
    grid: TileGrid,
    palettes: Sequence[int],
    chosen: Mask | None = None,
    worth: float | None = None,
) -> Iterator[tuple[dict[int, bytes], CellMap, CellMap]]:
    """``exact_images`` with each palette that loses something, but not too much, in some tile.

    With losses and shifts of cells, as ``Form`` has them.

    palettes: colours, at most, of each. worth: squared error that a bit should save, for noise on even ground
    to be left out; None to keep it.
    """
    whole = grid.whole.cells(CELL)
    made: dict[int, tuple[dict[int, bytes], CellMap, CellMap]] = {
        most: ({}, *np.zeros((2, whole.rows, whole.columns))) for most in palettes
    }
    for index, box, part in _exact_parts(grid, chosen):
        pixels = as_rgb(picture.pixels[box.slices])
        seen = part if picture.alpha is None else part & (picture.alpha[box.slices] > 0)
        even = pixels if worth is None else without_noise(pixels, worth)
        coloured = by_colour(even[part])
        for most, (images, losses, shifts) in tuple(made.items()):
            fewer = in_fewer_colours(coloured, most)
            if fewer is None:
                del made[most]
                continue
            reduced = pixels.copy()
            reduced[part] = fewer
            images[index] = _pack(reduced, part)
            change = np.where(seen[..., None], reduced.astype(np.float32) - pixels, np.float32(0))
            losses[box.cells(CELL).slices] = losses_of(change)
            shifts[box.cells(CELL).slices] = shifts_of(change)
    yield from (one for one in made.values() if one[1].any())


def wholly_exact(grid: TileGrid, chosen: Mask, radius: int) -> frozenset[int]:
    """Tiles that no learned pixel needs. radius: of the receptive field of the synthesis, in cells."""
    seen = ((index, grid.box(index).grown(radius * CELL, grid.whole)) for index in range(grid.count))
    return frozenset(index for index, box in seen if chosen[box.slices].all())


def _exact_parts(grid: TileGrid, chosen: Mask | None) -> Iterator[tuple[int, Box, Mask]]:
    """Tiles with something exact: number, box, and which of its pixels; all if none are chosen."""
    for index in range(grid.count):
        box = grid.box(index)
        part = np.ones((box.rows, box.columns), np.bool_) if chosen is None else chosen[box.slices]
        if part.any():
            yield index, box, part


def _pack(pixels: Samples, chosen: npt.NDArray[np.bool_]) -> bytes:
    """Pixels of a tile, exactly; with an alpha that is 0 where they are learned, if any is."""
    if chosen.all():
        return pack_samples(pixels)
    alpha = np.where(chosen, np.uint8(255), np.uint8(0))
    return pack_samples(np.dstack([np.where(chosen[..., None], as_rgb(pixels), np.uint8(0)), alpha]))
