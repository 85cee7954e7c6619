"""What tells typed and written pages from photographs: dark strokes on a ground that nothing outshines.

A scan of a page is no drawing, as its paper has grain and shades; but its letters are, nearly, and cost less
exactly than learned. In photographs there are lights as well as darks wherever there is anything.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from softstair import stopping

from .flatness import CELL

_STEP = 4  # pixels; of a page one in so many, across and down, is looked at first
_GROUND = 0.75  # of the pixels of a cell, and of the cells around it: so many are not lighter than its ground
# Grey levels: by more than these something is lighter than its ground, or ink.
_GRAIN, _DARK = 12, 20
# Shares of all pixels. Lighter than the ground are at most 0.0002 of pages, and 0.004 to 0.03 of photographs.
_LIGHTER, _PAPER, _WRITTEN = 0.002, 0.6, 0.005
_STROKE = 16  # pixels, a power of two: strokes are narrower
_STRIPE = 1024  # rows at a time

Mask = npt.NDArray[np.bool_]
_Grey = npt.NDArray[np.uint8]


def find_ink(pixels: npt.NDArray[np.uint8]) -> Mask | None:
    """Which pixels are ink, (H, W); None if the picture is no page.

    pixels: (H, W, 3) or (H, W).
    """
    if not _is_page(_grey(pixels[::_STEP, ::_STEP])):
        return None
    margin = 2 * _STROKE  # more than the ground of a pixel depends on
    stripes = []
    for top in range(0, len(pixels), _STRIPE):
        stopping.check()
        above = min(top, margin)
        grey = _grey(pixels[top - above : top + _STRIPE + margin])
        stripes.append((_without_strokes(grey) > grey + np.int16(_DARK))[above : above + _STRIPE])
    return np.concatenate(stripes)


def _is_page(grey: _Grey) -> bool:
    """Whether nearly nothing is lighter than the ground, most is paper, and something is written on it."""
    darker = _ground(grey, CELL // _STEP) - grey.astype(np.int16)
    lighter, paper = np.mean(darker < -_GRAIN), np.mean(np.abs(darker) <= _GRAIN)
    return bool(lighter <= _LIGHTER and paper >= _PAPER and np.mean(darker > _DARK) >= _WRITTEN)


def _ground(grey: _Grey, cell: int) -> npt.NDArray[np.int16]:
    """Of each pixel the level that a quarter of its cell and of the cells around it reach."""
    rows, columns = grey.shape
    whole = np.pad(grey, ((0, -rows % cell), (0, -columns % cell)), mode="edge")
    cells = whole.reshape(len(whole) // cell, cell, -1, cell).swapaxes(1, 2)
    rank = int(_GROUND * cell**2)
    light = np.partition(cells.reshape(*cells.shape[:2], -1), rank, axis=2)[..., rank]
    image = Image.fromarray(light).filter(ImageFilter.RankFilter(3, int(_GROUND * 9)))
    image = image.filter(ImageFilter.GaussianBlur(1)).resize(whole.shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image)[:rows, :columns].astype(np.int16)


def _without_strokes(grey: _Grey) -> _Grey:
    """A page as it was before it was written on: closed, which edges of the paper survive."""
    smooth = np.asarray(Image.fromarray(grey).filter(ImageFilter.BoxBlur(1)))
    light = _lightest(smooth, _STROKE // 2)
    closed: _Grey = 255 - _lightest(255 - light, _STROKE - 1 - _STROKE // 2)
    return closed


def _lightest(grey: _Grey, before: int) -> _Grey:
    """Of each pixel the lightest in a square, which begins so many pixels before it."""
    wide = np.pad(grey, (before, _STROKE - 1 - before), mode="edge")
    shift = 1
    while shift < _STROKE:
        wide = np.maximum(wide[shift:], wide[:-shift])
        wide = np.maximum(wide[:, shift:], wide[:, :-shift])
        shift *= 2
    return wide


def _grey(pixels: npt.NDArray[np.uint8]) -> _Grey:
    if pixels.ndim == 2:
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))
