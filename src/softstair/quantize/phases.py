"""The order in which latents are decoded: four phases over 2x2 positions and four channel groups.

In every phase each position receives a quarter of its channels, so that already the second phase
sees something of every position. Phase of a latent = class of its position XOR group of its
channel, with position classes

    0 2
    3 1

and channel group ``4 * channel // channels``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PHASES = 4
PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))  # one of every class: row and column of a 2x2 block
_POSITION_CLASS = np.array([[0, 2], [3, 1]])


def phase_map(channels: int, height: int, width: int) -> npt.NDArray[np.int64]:
    """Phase of every latent, int64, shape (channels, height, width), in [0, 4).

    ``channels`` must be a multiple of four.
    """
    rows, columns = np.arange(height) & 1, np.arange(width) & 1
    position = _POSITION_CLASS[rows[:, None], columns[None, :]]
    group = np.arange(channels) * PHASES // channels
    phases: npt.NDArray[np.int64] = position[None] ^ group[:, None, None]
    return phases


def phase_slices(channels: int, phase: int, place: tuple[int, int]) -> tuple[slice, slice, slice]:
    """Where the latents of a phase lie at places of a class, in an array (channels, height, width)."""
    row, column = place
    size, group = channels // PHASES, phase ^ int(_POSITION_CLASS[place])
    return slice(group * size, (group + 1) * size), slice(row, None, 2), slice(column, None, 2)
