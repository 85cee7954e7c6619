"""Small pictures by a head of the bundle in place of the synthesis, which takes most of the time."""

from __future__ import annotations

from collections.abc import Iterator

from softstair.engine import Planes
from softstair.engine.checked import CheckedNetworks
from softstair.quantize.grids import STRIDE
from softstair.tiles import Box, TileGrid

from .geometry import Geometry, to_pixels
from .latent_plane import LatentPlane
from .windows import Pixels, walk_windows

SCALE = 4  # the head makes pictures of a quarter
_REACH = 2  # latents on each side that it may see


def preview_windows(
    networks: CheckedNetworks, hat: Planes, plane: LatentPlane, windows: TileGrid, region: Box
) -> Iterator[tuple[Box, Pixels]]:
    """A quarter of the pixels of a region, window by window from the top: boxes, in pixels of the whole
    picture, and (rows, columns, 3) of a quarter.

    region: in pixels; its ends are multiples of ``SCALE``, or the picture's.
    """
    for row in walk_windows(plane, windows, region, _REACH):
        for core, cells in row:
            shown = networks.preview(plane.window(cells), hat)
            pixels = to_pixels(shown, Geometry(shown.shape[3], shown.shape[2]))
            yield core, pixels[core.cells(SCALE).seen_from(cells.times(STRIDE // SCALE)).slices]
