"""How much is done at once within the memory that a picture may take.

The figures are what was measured with the shipped bundle, rounded up; they depend on the widths of a
network, here only on the number of its latents. Windows and tiles take turns, and memory is given
back in between where what they keep does not fit side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from softstair.errors import LimitExceeded
from softstair.quantize.grids import STRIDE
from softstair.tiles import UNIT, Box, TileGrid

MAX_MEMORY = 2_000_000_000  # bytes, default limit
LARGEST_WINDOW = 8  # layout of windows; pictures of one window are run in one piece
# Of a decoder: several run side by side, a few threads each. In larger ones there is more to hold, in smaller
# ones margins cost more.
DECODED_WINDOWS = (3, 4, 5)
_PROCESS = 180_000_000  # interpreter, libraries, bundle, sessions
_ENCODED_PIXEL = 80  # bytes a pixel of a window while a transform runs
_DECODED_PIXEL = 61  # the same of a decoder, where the synthesis is run layer by layer
_WHOLE_PIXEL = 105  # and where it is not; memory of windows is kept, in pieces, for those to come
_WINDOW_MARGIN = 160  # pixels that windows overlap by, both sides together
# Bytes a channel of a latent position while a tile is coded: planes of float32, symbols, the fields
# of the scale network, the search of the trellis; and while it is decoded.
_ENCODED_LATENT = 95
_DECODED_LATENT = 45
# Bytes a pixel of a tile while it is coded exactly, with the decoder's own; and of its samples, held.
_ENCODED_EXACT = 60
_DECODED_EXACT = 35
_SAMPLES = 4


@dataclass(frozen=True)
class Plan:
    """What fits. window: layout of windows. workers, windows: how many tiles and windows are run at once.

    thrifty: what tiles and windows keep for runs to come does not fit beside each other.
    """

    window: int
    workers: int
    windows: int = 1
    thrifty: bool = True


def plan_encoder(
    grid: TileGrid, channels: int, fixed: int, max_memory: int, threads: int, *, decodes: bool
) -> Plan:
    """How to encode a picture.

    Args:
        grid: its tiles.
        channels: of the latents.
        fixed: bytes held all the time: pixels, alpha, latents.
        max_memory: bytes, about.
        threads: that may be used.
        decodes: it is decoded as well, to see how good it is.

    Raises:
        LimitExceeded: not even one tile at a time fits.
    """
    held = _held_rows(grid, channels, grid.whole) if decodes else lambda window: 0
    tile, pixel = _tile_bytes(grid, channels, _ENCODED_LATENT), _ENCODED_PIXEL
    plan = _plan(fixed, held, grid, range(LARGEST_WINDOW, 0, -1), tile, pixel, max_memory, threads)
    return Plan(plan.window, plan.workers)


def plan_decoder(
    grid: TileGrid,
    channels: int,
    fixed: int,
    max_memory: int,
    threads: int,
    *,
    region: Box,
    in_layers: bool = True,
) -> Plan:
    """How to decode a region, in pixels; otherwise as ``plan_encoder``.

    in_layers: as of ``softstair.engine``.
    """
    held = _held_rows(grid, channels, region)
    best = sorted(DECODED_WINDOWS, key=lambda window: _run_pixels(grid, window, threads))
    layouts = [*best, *range(min(DECODED_WINDOWS) - 1, 0, -1)]
    tile = _tile_bytes(grid, channels, _DECODED_LATENT)
    pixel = _DECODED_PIXEL if in_layers else _WHOLE_PIXEL
    return _plan(fixed, held, grid, layouts, tile, pixel, max_memory, threads)


def exact_bytes(grid: TileGrid, region: Box) -> int:
    """Bytes for the exact pixels of a row of tiles that a region meets, and for decoding one of them."""
    tile = grid.largest
    columns = min(grid.width, region.columns + 2 * tile.columns)
    return tile.rows * (_SAMPLES * columns + _DECODED_EXACT * tile.columns)


def exact_tile_bytes(grid: TileGrid) -> int:
    """Bytes while a tile is coded exactly."""
    return _ENCODED_EXACT * grid.largest.rows * grid.largest.columns


def check_exact(fixed: int, grid: TileGrid, max_memory: int) -> None:
    """That a picture which needs no network fits.

    Raises:
        LimitExceeded: it does not.
    """
    if _PROCESS + fixed > max_memory:
        raise _too_large(grid, _PROCESS + fixed, max_memory)


def latent_bytes(pixels: int, channels: int) -> int:
    """Bytes of the latents of so many pixels in float32."""
    return 4 * channels * pixels // STRIDE**2


def _plan(
    fixed: int,
    held: Callable[[int], int],
    grid: TileGrid,
    layouts: Iterable[int],
    tile: int,
    pixel: int,
    max_memory: int,
    threads: int,
) -> Plan:
    """The first of some layouts of windows that fits, and how many windows and tiles do at once.

    tile, pixel: bytes of a tile and of a pixel of a window.
    """
    needed = 0
    for window in layouts:
        base, each = _PROCESS + fixed + held(window), pixel * _window_pixels(grid, window)
        needed = base + max(each, tile)
        if needed <= max_memory:
            free, columns = max_memory - base, TileGrid(grid.height, grid.width, window).columns
            workers, windows = min(threads, grid.count, free // tile), min(threads, columns, free // each)
            return Plan(window, workers, windows, workers * tile + windows * each > free)
    raise _too_large(grid, needed, max_memory)


def _too_large(grid: TileGrid, needed: int, max_memory: int) -> LimitExceeded:
    return LimitExceeded(
        f"The picture of {grid.width}x{grid.height} pixels needs about {needed / 1e6:.0f} MB of memory, "
        f"more than the limit of {max_memory / 1e6:.0f} MB; raise the limit."
    )


def _run_pixels(grid: TileGrid, window: int, threads: int) -> int:
    """Pixels, margins among them, that the busiest thread runs the synthesis on; rows take turns."""
    windows, pixels = TileGrid(grid.height, grid.width, window), 0
    for row in range(windows.rows):
        busy = [0] * min(threads, windows.columns)
        for column in range(windows.columns):
            box = windows.box(row * windows.columns + column)
            busy[busy.index(min(busy))] += (box.rows + _WINDOW_MARGIN) * (box.columns + _WINDOW_MARGIN)
        pixels += max(busy)
    return pixels


def _window_pixels(grid: TileGrid, window: int) -> int:
    side = window * UNIT + _WINDOW_MARGIN
    return min(grid.height, side) * min(grid.width, side)


def _tile_bytes(grid: TileGrid, channels: int, of_latent: int) -> int:
    return of_latent * channels * grid.largest.rows * grid.largest.columns // STRIDE**2


def _held_rows(grid: TileGrid, channels: int, region: Box) -> Callable[[int], int]:
    """y^ that a row of windows holds: its own tiles, and one above and below for the margin."""
    tile = grid.largest

    def held(window: int) -> int:
        rows = min(grid.height, window * UNIT + 2 * tile.rows)
        columns = min(grid.width, region.columns + 2 * tile.columns)
        return latent_bytes(rows * columns, channels)

    return held
