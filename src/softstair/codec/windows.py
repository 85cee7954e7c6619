"""The transforms on parts of a picture, such that nobody can see where it was cut.

A window is run with a margin as wide as the network sees, and the margin is cut off: inside, the
result is that of the whole picture but for the order of a few float additions. Windows have
nothing to do with tiles; a picture that fits into one is run in one piece. An encoder gives memory back
after each: what is kept lies in pieces, and the next window is seldom of that shape. A decoder's windows
are smaller, and getting memory anew for each would take longer than some of its networks do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from softstair.engine import Planes, release_memory
from softstair.quantize.grids import STRIDE
from softstair.tiles import Box, TileGrid

from .geometry import Geometry
from .latent_plane import LatentPlane
from .tile import TileCoder
from .workers import Workers

Pixels = npt.NDArray[np.uint8]
GREY = 128  # what nobody knows


def analyse_box(
    coder: TileCoder, pixels: Pixels, box: Box, windows: TileGrid, field: Callable[[], int]
) -> Planes:
    """Latents of a box, (1, C, rows, columns).

    Args:
        pixels: of the whole picture, (H, W, 3) or (H, W).
        box: pixels; its top and left are multiples of 16, as its other ends are or the picture's.
        windows: how the picture is cut for this.
        field: the receptive field of the analysis, in cells; asked for only where there are several windows.
    """
    if windows.count == 1 and box == windows.whole:
        return coder.analyse(as_rgb(pixels)).latents
    cells, whole = box.cells(STRIDE), windows.whole
    result: Planes | None = None
    for index in windows.meeting(box):
        core = windows.box(index).within(box).cells(STRIDE)
        seen = core.grown(field(), whole.cells(STRIDE))
        latents = coder.analyse(as_rgb(pixels[seen.times(STRIDE).within(whole).slices])).latents
        if result is None:
            result = np.empty((1, latents.shape[1], cells.rows, cells.columns), np.float32)
        result[:, :, *core.seen_from(cells).slices] = latents[:, :, *core.seen_from(seen).slices]
        del latents
        release_memory()
    assert result is not None  # a box meets a window
    return result


def synthesise_windows(
    workers: Workers,
    plane: LatentPlane,
    position: int,
    smoothing: int,
    windows: TileGrid,
    region: Box,
    field: int,
    is_blank: Callable[[Box, Box], bool] = lambda box, seen: False,
) -> Iterator[tuple[Box, Pixels]]:
    """Pixels of a region, window by window from the top: boxes and (rows, columns, 3).

    Args:
        smoothing: as of a header.
        windows: how the picture is cut for this.
        region: in pixels.
        field: the receptive field of the synthesis and the smoothing, in cells; 0 where there is one
            window.
        is_blank: whether nobody sees a box of pixels, the first, or nothing is known of the box that it
            is made of, the second; it is then grey without a network.
    """

    def synthesised(coder: TileCoder, window: tuple[Box, Box]) -> tuple[Box, Pixels]:
        core, cells = window
        box = cells.times(STRIDE).within(windows.whole)
        if is_blank(core, box):
            return core, np.full((core.rows, core.columns, 3), GREY, np.uint8)
        geometry, shown = Geometry(box.columns, box.rows), core.cells(STRIDE)
        latents = plane.window(cells)
        pixels = coder.synthesise(latents, geometry, position, smoothing, shown.seen_from(cells))
        return core, pixels[core.seen_from(shown.times(STRIDE)).slices]

    for row in walk_windows(plane, windows, region, field):
        yield from workers.map_windows(synthesised, row)


def walk_windows(
    plane: LatentPlane, windows: TileGrid, region: Box, field: int
) -> Iterator[list[tuple[Box, Box]]]:
    """Rows of windows of a region from the top: boxes of pixels, and of the latents that each is made of.

    The plane has the latents of a row when it is given, and lets go of those above. field: how many
    cells around its own a window is made of.
    """
    try:
        for row in range(windows.rows):
            boxes = [windows.box(row * windows.columns + column) for column in range(windows.columns)]
            cores = [box.within(region) for box in boxes if box.meets(region)]
            if not cores:
                continue
            seen = [core.cells(STRIDE).grown(field, plane.whole) for core in cores]
            plane.drop_above(seen[0].top)
            plane.prepare(Box(seen[0].top, seen[0].left, seen[0].bottom, seen[-1].right))
            yield list(zip(cores, seen, strict=True))
    finally:
        if windows.count > 1:
            release_memory()


def as_rgb(pixels: Pixels) -> Pixels:
    """Grey as three equal channels."""
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
