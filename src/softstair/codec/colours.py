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


# Of many numbers and methods these two were best at most qualities of most screens: few colours by
# common leading bits, all that one byte tells by medians.
PALETTES = (Palette(128, Image.Quantize.FASTOCTREE), Palette(256, Image.Quantize.MEDIANCUT))


def in_fewer_colours(pixels: Pixels, palette: Palette) -> Pixels:
    """Pixels (N, 3) in at most so many colours, without a pattern of dots.

    A colour that most of those near it have stays as it is, so that a white page stays white.
    """
    stopping.check()
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


def _usual(pixels: Pixels, numbers: Pixels) -> list[tuple[int, tuple[int, int, int]]]:
    """Numbers of which more than half of the pixels have one colour, with it."""
    keys = numbers.astype(np.uint32) << 24
    for channel in range(3):
        keys |= pixels[:, channel].astype(np.uint32) << 8 * (2 - channel)
    found, counts = np.unique(keys, return_counts=True)
    usual = counts * 2 > np.bincount(numbers, minlength=256)[found >> 24]
    return [
        (int(key >> 24), (int(key >> 16 & 255), int(key >> 8 & 255), int(key & 255))) for key in found[usual]
    ]
