"""Modes: how symbols are chosen and coded, and the staircases that go with them."""

from __future__ import annotations

import msgspec
import numpy as np

# States of the trellis by mode; with one state every latent is quantized for itself.
STATES = {"scalar": 1, "rdoq": 1, "tcq4": 4, "tcq8": 8, "tcq16": 16, "tcq32": 32}

UNIFORM = np.zeros(0, np.float32)  # a fine grid that needs no list: members every half step
UNWEIGHTED = np.zeros(0, np.float32)  # squared errors of all channels count alike


class Staircase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a mode: what both sides know.

    step: how much wider steps are than one over the gain, 1/32 octave. skip: table row below which
    latents are not coded.
    """

    step: int = 0
    skip: int = 0

    def __post_init__(self) -> None:
        if not -64 <= self.step <= 64:
            raise ValueError(f"step must lie within two octaves, not at {self.step}")
        if not 0 <= self.skip <= 256:
            raise ValueError(f"skip must be a table row, not {self.skip}")


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
