"""Convolutions of the integer scale network, as training sees them.

In float they are ordinary convolutions with a clipped ReLU. With ``fixed`` set they round
weights, biases and activations to the grids of the integer network with straight-through
gradients; in float64 that forward pass equals the integer one exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rounding import straight_through_grid


class Grid(NamedTuple):
    """A fixed-point activation: integers in [low, high] in units of ``2**-bits``."""

    bits: int
    low: int
    high: int

    def clip(self, x: Tensor) -> Tensor:
        unit = float(1 << self.bits)
        return x.clamp(self.low / unit, self.high / unit)

    def round(self, x: Tensor) -> Tensor:
        return self.clip(straight_through_grid(x, self.bits))


WEIGHT_BITS = 9  # weights are int16 multiples of 2**-9
HIDDEN = Grid(6, 0, 2047)  # after a ReLU: [0, 32)
SIGNED = Grid(6, -2047, 2047)
OCTAVES = Grid(5, -1024, 1023)  # log-scales, in 1/32 octave
MAGNITUDE = Grid(4, 0, 48)  # min(log2(1 + |q|), 3)
HYPER = Grid(0, -127, 127)  # z^


class FixedConvolution(nn.Conv2d):
    """A convolution of stride one whose weights live on the grid of ``WEIGHT_BITS``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, groups: int = 1, *, float32: bool = False
    ) -> None:
        super().__init__(inputs, outputs, kernel, 1, kernel // 2, groups=groups)
        self.fixed = False
        self.float32 = float32  # a head: bfloat16 would be coarser than its grid

    def forward(self, x: Tensor) -> Tensor:
        if not self.fixed and not self.float32:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            if not self.fixed:
                return super().forward(x.float())
            dtype = torch.promote_types(x.dtype, torch.float32)
            weight = straight_through_grid(self.weight.to(dtype), WEIGHT_BITS)
            # A bias is added to the accumulator, whose grid is finer; this one is exact in both.
            assert self.bias is not None  # a fixed layer has one
            bias = straight_through_grid(self.bias.to(dtype), WEIGHT_BITS)
            return F.conv2d(x.to(dtype), weight, bias, 1, self.padding, 1, self.groups)


class FixedPoint(nn.Module):
    """Clips, and rounds when ``fixed``, an accumulator to an activation grid."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.fixed = False

    def forward(self, x: Tensor) -> Tensor:
        return self.grid.round(x) if self.fixed else self.grid.clip(x)
