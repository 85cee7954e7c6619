"""The rate position as the networks see it: an integer, and hat weights over the rate points.

A rate position ``d`` is an integer in 1/32 octave of gain. Rate points lie every 16 positions;
whatever depends on the rate is stored at the points and interpolated linearly between them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softstair.quantize.rates import POSITIONS_PER_OCTAVE, POSITIONS_PER_POINT

from .rounding import straight_through_grid


def hat_weights(position: Tensor, points: int) -> Tensor:
    """Linear interpolation weights of rate positions over the rate points.

    Args:
        position: int64, shape (B,), in [0, 16 * (points - 1)].
        points: number of rate points.

    Returns:
        float32, shape (B, points); each row sums to one and has at most two non-zeros.
    """
    grid = torch.arange(points, device=position.device) * POSITIONS_PER_POINT
    distance = (position[:, None] - grid[None]).abs().float() / POSITIONS_PER_POINT
    return (1 - distance).clamp_min(0)


def draw_positions(spread: Tensor, points: int, anchor: int | None) -> Tensor:
    """Rate positions of numbers in [0, 1), int64 of their shape: every one as likely, or the anchor."""
    if anchor is not None:
        return torch.full(spread.shape, anchor)
    top = (points - 1) * POSITIONS_PER_POINT
    return (spread * (top + 1)).long()


def multiplier(position: Tensor, base: float) -> Tensor:
    """Lagrangian ``lambda = base * 2**(2 d / 32)``: it grows with the square of the gain.

    Returns float32 (B,), in bits per pixel for a unit of squared error on the 0..255 scale.
    """
    return base * torch.exp2(2.0 * position.float() / POSITIONS_PER_OCTAVE)


def interpolate(hat: Tensor, table: Tensor) -> Tensor:
    """A table (points, ...) at rates whose hat weights are (B, points): (B, ...).

    In the table's precision under autocast, too: bfloat16 would move what prices symbols.
    """
    with torch.autocast(table.device.type, enabled=False):
        mixed = hat.to(table.dtype) @ table.flatten(1)
    return mixed.view(len(hat), *table.shape[1:])


def interpolate_fixed(hat: Tensor, table: Tensor, fraction_bits: int) -> Tensor:
    """The codec's integer interpolation (``quantize.rates.interpolate``), straight through.

    Values at the rate points are rounded to ``2**-fraction_bits``, and so is their mixture.
    """
    points = straight_through_grid(table, fraction_bits)
    return straight_through_grid(interpolate(hat, points), fraction_bits)


class RateBias(nn.Module):
    """A bias per channel and rate point, added to a layer's output."""

    def __init__(self, points: int, channels: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(points, channels))

    def forward(self, hat: Tensor) -> Tensor:
        """hat (B, points) to a bias of shape (B, channels, 1, 1)."""
        bias: Tensor = hat.to(self.table.dtype) @ self.table
        return bias[:, :, None, None]


class Gains(nn.Module):
    """Gain of a latent channel at a rate position: ``2**((d + e_c(d)) / 32)``.

    ``e_c`` is trained as a real number at the rate points; with ``integer`` set it is rounded
    at the points and interpolated by the integer rule of the codec, straight through.
    """

    def __init__(self, points: int, channels: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(points, channels))  # e_c / 32, octaves
        self.integer = False

    def log2(self, position: Tensor, hat: Tensor) -> Tensor:
        """log2 of the gain, float32 (B, C, 1, 1), in octaves."""
        offset = interpolate_fixed(hat, self.offset, 5) if self.integer else interpolate(hat, self.offset)
        octave = position.to(offset.dtype)[:, None] / POSITIONS_PER_OCTAVE
        return (octave + offset)[:, :, None, None]
