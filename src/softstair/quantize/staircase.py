"""Modes: how symbols are chosen and coded, and the staircases that go with them.

A decoder needs the levels, an encoder the thresholds, too. Both are whole numbers of 1/1024 step at
rate points, interpolated by one integer rule; whatever was learned, they rise at every position.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from softstair._core import MOST_SMOOTHING

from .rates import interpolate

LEVELS_PER_STEP = 1024  # levels and thresholds lie on this grid
_LARGEST_LEVEL = 64 * LEVELS_PER_STEP
_MOST = 16383  # steps: the core clips there

UNIFORM = np.zeros(0, np.float32)  # a fine grid that needs no list: members every half step


class Staircase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a mode: what both sides know.

    step: how much wider steps are than one over the gain, 1/32 octave. skip: table row below which
    latents are not coded. levels: of every rate point, where the members 1, 2, .. of the fine grid
    lie, in 1/1024 step; beyond the last they follow every half step; none if all do.
    """

    step: int = 0
    skip: int = 0
    levels: list[list[int]] = []

    def __post_init__(self) -> None:
        if not -64 <= self.step <= 64:
            raise ValueError(f"step must lie within two octaves, not at {self.step}")
        if not 0 <= self.skip <= 256:
            raise ValueError(f"skip must be a table row, not {self.skip}")
        if len({len(row) for row in self.levels}) > 1:
            raise ValueError("every rate point needs as many levels")
        if any(not _rises(row) for row in self.levels):
            raise ValueError("levels must rise from zero, to 64 steps at most")

    def grid(self, position: int) -> npt.NDArray[np.float32]:
        """The members 0, 1, .. of the fine grid at a rate position, in steps; empty if uniform."""
        if not self.levels:
            return UNIFORM
        members = interpolate(np.array(self.levels, np.int32), position)
        return np.concatenate([[0], members]).astype(np.float32) / np.float32(LEVELS_PER_STEP)


def _rises(levels: list[int]) -> bool:
    """Steeply enough that levels of two rate points mixed and rounded rise, too."""
    return all(after >= before + 2 for before, after in pairwise([0, *levels])) and (
        not levels or levels[-1] <= _LARGEST_LEVEL
    )


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an encoder does with a bundle and a decoder need not know.

    mode: by default. rate_weights: squared steps that a bit is worth where
    symbols are decided, by mode; where none is given, 0: the nearest. thresholds: by mode, of every
    rate point, where the levels 1, 2, .. begin, in 1/1024 step; those beyond the last begin half-way.
    z_thresholds: the same for z, in all modes. smoothing: of decoded pixels, in grey levels, by rate point,
    in modes of a trellis; where none is given, none. smoothing_of_grain: the share of it that pictures full
    of grain get. context_in_search: a search counts bits as the context of a place would have them, as far
    as an encoder can foresee that.
    """

    mode: str = "scalar"
    rate_weights: dict[str, float] = {}
    thresholds: dict[str, list[list[int]]] = {}
    z_thresholds: list[list[int]] = []
    smoothing: list[int] = []
    smoothing_of_grain: float = 1.0
    context_in_search: bool = False

    def __post_init__(self) -> None:
        for mode, weight in self.rate_weights.items():
            if not 0 <= weight <= 1:
                raise ValueError(f"the rate weight of {mode} must lie in [0, 1], not at {weight}")
        if set(self.thresholds) - {"scalar"}:
            raise ValueError("only the mode scalar decides by thresholds")
        if any(not 0 <= threshold <= MOST_SMOOTHING for threshold in self.smoothing):
            raise ValueError(f"smoothing must lie in 0 to {MOST_SMOOTHING} grey levels")
        if not 0 <= self.smoothing_of_grain <= 1:
            raise ValueError(f"smoothing of grain must be a share in [0, 1], not {self.smoothing_of_grain}")


def check_thresholds(thresholds: list[int], levels: list[int]) -> None:
    """Raises ValueError unless thresholds of a rate point lie between the levels of its fine grid."""
    if levels and len(levels) != 2 * len(thresholds):
        raise ValueError(f"{len(thresholds)} thresholds need {2 * len(thresholds)} levels")
    edges = [0, *levels[1::2]] if levels else [LEVELS_PER_STEP * k for k in range(len(thresholds) + 1)]
    if not all(low < at < high for (low, high), at in zip(pairwise(edges), thresholds, strict=True)):
        raise ValueError("thresholds must lie between the levels that they divide")


@dataclass(frozen=True)
class Thresholds:
    """Where levels begin at one rate position, in steps.

    starts: of the levels 1, 2, .., float32, rising. outermost: the last of these levels; from there
    on levels lie a step apart and begin half-way.
    """

    starts: npt.NDArray[np.float32]
    outermost: np.float32

    def decide(self, residual: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
        """Levels of residuals in steps, of the same shape; on a threshold the one nearer to zero."""
        magnitude = np.abs(residual)
        near = np.searchsorted(self.starts, magnitude)
        far = np.ceil(np.minimum(magnitude, _MOST) - self.outermost - np.float32(0.5))
        level = near + np.maximum(far, 0)
        result: npt.NDArray[np.int16] = np.copysign(level, residual).astype(np.int16)
        return result


def thresholds_at(
    points: list[list[int]], position: int, grid: npt.NDArray[np.float32] = UNIFORM
) -> Thresholds:
    """Thresholds of rate points interpolated; ``grid`` is the fine grid at the position."""
    starts = interpolate(np.array(points, np.int32), position).astype(np.float32) / LEVELS_PER_STEP
    outermost = grid[-1] if len(grid) else np.float32(len(starts))
    return Thresholds(starts.astype(np.float32), outermost)


def rounded(values: npt.NDArray[np.float32], thresholds: Thresholds | None) -> npt.NDArray[np.float32]:
    """Whole numbers, by thresholds or else the nearest."""
    return np.rint(values) if thresholds is None else thresholds.decide(values).astype(np.float32)
