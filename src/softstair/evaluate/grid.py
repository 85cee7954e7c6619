"""Grid: how far the cells that a codec works in show where a picture is smooth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .metrics import check_pixels

_Plane = npt.NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_REACH = 7  # steps on either side of a line that have to be small in the reference
_LARGEST = 4.0  # grey levels, of such a step
_BESIDE = (-3, -2, -1, 1, 2, 3)  # steps that one on a line is held against


@dataclass(frozen=True)
class Grid:
    """Steps of luma in smooth regions, grey levels.

    smooth: share of the positions on the codec's lines that lie in smooth regions, 0 to 1. across,
    beside: mean steps on the lines, and next to them; 0 without such positions.
    """

    smooth: float
    across: float
    beside: float


def measure_grid(reference: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], cells: int) -> Grid:
    """Steps across the lines of a lattice and beside them, where the reference is smooth.

    A step is the absolute difference in luma (BT.601) of neighbours, in ``other``. A position on a
    line counts if the step there and seven steps on either side, at right angles to the line, are
    at most four grey levels in ``reference``. Beside are the three steps on either side.

    Args:
        reference, other: uint8 (H, W, 3).
        cells: pixels a side; lines are the multiples of it.

    Raises:
        UsageError: not uint8 (H, W, 3), or of different sizes.
    """
    check_pixels(reference, other)
    one, two = reference @ _LUMA, other @ _LUMA
    parts = [_sums(one, two, cells), _sums(one.T, two.T, cells)]
    positions, calm, across, beside = (sum(part) for part in zip(*parts, strict=True))
    if not calm:
        return Grid(0.0, 0.0, 0.0)
    return Grid(calm / positions, across / calm, beside / calm)


def _sums(reference: _Plane, other: _Plane, cells: int) -> tuple[int, int, float, float]:
    """Positions on upright lines, smooth ones among them, and sums of steps over these."""
    quiet = np.abs(np.diff(reference, axis=1)) <= _LARGEST
    steps = np.abs(np.diff(other, axis=1))
    at = np.arange(cells, reference.shape[1], cells) - 1  # of the step into a cell's first column
    at = at[(at >= _REACH) & (at < steps.shape[1] - _REACH)]
    calm = np.all([quiet[:, at + shift] for shift in range(-_REACH, _REACH + 1)], axis=0)
    beside = np.mean([steps[:, at + shift] for shift in _BESIDE], axis=0)
    return (
        calm.size,
        int(np.count_nonzero(calm)),
        float(steps[:, at][calm].sum(dtype=np.float64)),
        float(beside[calm].sum(dtype=np.float64)),
    )
