"""Modes: how symbols are chosen and coded, and the staircases that go with them."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from .rates import interpolate

# States of the trellis by mode; with one state every latent is quantized for itself.
STATES = {"scalar": 1, "rdoq": 1, "tcq4": 4, "tcq8": 8, "tcq16": 16, "tcq32": 32}

LEVELS_PER_STEP = 1024  # levels lie on this grid
_LARGEST_LEVEL = 64 * LEVELS_PER_STEP

UNIFORM = np.zeros(0, np.float32)  # a fine grid that needs no list: members every half step
UNWEIGHTED = np.zeros(0, np.float32)  # squared errors of all channels count alike


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

    mode: where nothing else is asked for. rate_weights: squared steps that a bit is worth where
    symbols are decided, by mode; where none is given, 0: the nearest.
    """

    mode: str = "scalar"
    rate_weights: dict[str, float] = {}

    def __post_init__(self) -> None:
        for mode, weight in self.rate_weights.items():
            if not 0 <= weight <= 1:
                raise ValueError(f"the rate weight of {mode} must lie in [0, 1], not at {weight}")
