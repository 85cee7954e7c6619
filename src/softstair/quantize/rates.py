"""The rate position: the one number that says how finely a picture is quantized.

A position is an integer in 1/32 octave of gain, stored in one byte of a stream. Rate points are
the positions that were trained, one every half octave; between them everything that depends on
the rate is interpolated, in integers wherever it decides a symbol.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

POSITIONS_PER_OCTAVE = 32
POSITIONS_PER_POINT = 16


def interpolate(at_points: npt.NDArray[np.int32], position: int) -> npt.NDArray[np.int32]:
    """Interpolate integers between rate points: ``(v_i (16 - f) + v_{i+1} f + 8) >> 4``.

    Args:
        at_points: int32, shape (points, ...), a value for every rate point.
        position: rate position in [0, 16 * (points - 1)].

    Returns:
        int32, shape ``at_points.shape[1:]``.
    """
    point, fraction = divmod(position, POSITIONS_PER_POINT)
    upper = min(point + 1, len(at_points) - 1)
    low = at_points[point].astype(np.int64)
    high = at_points[upper].astype(np.int64)
    mixed = (low * (POSITIONS_PER_POINT - fraction) + high * fraction + 8) >> 4
    result: npt.NDArray[np.int32] = mixed.astype(np.int32)
    return result


def hat_weights(position: int, points: int) -> npt.NDArray[np.float32]:
    """Weights of a rate position over the rate points, float32 (1, points), for the networks."""
    grid = np.arange(points) * POSITIONS_PER_POINT
    weights = 1.0 - np.abs(position - grid) / POSITIONS_PER_POINT
    return np.maximum(weights, 0.0).astype(np.float32)[None]


def nearest_point(position: int, points: int) -> int:
    """Index of the rate point nearest to a position; halves go up."""
    return min((position + POSITIONS_PER_POINT // 2) // POSITIONS_PER_POINT, points - 1)
