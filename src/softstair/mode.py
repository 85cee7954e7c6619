"""Modes: how symbols are chosen and coded."""

from __future__ import annotations

from enum import StrEnum

POSITIONS_PER_LAYER = 32  # rate positions: steps of a layer are half as wide as those of the one before


class Mode(StrEnum):
    """A mode; its value is the name that people and recipes use."""

    SCALAR = "scalar"
    RDOQ = "rdoq"
    TCQ4 = "tcq4"
    TCQ8 = "tcq8"
    TCQ16 = "tcq16"
    TCQ32 = "tcq32"
    TCQ512 = "tcq512"

    @property
    def wire(self) -> int:
        """Its number in a stream."""
        return _WIRE[self]

    @property
    def states(self) -> int:
        """Of the trellis; with one state, every latent is quantized for itself."""
        return _STATES[self]

    @property
    def is_trellis(self) -> bool:
        """Whether two quantizers take turns; symbols are then in half steps."""
        return self.states > 1


# 6 is a stream in layers.
_WIRE = {
    Mode.SCALAR: 0,
    Mode.RDOQ: 1,
    Mode.TCQ4: 2,
    Mode.TCQ8: 3,
    Mode.TCQ16: 4,
    Mode.TCQ32: 5,
    Mode.TCQ512: 7,
}
_STATES = {
    Mode.SCALAR: 1,
    Mode.RDOQ: 1,
    Mode.TCQ4: 4,
    Mode.TCQ8: 8,
    Mode.TCQ16: 16,
    Mode.TCQ32: 32,
    Mode.TCQ512: 512,
}
BY_WIRE = {wire: mode for mode, wire in _WIRE.items()}
