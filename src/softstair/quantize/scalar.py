"""Scalar quantization: rounding whose thresholds weigh error against rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .tables import RowRule, gaussian

THRESHOLDS = 4  # of a table row; larger symbols are rounded
_UNLIKELY = 1e-12
_WIDEST = 0.95  # a threshold passes its symbol never by more: the symbol stays in reach


def thresholds(rule: RowRule, rate_weight: float) -> npt.NDArray[np.float32]:
    """Where residuals of a table row reach the symbols 1 to 4, in steps.

    A residual r becomes k - 1 rather than k if that is cheaper in squared error plus rate,
    ``(r - k + 1)^2 + w b_{k-1} < (r - k)^2 + w b_k``, so if
    ``r < k - 1/2 + w (b_k - b_{k-1}) / 2``; b are bits by the row's Gaussian (G. Sullivan,
    "Efficient scalar quantization of exponential and Laplacian random variables", IEEE Trans. Inf.
    Theory 42(5), 1996).

    Args:
        rule: how rows and sigmas belong together.
        rate_weight: w, squared steps a bit; 0 is plain rounding.

    Returns:
        float32, shape (rows, 4); the k-th lies in [k - 0.5, k - 0.05].
    """
    widths = np.full((rule.rows, THRESHOLDS), _WIDEST if rate_weight else 0.5)
    for row in range(rule.rows):
        p = gaussian(rule.sigma(row), THRESHOLDS)[THRESHOLDS:-1]
        likely = p[1:] > _UNLIKELY  # others keep the widest step
        dearer = np.log2(p[:-1][likely] / p[1:][likely])
        widths[row, likely] = np.minimum(0.5 + 0.5 * rate_weight * dearer, _WIDEST)
    result: npt.NDArray[np.float32] = (widths + np.arange(THRESHOLDS)).astype(np.float32)
    return result
