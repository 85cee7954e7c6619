"""How far the transforms see: measured on the graphs themselves, so that no bundle can lie.

What is not a number makes everything that depends on it not a number, whatever the weights are.
One poisoned cell of 16 x 16 pixels, or its latents, therefore shows exactly whom it can reach.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from softstair.engine import Networks
from softstair.errors import InvalidBundle
from softstair.quantize.grids import STRIDE

FURTHEST = 15  # cells; a network that sees further cannot be run on parts of a picture
_CENTRE = FURTHEST + 1
_SIDE = 2 * _CENTRE + 1


def analysis_field(networks: Networks) -> int:
    """Cells on every side of a cell that its latents depend on.

    Raises:
        InvalidBundle: more than a large picture can be cut with.
    """
    picture = np.zeros((1, 3, _SIDE, STRIDE, _SIDE, STRIDE), np.float32)
    picture[:, :, _CENTRE, :, _CENTRE] = np.nan
    latents = networks.analysis(picture.reshape(1, 3, _SIDE * STRIDE, _SIDE * STRIDE))
    return _furthest(np.isnan(latents).any(axis=(0, 1)), "analysis")


def synthesis_field(networks: Networks, channels: int, points: int) -> int:
    """Cells on every side of a cell that its pixels depend on. channels: of the latents.

    Raises:
        InvalidBundle: more than a large picture can be cut with.
    """
    latents = np.zeros((1, channels, _SIDE, _SIDE), np.float32)
    latents[:, :, _CENTRE, _CENTRE] = np.nan
    hat = np.full((1, points), 1 / points, np.float32)
    pixels = networks.synthesis(latents, hat).reshape(1, 3, _SIDE, STRIDE, _SIDE, STRIDE)
    return _furthest(np.isnan(pixels).any(axis=(0, 1, 3, 5)), "synthesis")


def _furthest(poisoned: npt.ArrayLike, name: str) -> int:
    cells = np.asarray(poisoned)
    reach = int(np.abs(np.argwhere(cells) - _CENTRE).max()) if cells[_CENTRE, _CENTRE] else _SIDE
    if reach > FURTHEST:
        raise InvalidBundle(
            f"The {name} of the bundle sees further than {FURTHEST * STRIDE} pixels, so large "
            "pictures cannot be processed in parts."
        )
    return reach
