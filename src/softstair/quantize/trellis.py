"""Entropy-constrained quantization: choosing levels that minimise squared error plus rate.

    minimise  sum_i  (r_i - value_i)^2 + rate_weight * bits_i

over the levels of all latents at once. With one state every latent stands for itself (RDOQ). With
more, two quantizers take turns: latent i is quantized on the even members of a fine grid or on its
odd ones and zero, and the parities of earlier levels of its lane decide on which (trellis-coded
quantization, M. W. Marcellin and T. R. Fischer, IEEE Trans. Commun. 38(1), 1990; with the
sign-symmetric quantizers of dependent quantization, H. Schwarz et al., DCC 2019). The search is A.
Viterbi's and runs in the C++ core.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from softstair import _core

from .tables import TableSet

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int16]

_NONE = np.zeros(0, np.float32)


def search(
    residual: Floats,
    rows: npt.NDArray[np.int16],
    tables: TableSet,
    *,
    states: int,
    rate_weight: float,
    grid: Floats | None = None,
    lanes: int = 1,
) -> Levels:
    """Levels of latents in coding order, int16 (n,).

    Args:
        residual: float32 (n,), steps: what is left of latents once their means are taken off.
        rows: int16 (n,), table row of every latent.
        tables: what levels cost. With more than one state, row r of quantizer q is row 2 r + q.
        states: 1, 4, 8, 16, 32 or 512.
        rate_weight: squared steps that a bit is worth.
        grid: float32, where the members 0, 1, .. of the fine grid lie, in steps, rising from 0;
            beyond its end, and by default from 0, members follow every half step.
        lanes: 1, 2 or 4; latent i belongs to lane i mod lanes, a trellis of its own.

    Raises:
        ValueError: arrays that do not fit each other, a row that the tables do not have, an
            impossible number of states or lanes, a grid that does not rise from zero.
    """
    return _core.search(
        states,
        tables.core,
        residual,
        rows,
        rate_weight,
        _NONE if grid is None else grid,
        lanes,
    )


def quantizers(levels: Levels, *, states: int, lanes: int = 1) -> Levels:
    """The quantizer, 0 or 1, that every level belongs to, int16 (n,).

    Raises:
        ValueError: an impossible number of states or lanes.
    """
    return _core.follow(states, levels, lanes)


def indices(levels: Levels, *, states: int, lanes: int = 1) -> npt.NDArray[np.int32]:
    """Members of the fine grid that levels stand for: 2k, or 2k - sgn(k) of quantizer 1; int32 (n,)."""
    wide = levels.astype(np.int32)
    return 2 * wide - quantizers(levels, states=states, lanes=lanes) * np.sign(wide)
