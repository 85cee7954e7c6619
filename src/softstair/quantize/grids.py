"""The grids of the integer path, each once: what training rounds to and files are read with.

The C++ core has its own (docs/format/scale-network.md); tests hold the two together.
"""

from __future__ import annotations

from typing import NamedTuple

STRIDE = 16  # pixels per latent position
ROWS_PER_OCTAVE = 8  # of the tables, by the log-scale of what is coded
WEIGHT_BITS = 9  # weights and rate and phase biases are int16 and int32 multiples of 2**-9


class Range(NamedTuple):
    """A fixed-point number: integers in [low, high] in units of ``2**-bits``."""

    bits: int
    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """The largest, in units."""
        return max(-self.low, self.high)


Z = Range(0, -127, 127)
HIDDEN = Range(6, 0, 2047)  # after a ReLU: [0, 32)
SIGNED = Range(6, -2047, 2047)
OCTAVES = Range(5, -1024, 1023)  # log-scales, in 1/32 octave
MAGNITUDE = Range(4, 0, 48)  # min(log2(1 + |q|), 3)

# What each layer of the scale network reads; its bias is stored on the accumulator's grid.
INPUTS = {
    "hyper": Z,
    "expand": HIDDEN,
    "mix": HIDDEN,
    "log_scale_head": HIDDEN,
    "neighbours": MAGNITUDE,
    "gather": HIDDEN,
    "log_scale_entry": OCTAVES,
    "local": HIDDEN,
    "widen": HIDDEN,
    "correction_head": HIDDEN,
}
LAYERS = tuple(INPUTS)
