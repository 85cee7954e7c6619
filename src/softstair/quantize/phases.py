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
