"""Convolutions of the integer scale network, as training sees them.

In float they are ordinary convolutions with a clipped ReLU. With ``fixed`` set they round
weights, biases and activations to the grids of the integer network with straight-through
gradients; in float64 that forward pass equals the integer one exactly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softstair.quantize.grids import WEIGHT_BITS, Range

from .rounding import straight_through_grid


def clip(x: Tensor, numbers: Range) -> Tensor:
    """Cut to what a fixed-point number holds."""
    unit = float(1 << numbers.bits)
    return x.clamp(numbers.low / unit, numbers.high / unit)


def on_grid(x: Tensor, numbers: Range) -> Tensor:
    """Round to a fixed-point number, straight-through, and cut."""
    return clip(straight_through_grid(x, numbers.bits), numbers)


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

    def __init__(self, grid: Range) -> None:
        super().__init__()
        self.grid = grid
        self.fixed = False

    def forward(self, x: Tensor) -> Tensor:
        return on_grid(x, self.grid) if self.fixed else clip(x, self.grid)
