"""Rounding and clipping whose gradients are those that training needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def straight_through_round(x: Tensor) -> Tensor:
    """Round to the nearest integer; the gradient passes as if nothing had happened."""
    return x + (torch.round(x) - x).detach()


def straight_through_grid(x: Tensor, fraction_bits: int) -> Tensor:
    """Round half up to multiples of ``2**-fraction_bits``, straight-through gradient.

    Half up, because ``(v + half) >> shift`` of the integer network does that.
    """
    scale = float(1 << fraction_bits)
    return x + (torch.floor(x * scale + 0.5) / scale - x).detach()


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ((x >= ctx.bound) | (grad < 0)).to(grad.dtype), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """``max(x, bound)``; the gradient also passes below the bound where it would raise ``x``."""
    result: Tensor = _LowerBound.apply(x, bound)
    return result
