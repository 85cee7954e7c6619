"""How much grain a photograph has: what varies from pixel to pixel where nothing else does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_CELL = 8  # pixels
_EVERY = 4  # one of so many rows of cells is looked at
_SMOOTHEST = 0.1  # of the cells
_LEAST, _FULL = 0.4, 0.8  # grey levels; scaled photographs have 0.1 to 0.4, scanned film 0.7 to 2
_LUMA = np.array([0.25, 0.5, 0.25], np.float32)

_Pixels = npt.NDArray[np.uint8]


def grain_of(pixels: _Pixels) -> float:
    """How full of grain a picture is, from 0, if nobody can see it, to 1. pixels: (H, W, 3) or (H, W)."""
    return float(np.clip((deviation_of_grain(pixels) - _LEAST) / (_FULL - _LEAST), 0, 1))


def deviation_of_grain(pixels: _Pixels) -> float:
    """In grey levels of luma; 0 for a picture that is too small to tell.

    The difference of two Laplacians leaves nothing of what is even, sloped or evenly curved (J. Immerkaer,
    "Fast noise variance estimation", 1996). The smoothest tenth of all cells tells; those of a single
    colour, as where there was too much light, tell nothing.
    """
    rows, columns = ((side - 2) // _CELL for side in pixels.shape[:2])
    if min(rows, columns) < 1:
        return 0.0
    tops = range(0, rows * _CELL, _EVERY * _CELL)
    cells = np.concatenate([_deviations(pixels[top : top + _CELL + 2], columns) for top in tops])
    cells = cells[cells > 0]
    return float(np.quantile(cells, _SMOOTHEST)) if len(cells) else 0.0


def _deviations(strip: _Pixels, columns: int) -> npt.NDArray[np.float32]:
    """Of a row of cells with the pixels around it, (10, W, ..), each cell's deviation."""
    luma = strip @ _LUMA if strip.ndim == 3 else strip.astype(np.float32)
    down = luma[:-2] - 2 * luma[1:-1] + luma[2:]
    uneven = np.abs(down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:])[:, : columns * _CELL]
    means: npt.NDArray[np.float32] = uneven.reshape(_CELL, columns, _CELL).mean((0, 2))
    return np.float32(np.sqrt(np.pi / 2) / 6) * means
