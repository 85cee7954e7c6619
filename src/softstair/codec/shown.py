"""What changes of pixels show, cell by cell: in squared error, and as squares or bands in shades."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .flatness import CELL, CellMap, sum_cells

# What a patch changes as a whole shows as squares or bands in shades: so many times more than it counts.
_PATCH, _PATCH_SEEN = 4, 3.0  # pixels a side

Changes = npt.NDArray[np.float32]


def losses_of(changes: Changes) -> CellMap:
    """Squared error of changes (H, W, 3), over all samples of a cell."""
    return sum_cells(np.square(changes).sum(axis=2))


def shifts_of(changes: Changes) -> CellMap:
    """Of changes (H, W, 3), what patches show that change as a whole, by cell."""
    height, width = changes.shape[:2]
    whole = np.pad(changes, ((0, -height % CELL), (0, -width % CELL), (0, 0)))
    means = whole.reshape(len(whole) // _PATCH, _PATCH, -1, _PATCH, 3).mean((1, 3))
    seen = _PATCH_SEEN * _PATCH**2 * np.square(means).sum(axis=2)
    side = CELL // _PATCH
    cells: CellMap = seen.reshape(len(seen) // side, side, -1, side).sum((1, 3), dtype=np.float64)
    return cells
