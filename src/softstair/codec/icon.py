"""The smallest pictures: of few latents, without the mean network and the synthesis.

What a picture is at a sixteenth lies in the first latents of a group, and what the mean network passes on
from phase to phase to find them lies in the first of another. A small network of the bundle is in the mean
network's place for these alone, and says what the picture is once all are known. All symbols are read: a
phase less, and nothing would be known of a quarter of the places.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from softstair import _core
from softstair.engine import Planes
from softstair.engine.checked import CheckedNetworks
from softstair.quantize.grids import STRIDE
from softstair.quantize.phases import PHASES
from softstair.tiles import Box, TileGrid

from .geometry import Borders, Geometry, to_pixels
from .latent_plane import LatentPlane
from .means import Means
from .tile import TileCoder
from .windows import Pixels, walk_windows

SCALE = 32  # from which on pictures are made so
MADE = STRIDE  # of the pictures that the network makes
_OF_GROUP = 16  # latents that it sees of every group


def first_latents(channels: int) -> npt.NDArray[np.intp]:
    """The channels that the network sees."""
    return np.arange(channels).reshape(PHASES, -1)[:, :_OF_GROUP].ravel()


def icon(
    coder: TileCoder,
    networks: CheckedNetworks,
    payload: bytes,
    geometry: Geometry,
    position: int,
    index: int,
    borders: Borders,
) -> Planes:
    """Means of 16 x 16 pixels of a tile, (1, 3, rows, columns), about [0, 1]; in layers of the first.

    Raises:
        CorruptStream: the payload is not what an encoder wrote.
    """
    tile = coder.open_tile(payload, geometry, position, index)
    for _ in range(PHASES):
        coder.read_phase(tile, index)
    setting, seen = coder.setting(position), first_latents(coder.channels)
    z_hat = np.ascontiguousarray(tile.z.transpose(2, 0, 1))[None].astype(np.float32)
    size = geometry.rows, geometry.columns
    means = Means(networks, z_hat, setting.hat, size, borders)
    symbols, step = np.ascontiguousarray(tile.y[:, :, seen]), setting.step[seen]
    decoded = np.zeros((1, len(seen), *size), np.float32)
    for phase in range(PHASES):
        mean = means.of_phase(networks.icon, decoded, phase)[: len(seen)]
        _core.reconstruct_phase(phase, symbols, setting.mode.states, setting.grid, mean, step, decoded[0])
    return means.of_phase(networks.icon, decoded, PHASES)[None, len(seen) :]


def icon_windows(plane: LatentPlane, windows: TileGrid, region: Box) -> Iterator[tuple[Box, Pixels]]:
    """A sixteenth of the pixels of a region, window by window from the top: boxes, in pixels of the whole
    picture, and (rows, columns, 3) of a sixteenth.

    plane: what ``icon`` makes of tiles.
    """
    for row in walk_windows(plane, windows, region, 0):
        for core, cells in row:
            yield core, to_pixels(plane.window(cells), Geometry(cells.columns, cells.rows))
