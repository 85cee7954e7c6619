"""Ground of one colour without the noise on it, which JPEG leaves around letters and lines.

Many a screenshot was saved as JPEG once. Noise of a few grey levels, that nobody sees, costs as much exactly
as the letters do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from softstair import stopping

from .colours import keys_of
from .flatness import CELL, CellMap, sum_cells
from .shown import losses_of, shifts_of

_STEPS = (1, 2, 4, 8)  # pixels, one after another: so far, across and down, is noise from its ground at most
_FAINT = (4, 8)  # grey levels that noise differs by from its ground, at most: which, is decided for each cell
_LINE = 9  # pixels of one colour in a row, more than noise of JPEG has: a line that was drawn
# Noise that touches no edge, of pixels unlike their neighbours: 0.06 to 0.5 after a JPEG, else 0 to 0.004.
_NOISY = 0.025
# Bits of a pixel unlike its neighbours. Most take more; with 5 or 8 judges lose more than bytes gain.
_BITS = 3.0
_STRIPE, _MARGIN = 32 * CELL, 2 * CELL  # rows at a time, and more than ground is away
_NOTHING = np.uint32(0xFFFFFFFF)
_FAR = 255  # grey levels, more than noise has

_Pixels = npt.NDArray[np.uint8]
_Keys = npt.NDArray[np.uint32]
_Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Stripe:
    """Rows of a picture, with those that its ground depends on: ``above`` so many at the top.

    ground: keys of the ground of each pixel, ``_NOTHING`` if there is none. differences: grey levels between
    the two where that may be noise, else ``_FAR``. alone, unlike: pixels of noise that touches no edge, and
    pixels unlike their neighbours.
    """

    pixels: _Pixels
    above: int
    ground: _Keys
    differences: _Pixels
    alone: int
    unlike: CellMap


def without_noise(pixels: _Pixels, worth: float) -> _Pixels:
    """Pixels (H, W, 3), those of noise in the colour of their ground, where a cell costs less with that.

    worth: squared error that a bit should save.
    """
    stripes = [_look(pixels, top) for top in range(0, len(pixels), _STRIPE)]
    unlike = sum(float(stripe.unlike.sum()) for stripe in stripes)
    if sum(stripe.alone for stripe in stripes) <= _NOISY * unlike:
        return pixels
    cleaned = (_cleaned(stripe, worth)[stripe.above :][:_STRIPE] for stripe in stripes)
    return np.concatenate(list(cleaned))


def _look(pixels: _Pixels, top: int) -> _Stripe:
    stopping.check()
    above = min(top, _MARGIN)
    part = pixels[top - above : top + _STRIPE + _MARGIN]
    keys = keys_of(part)
    even = _is_even(keys)
    ground = _run_on(np.where(even, keys, _NOTHING))
    colours = _colours(ground)
    differences = (np.maximum(part, colours) - np.minimum(part, colours)).max(axis=2)
    differences[ground == _NOTHING] = _FAR
    edges = _grown((differences > _FAINT[-1]) & ~even)
    differences[even | _is_line(keys)] = _FAR
    alone = int(np.count_nonzero((differences <= _FAINT[-1]) & ~edges))
    return _Stripe(part, above, ground, differences, alone, _unlike(keys))


def _cleaned(stripe: _Stripe, worth: float) -> _Pixels:
    pixels, keys, colours = stripe.pixels, keys_of(stripe.pixels), _colours(stripe.ground)
    least = _BITS * stripe.unlike
    levels = np.zeros(least.shape, np.uint8)
    for faint in _FAINT:
        stopping.check()
        is_near = stripe.differences <= faint
        changes = np.where(is_near[..., None], colours.astype(np.float32) - pixels, np.float32(0))
        bits = _BITS * _unlike(np.where(is_near, stripe.ground, keys))
        cost = bits + (losses_of(changes) + shifts_of(changes)) / worth
        levels[cost < least] = faint
        least = np.minimum(cost, least)
    of_pixels = levels.repeat(CELL, axis=0).repeat(CELL, axis=1)[: len(pixels), : pixels.shape[1]]
    return np.where((stripe.differences <= of_pixels)[..., None], colours, pixels)


def _is_even(keys: _Keys) -> _Bits:
    """Which pixels lie in a square of one colour, three pixels a side."""
    across, down = keys[:, 1:] == keys[:, :-1], keys[1:] == keys[:-1]
    rows, columns = across[:, 1:] & across[:, :-1], down[1:] & down[:-1]
    corners = rows[2:] & rows[1:-1] & rows[:-2] & columns[:, 2:]
    even = np.zeros(keys.shape, np.bool_)
    height, width = keys.shape
    for top, left in np.ndindex(3, 3):
        even[top : height - 2 + top, left : width - 2 + left] |= corners
    return even


def _is_line(keys: _Keys) -> _Bits:
    """Which pixels lie in a line of one colour, across or down."""
    lines = np.zeros(keys.shape, np.bool_)
    for pixels, found in ((keys, lines), (keys.T, lines.T)):
        alike = pixels[1:] == pixels[:-1]
        starts = np.ones((max(len(pixels) - _LINE + 1, 0), pixels.shape[1]), np.bool_)
        for place in range(_LINE - 1):
            starts &= alike[place : place + len(starts)]
        for place in range(_LINE):
            found[place : place + len(starts)] |= starts
    return lines


def _grown(pixels: _Bits) -> _Bits:
    """With all that touch them."""
    wide = np.pad(pixels, 1)
    wide = wide[2:] | wide[1:-1] | wide[:-2]
    return wide[:, 2:] | wide[:, 1:-1] | wide[:, :-2]


def _run_on(keys: _Keys) -> _Keys:
    """Keys that run on, as far as noise is from its ground, to where there are none."""
    for step in _STEPS:
        for lines in (keys, keys.T):
            for to, of in ((slice(step, None), slice(-step)), (slice(-step), slice(step, None))):
                lines[to] = np.where(lines[to] == _NOTHING, lines[of], lines[to])
    return keys


def _unlike(keys: _Keys) -> CellMap:
    """How many pixels of each cell are unlike their neighbours to the left and above."""
    unlike = np.ones(keys.shape, np.bool_)
    unlike[0, 0] = False
    unlike[:, 1:] &= keys[:, 1:] != keys[:, :-1]
    unlike[1:] &= keys[1:] != keys[:-1]
    return sum_cells(unlike)


def _colours(keys: _Keys) -> _Pixels:
    """What ``keys_of`` made keys of; of ``_NOTHING`` white."""
    return np.stack([keys >> 16 & 255, keys >> 8 & 255, keys & 255], axis=-1).astype(np.uint8)
