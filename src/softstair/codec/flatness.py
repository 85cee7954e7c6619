"""What tells screens, text and drawings from photographs: pixels that equal a neighbour.

Where a picture was drawn, most pixels equal a neighbour, and the rest differ from it by much: cheap
without loss, dear for a transform. Where it was photographed, or shaded, neighbours differ by little.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from softstair import stopping
from softstair.tiles import Box

from .geometry import STRIDE

CELL = STRIDE  # pixels; what is exact is decided for squares of this side
# Of all pixels, those unlike both neighbours: photographs have 0.2 to 0.9, most 0.6; drawings 0.05 to 0.25.
_PHOTOGRAPHED = 0.5
_SAMPLED_ROWS = 16  # one of so many is looked at first
_SMALL_STEP = 12  # grey levels to the nearer neighbour; larger ones are edges of drawings
# A cell is learned if more of its pixels differ a little than this, and this share of those that differ much.
_SHADED, _SHADED_PER_EDGE = 0.15, 1.5
_BUSY = 0.02  # of a cell's pixels: with fewer that differ it is flat, and no matter how it is coded
_STRIPE = 64 * CELL  # rows at a time

# Of cells of a picture, (rows, columns): which are chosen, and a number for each.
Cells = npt.NDArray[np.bool_]
CellMap = npt.NDArray[np.float64]
_Pixels = npt.NDArray[np.uint8]


def look_at_cells(pixels: _Pixels) -> CellMap | None:
    """How many pixels of each cell are unlike their neighbours to the left and above; None for a photograph.

    A photograph has nothing that was drawn: cells that are not flat, and whose pixels seldom differ by a
    little.

    pixels: (H, W, 3) or (H, W).
    """
    if _looks_photographed(pixels):
        return None
    stripes = [
        _count(pixels[max(0, top - 1) : top + _STRIPE], top > 0) for top in range(0, len(pixels), _STRIPE)
    ]
    small, large = (np.concatenate(parts) for parts in zip(*stripes, strict=True))
    sizes = sum_cells(np.ones(pixels.shape[:2], np.float32))
    is_shaded = _without_specks(small > _SHADED * sizes + _SHADED_PER_EDGE * large)
    unlike: CellMap = small + large
    return unlike if (~is_shaded & (unlike > _BUSY * sizes)).any() else None


def spread(cells: Cells, box: Box) -> npt.NDArray[np.bool_]:
    """Pixels of a box whose cell is set; top and left of the box are multiples of 16."""
    part = cells[box.cells(CELL).slices]
    return part.repeat(CELL, axis=0).repeat(CELL, axis=1)[: box.rows, : box.columns]


def _looks_photographed(pixels: _Pixels) -> bool:
    """A look at a few rows, which takes a photograph a hundredth of what coding it takes."""
    if len(pixels) < 2:
        return False
    rows = slice(1, None, min(_SAMPLED_ROWS, len(pixels) - 1))
    here, above = pixels[rows], pixels[: len(pixels) - 1][:: rows.step][: len(pixels[rows])]
    unlike = (here[:, 1:] != here[:, :-1]) & (here[:, 1:] != above[:, 1:])
    if unlike.ndim == 3:
        unlike = unlike.any(axis=2)
    return unlike.size > 0 and float(unlike.mean()) > _PHOTOGRAPHED


def sum_cells(values: npt.NDArray[Any]) -> CellMap:
    """Sums of each cell's values, (H, W); cells at the right and the bottom may be smaller."""
    sums: CellMap = values
    for axis in (0, 1):
        sums = np.add.reduceat(sums, range(0, values.shape[axis], CELL), axis, dtype=np.float64)
    return sums


def _count(pixels: _Pixels, has_above: bool) -> tuple[CellMap, CellMap]:
    """Pixels that differ from both neighbours by a little, and by much, of a stripe with the row above it."""
    stopping.check()
    steps = _steps(pixels)[has_above:]
    return sum_cells((steps > 0) & (steps <= _SMALL_STEP)), sum_cells(steps > _SMALL_STEP)


def _steps(pixels: _Pixels) -> npt.NDArray[np.int16]:
    """Grey levels between a pixel and the one to its left or above, whichever is nearer."""
    levels = pixels.astype(np.int16).reshape(*pixels.shape[:2], -1)
    left, above = np.zeros(pixels.shape[:2], np.int16), np.zeros(pixels.shape[:2], np.int16)
    left[:, 1:] = np.abs(np.diff(levels, axis=1)).max(axis=2)
    above[1:] = np.abs(np.diff(levels, axis=0)).max(axis=2)
    left[:, :1], above[:1] = above[:, :1], left[:1]
    return np.minimum(left, above)


def _without_specks(cells: Cells) -> Cells:
    """Opened, then closed: islands and gaps that are less than three cells wide go."""
    image = Image.fromarray(cells.astype(np.uint8) * 255)
    for name in (ImageFilter.MinFilter, ImageFilter.MaxFilter, ImageFilter.MaxFilter, ImageFilter.MinFilter):
        image = image.filter(name(3))
    result: Cells = np.asarray(image) > 0
    return result
