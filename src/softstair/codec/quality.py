"""The scale of quality, 0 to 100: what a person asks for, as rate positions of a bundle.

A unit of quality is 1.6 positions, the same look in every bundle: 75 lies between JPEG's 85 and 90
(``experiments/quality``). A bundle that reaches further shares what is left among the last qualities.
"""

from __future__ import annotations

import numpy as np

DEFAULT_QUALITY = 75.0
_BEND = 80.0
_POSITIONS_TO_BEND = 128


def position_of_quality(quality: float, last: int) -> int:
    """The rate position of a quality, 0 to 100, in a bundle whose last position is ``last``."""
    return round(float(np.interp(quality, *_scale(last))))


def quality_of_position(position: int, last: int) -> float:
    """The quality whose rate position this is."""
    qualities, positions = _scale(last)
    return float(np.interp(position, positions, qualities))


def _scale(last: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (0.0, _BEND, 100.0), (0.0, min(_POSITIONS_TO_BEND, _BEND / 100 * last), last)
