"""A small picture in the file of a large one, so that a thumbnail takes the time of its own size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from softstair.pictures import Picture
from softstair.stream import Header, Metadata
from softstair.tiles import Box

SCALE = 32
# Pixels a side from which on: a small picture of 256 and more, for 0.15 % of the bytes.
LARGE = 8192
QUALITY = 75

Pixels = npt.NDArray[np.uint8]


def has_small(header: Header) -> bool:
    """Whether a picture is large enough to have one; readers pass over that of others."""
    return max(header.height, header.width) > LARGE


def small_of(picture: Picture) -> Picture:
    """Means of 32 x 32 pixels, without metadata."""
    alpha = None if picture.alpha is None else reduced(picture.alpha, SCALE)
    return replace(picture, pixels=reduced(picture.pixels, SCALE), alpha=alpha, metadata=Metadata())


def region_of_small(region: Box) -> tuple[int, int, int, int]:
    """Left, top, width and height in the small picture of a region that begins at whole pixels of it."""
    box = region.cells(SCALE)
    return box.left, box.top, box.columns, box.rows


def reduced(pixels: Pixels, divisor: int) -> Pixels:
    """Means of blocks of divisor x divisor pixels, of what there is at the right and the bottom."""
    if divisor == 1:
        return pixels
    sums = _summed(_summed(pixels, divisor).swapaxes(0, 1), divisor).swapaxes(0, 1)
    counts = [_summed(np.ones(side, np.uint32), divisor) for side in pixels.shape[:2]]
    area = np.multiply.outer(*counts).reshape(*sums.shape[:2], *([1] * (pixels.ndim - 2)))
    result: Pixels = ((sums + area // 2) // area).astype(np.uint8)
    return result


def _summed(values: npt.NDArray[np.unsignedinteger], divisor: int) -> npt.NDArray[np.uint32]:
    """Sums of every so many along the first axis, and of what is left at its end."""
    sums = np.zeros((-(-len(values) // divisor), *values.shape[1:]), np.uint32)
    for first in range(divisor):
        part = values[first::divisor]
        sums[: len(part)] += part
    return sums
