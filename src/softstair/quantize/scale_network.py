"""The weights of the integer scale network and the proof that they cannot overflow.

The network itself runs in the C++ core; docs/format/scale-network.md says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from softstair import _core

WEIGHT_BITS = 9  # weights and rate and phase biases are multiples of 2**-9
INT32_MAX = 2**31 - 1

# Largest magnitude of every layer's input, in units of the input's grid.
_INPUT_MAGNITUDE = {
    "hyper": 127,
    "expand": 2047,
    "mix": 2047,
    "log_scale_head": 2047,
    "neighbours": 48,
    "gather": 2047,
    "log_scale_entry": 1024,
    "local": 2047,
    "widen": 2047,
    "correction_head": 2047,
}
# Fraction bits of every layer's input; its bias is stored on the accumulator's grid.
INPUT_BITS = {
    "hyper": 0,
    "expand": 6,
    "mix": 6,
    "log_scale_head": 6,
    "neighbours": 4,
    "gather": 6,
    "log_scale_entry": 5,
    "local": 6,
    "widen": 6,
    "correction_head": 6,
}
LAYERS = tuple(_INPUT_MAGNITUDE)


@dataclass(frozen=True)
class Layer:
    """weight: int16 (outputs, inputs, height, width); bias: int32 (outputs,)."""

    weight: npt.NDArray[np.int16]
    bias: npt.NDArray[np.int32]


@dataclass(frozen=True)
class ScaleWeights:
    """All weights of the scale network.

    layers: by the names of ``LAYERS``. rate_bias: int32 (points, hyper width). phase_bias: int32
    (4, width). Both in 2**-9.
    """

    layers: dict[str, Layer]
    rate_bias: npt.NDArray[np.int32]
    phase_bias: npt.NDArray[np.int32]

    def bounds(self) -> dict[str, int]:
        """The largest magnitude that any accumulator of a layer can reach, whatever its input."""
        return {name: _bound(layer, _INPUT_MAGNITUDE[name]) for name, layer in self.layers.items()}

    @cached_property
    def core(self) -> _core.ScaleNetwork:
        """The network of the C++ core. Raises ValueError if anything is misshapen or too large."""
        return self.build(simd=True)

    def build(self, *, simd: bool) -> _core.ScaleNetwork:
        """The network with or without vector kernels; both give the same integers."""
        layers = {name: (layer.weight, layer.bias) for name, layer in self.layers.items()}
        return _core.ScaleNetwork(layers, self.phase_bias.reshape(-1), simd=simd)


def _bound(layer: Layer, magnitude: int) -> int:
    weights = np.abs(layer.weight.astype(np.int64)).sum(axis=(1, 2, 3))
    return int((weights * magnitude + np.abs(layer.bias.astype(np.int64))).max())
