"""Small pictures of the first phases alone, by a head of the bundle in place of the synthesis.

A reader that wants an eighth of the size or less reads z and two phases of each payload, and one that
wants a quarter all four; latents that are not read are zero, and no means are computed for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softstair import _core
from softstair.engine import Planes
from softstair.engine.checked import CheckedNetworks
from softstair.quantize.grids import STRIDE
from softstair.tiles import Box, TileGrid

from .geometry import Geometry, to_pixels
from .plane import LatentPlane
from .windows import Pixels

SCALE = 4  # the head makes pictures of a quarter
KNOWN_PHASES = (2, 4)  # that it is shown for less than a quarter, and for a quarter
_REACH = 4  # latents on each side that it may see


def phases_for(divisor: int) -> int:
    """How many phases a picture needs that is 1/``divisor`` of its size."""
    return KNOWN_PHASES[divisor == SCALE]


def preview_windows(
    networks: CheckedNetworks, hat: Planes, plane: LatentPlane, windows: TileGrid, region: Box
) -> Iterator[tuple[Box, Pixels]]:
    """A quarter of the pixels of a region, window by window from the top: boxes, in pixels of the whole
    picture, and (rows, columns, 3) of a quarter.

    region: in pixels; its ends are multiples of ``SCALE``, or the picture's.
    """
    for row in range(windows.rows):
        boxes = [windows.box(row * windows.columns + column) for column in range(windows.columns)]
        cores = [box.within(region) for box in boxes if box.meets(region)]
        if not cores:
            continue
        seen = [_even(core.cells(STRIDE).grown(_REACH, plane.whole), plane.whole) for core in cores]
        plane.drop_above(seen[0].top)
        plane.prepare(Box(seen[0].top, seen[0].left, seen[0].bottom, seen[-1].right))
        for core, cells in zip(cores, seen, strict=True):
            shown = networks.preview(_paired(plane.window(cells)), hat)
            pixels = to_pixels(shown, Geometry(shown.shape[3], shown.shape[2]))
            if windows.count > 1:
                _core.release_memory()
            yield core, pixels[core.cells(SCALE).seen_from(cells.times(STRIDE // SCALE)).slices]


def _even(cells: Box, whole: Box) -> Box:
    """The box, begun at an even row and column and ended at one where the picture goes on."""
    top, left = cells.top // 2 * 2, cells.left // 2 * 2
    return Box(top, left, -(-cells.bottom // 2) * 2, -(-cells.right // 2) * 2).within(whole)


def _paired(latents: Planes) -> Planes:
    """(1, C, h, w) with even sides: continued by a line that has the same channels in each phase."""
    down, right = latents.shape[2] % 2, latents.shape[3] % 2
    if not down and not right:
        return latents
    return np.pad(latents, ((0, 0), (0, 0), (0, down), (0, right)), mode="reflect")
