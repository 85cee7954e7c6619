"""Ways to code a picture: learned, exactly, exactly in fewer colours, or each where it is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from softstair.exact import Samples, pack_samples
from softstair.pictures import Picture
from softstair.stream import ExactPayload
from softstair.tiles import Box, TileGrid

from .colours import Palette, in_fewer_colours
from .flatness import CELL, Cells, spread
from .picture_coder import Payloads, PictureCoder
from .windows import as_rgb

# What a bit is worth at a quality: squared error, summed over a pixel's samples, that photographs save
# for the next one. Interpolated in its logarithm.
_QUALITIES = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 100.0)
_WORTHS = (9000.0, 4400.0, 1450.0, 250.0, 53.0, 25.0, 17.0)


@dataclass(frozen=True)
class Form:
    """coder: of the learned tiles; None if there are none. images: exact ones by tile, VP8L.

    lost: squared error of the images, over all samples that can be seen: 0 if they are of the picture itself.
    """

    coder: PictureCoder | None
    images: Mapping[int, bytes] = field(default_factory=dict)
    lost: float = 0.0

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


def exact_images(picture: Picture, grid: TileGrid, cells: Cells | None = None) -> dict[int, bytes]:
    """Exact images of all tiles, or of those that have one of the chosen cells, where these are."""
    boxes = ((index, grid.box(index)) for index in range(grid.count))
    if cells is None:
        return {index: pack_samples(picture.pixels[box.slices]) for index, box in boxes}
    return {
        index: pack_samples(_samples(picture, box, cells))
        for index, box in boxes
        if cells[box.cells(CELL).slices].any()
    }


def in_palette(
    picture: Picture, grid: TileGrid, palette: Palette, cells: Cells | None = None
) -> tuple[dict[int, bytes], float] | None:
    """``exact_images`` of a picture in fewer colours, and their squared error over what can be seen.

    Returns:
        None if there are no fewer colours to be had.
    """
    if picture.is_grey:
        return None
    pixels, lost = picture.pixels.copy(), 0.0
    for box in map(grid.box, range(grid.count)):
        part = pixels[box.slices]
        chosen = np.ones(part.shape[:2], np.bool_) if cells is None else spread(cells, box)
        if not chosen.any():
            continue
        before = part[chosen]
        after = in_fewer_colours(before, palette)
        part[chosen] = after
        errors = np.square(before.astype(np.int32) - after).sum(axis=1)
        if picture.alpha is not None:
            errors = errors[picture.alpha[box.slices][chosen] > 0]
        lost += float(errors.sum())
    if lost == 0:
        return None
    return exact_images(replace(picture, pixels=pixels), grid, cells), lost


def wholly_exact(grid: TileGrid, cells: Cells, radius: int) -> frozenset[int]:
    """Tiles that no learned pixel needs. radius: of the receptive field of the synthesis, in cells."""
    whole = grid.whole.cells(CELL)
    seen = ((index, grid.box(index).cells(CELL).grown(radius, whole)) for index in range(grid.count))
    return frozenset(index for index, box in seen if cells[box.slices].all())


def _samples(picture: Picture, box: Box, cells: Cells) -> Samples:
    """Pixels of a tile; with an alpha that is 0 where they are learned, if any is."""
    pixels, chosen = picture.pixels[box.slices], spread(cells, box)
    if chosen.all():
        return pixels
    alpha = np.where(chosen, np.uint8(255), np.uint8(0))
    samples: Samples = np.dstack([np.where(chosen[..., None], as_rgb(pixels), np.uint8(0)), alpha])
    return samples
