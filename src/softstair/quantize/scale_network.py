"""The weights of the integer scale network and the proof that they cannot overflow.

The network itself runs in the C++ core; docs/format/scale-network.md says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from softstair import _core

from .grids import INPUTS


@dataclass(frozen=True)
class Layer:
    """weight: int16 (outputs, inputs, height, width); bias: int32 (outputs,)."""

    weight: npt.NDArray[np.int16]
    bias: npt.NDArray[np.int32]


@dataclass(frozen=True)
class ScaleWeights:
    """All weights of the scale network.

    layers: by the names of ``grids.LAYERS``. rate_bias: int32 (points, hyper width). phase_bias: int32
    (4, width). Both in 2**-9.
    """

    layers: dict[str, Layer]
    rate_bias: npt.NDArray[np.int32]
    phase_bias: npt.NDArray[np.int32]

    def bounds(self) -> dict[str, int]:
        """The largest magnitude that any accumulator of a layer can reach, whatever its input."""
        return {name: _bound(layer, INPUTS[name].magnitude) for name, layer in self.layers.items()}

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
