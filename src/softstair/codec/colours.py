"""Pictures in fewer colours: what was drawn looks the same in them and costs much less exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from softstair import stopping

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Palette:
    """How colours are chosen: so many at most, by one of Pillow's methods."""

    colours: int
    method: Image.Quantize


# By common leading bits no error is large; medians, where colours are rare, turn yellow to orange.
PALETTES = (Palette(128, Image.Quantize.FASTOCTREE), Palette(256, Image.Quantize.FASTOCTREE))
_KEPT = 4  # one of so many colours of a palette is a frequent one, as it is
_FREQUENT = 0.0005  # of all pixels


def in_fewer_colours(pixels: Pixels, palette: Palette) -> Pixels:
    """Pixels (N, 3) in at most so many colours, without a pattern of dots.

    The most frequent colours stay as they are, so that no ground melts into another one, and so does a
    colour that most of those near it have.
    """
    stopping.check()
    found, colour_of, counts = np.unique(_keys(pixels), return_inverse=True, return_counts=True)
    most = np.argsort(-counts, kind="stable")[: palette.colours // _KEPT]
    frequent = most[counts[most] >= _FREQUENT * len(pixels)]
    is_rare = np.ones(len(found), np.bool_)
    is_rare[frequent] = False
    rest = is_rare[colour_of]
    left = palette.colours - len(frequent)
    if np.count_nonzero(is_rare) <= left:
        return pixels
    result = pixels.copy()
    result[rest] = _quantized(pixels[rest], Palette(left, palette.method))
    return result


def _quantized(pixels: Pixels, palette: Palette) -> Pixels:
    image = Image.fromarray(pixels[None])
    indexed = image.quantize(palette.colours, palette.method, dither=Image.Dither.NONE)
    numbers = np.asarray(indexed)[0]
    chosen = np.zeros((256, 3), np.uint8)
    given = np.array(indexed.getpalette(), np.uint8).reshape(-1, 3)
    chosen[: len(given)] = given
    for number, colour in _usual(pixels, numbers):
        chosen[number] = colour
    result: Pixels = chosen[numbers]
    return result


def _keys(pixels: Pixels) -> npt.NDArray[np.uint32]:
    """A number for each colour: red, green and blue, a byte each."""
    red, green, blue = (pixels[:, channel].astype(np.uint32) for channel in range(3))
    keys: npt.NDArray[np.uint32] = (red << 16 | green << 8 | blue).astype(np.uint32)
    return keys


def _usual(pixels: Pixels, numbers: Pixels) -> list[tuple[int, tuple[int, int, int]]]:
    """Numbers of which more than half of the pixels have one colour, with it."""
    keys = numbers.astype(np.uint32) << 24 | _keys(pixels)
    found, counts = np.unique(keys, return_counts=True)
    usual = counts * 2 > np.bincount(numbers, minlength=256)[found >> 24]
    return [
        (int(key >> 24), (int(key >> 16 & 255), int(key >> 8 & 255), int(key & 255))) for key in found[usual]
    ]
