"""A rate point whose staircases are learned, and what pictures cost with them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from softstair.quantize.rates import POSITIONS_PER_OCTAVE
from softstair.quantize.staircase import LEVELS_PER_STEP
from softstair.quantize.tables import measured_probabilities

from ..codec import Codec
from ..integer.measure import ROW_RULE
from ..layers.densities import SIGMA_MAX, SIGMA_MIN
from ..layers.rates import hat_weights
from ..layers.stanh import STanH, gaussian_mass
from ..networks import magnitude
from ..recipe import Derive
from ..staircases import Kind, LearnedPoint

LEVEL_LIMIT = 255  # of what is counted
_SHARE_OF_GAPS = 0.05
_ESCAPE_CLASS = 4  # bits


class RatePoint(nn.Module):
    """Staircases of y and z, and how much wider the step is; starts as rounding.

    Levels of z stay whole, since the integer scale network reads them: its thresholds move alone.

    Args:
        kind: what is learned (``staircases.Derivation``); everything else stays where it starts.

    Attributes:
        step: octaves.
    """

    def __init__(self, kind: Kind, settings: Derive) -> None:
        super().__init__()
        self.kind = kind
        self.y = STanH(1 if kind == "dead-zone" else settings.learned)
        self.z = STanH(settings.z_learned)
        self.step = nn.Parameter(torch.zeros(()))
        self.requires_grad_(False)
        learned: dict[str, list[nn.Parameter]] = {
            "uniform": [],
            "dead-zone": [self.y.place],
            "step": [self.step],
            "stanh": [self.y.gap, self.y.place, self.z.place],
        }
        self.learned = learned[kind]
        for parameter in self.learned:
            parameter.requires_grad_(True)

    def share_of(self, parameter: nn.Parameter) -> float:
        """Of the learning rate. Gaps move slower than thresholds.

        Wider gaps all over are but a larger step, of which the rate position is in charge: cost hardly
        changes along that valley, and whoever runs down it first never learns where thresholds belong.
        """
        return _SHARE_OF_GAPS if parameter is self.y.gap else 1.0

    def learn(self) -> None:
        """Let gradients through. What goes forward is hard from the first step on.

        Soft staircases are for transforms that learn with them. To a frozen synthesis they show less
        error than files will have, so that thresholds move too far out, and stay there.
        """
        self.y.beta = self.z.beta = math.inf
        self.y.train()
        self.z.train(self.z.place.requires_grad)

    @torch.no_grad()
    def settle(self) -> None:
        """Round the step to what files can have; levels and thresholds are fine enough as they are."""
        self.step.copy_((self.step * POSITIONS_PER_OCTAVE).round() / POSITIONS_PER_OCTAVE)

    @torch.no_grad()
    def harden(self) -> LearnedPoint:
        """What codecs will use, rounded to whole numbers; only what this kind learns."""
        if self.kind == "step":
            return LearnedPoint(step=round(self.step.item() * POSITIONS_PER_OCTAVE))
        thresholds = _whole(self.y.thresholds())
        if self.kind == "dead-zone":
            return LearnedPoint(thresholds=thresholds)
        if self.kind == "uniform":
            return LearnedPoint()
        levels = self.y.levels()[0, 0].double()
        grid = torch.stack([(levels[:-1] + levels[1:]) / 2, levels[1:]], 1)
        return LearnedPoint(0, _whole(grid), thresholds, _whole(self.z.thresholds()))


def _whole(steps: Tensor) -> list[int]:
    numbers: list[int] = (steps.double().flatten() * LEVELS_PER_STEP).round().long().tolist()
    return numbers


def no_counts() -> npt.NDArray[np.int64]:
    return np.zeros((ROW_RULE.rows, 2 * LEVEL_LIMIT + 1), np.int64)


def prices(counts: npt.NDArray[np.int64]) -> Tensor:
    """Bits of the levels -LEVEL_LIMIT..LEVEL_LIMIT by row, float32, by tables that fit the counts."""
    table = np.empty(counts.shape, np.float32)
    level = np.abs(np.arange(-LEVEL_LIMIT, LEVEL_LIMIT + 1))
    for row, p in enumerate(measured_probabilities(ROW_RULE, counts)):
        largest = len(p) // 2 - 1
        inside = level <= min(largest, LEVEL_LIMIT)
        table[row, inside] = -np.log2(p[largest - level[inside].max() : largest + level[inside].max() + 1])
        beyond = np.floor(np.log2(level[~inside] - largest)) + 1
        table[row, ~inside] = -np.log2(p[-1]) + _ESCAPE_CLASS + beyond
    return torch.from_numpy(table)


@dataclass(frozen=True)
class Coded:
    """What a rate point makes of latents.

    bits: of every picture, (B,). picture: decoded, (B, 3, H, W). counts: how often a table row had the
    level ``column - LEVEL_LIMIT``, int64 (rows, 2 LEVEL_LIMIT + 1).
    """

    bits: Tensor
    picture: Tensor
    counts: npt.NDArray[np.int64]


def code(codec: Codec, position: int, point: RatePoint, y: Tensor, table: Tensor | None) -> Coded:
    """Code latents, (B, C, h, w), differentiable in what the point learns.

    What goes forward is what files hold, up to the order of summation; gradients pass through hard
    staircases as through soft ones, and through the means and scales of later phases, which see what
    earlier ones made. Without these thresholds would move too far out.

    table: bits of the levels as measured on such levels, of ``prices``; None: by the model's Gaussian,
    by which a larger dead zone gains less than half of what it does in files.
    """
    hat = hat_weights(torch.full((len(y),), position), codec.shape.rate_points)
    octaves = codec.gains.log2(torch.full((len(y),), position), hat) - point.step
    gain, step = torch.exp2(octaves), torch.exp2(-octaves)
    z = codec.hyper_analysis(y, codec.deviation, gain.detach(), hat)
    z_hat, z_bits = point.z(z, codec.z_density.mass(hat))
    y_bits, counts = torch.zeros_like(y), no_counts()

    def decide(mean: Tensor, log_scale: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal y_bits
        row = torch.floor((log_scale * POSITIONS_PER_OCTAVE - ROW_RULE.base) / 4).long()
        is_coded = (row >= ROW_RULE.skip) & (mask > 0)
        sigma = torch.exp2(log_scale[is_coded]).clamp(SIGMA_MIN, SIGMA_MAX)
        rows = row[is_coded].clamp_max(ROW_RULE.rows - 1)
        residual = ((y - mean) * gain)[is_coded]
        some, some_bits, level = _quantize(point.y, residual, sigma, rows, table)
        clipped = level.clamp(-LEVEL_LIMIT, LEVEL_LIMIT) + LEVEL_LIMIT
        np.add.at(counts, (rows.numpy(), clipped.numpy()), 1)
        value = torch.zeros_like(y).masked_scatter(is_coded, some)
        y_bits = y_bits + torch.zeros_like(y).masked_scatter(is_coded, some_bits)
        symbol = torch.zeros_like(y).masked_scatter(is_coded, level.to(some.dtype))
        return mean + value * step, magnitude(symbol)

    picture = codec.synthesis(codec.walk(y, z_hat, octaves, hat, decide).decoded, hat)
    return Coded(y_bits.sum((1, 2, 3)) + z_bits.sum((1, 2, 3)), picture, counts)


def _quantize(
    stanh: STanH, residual: Tensor, sigma: Tensor, rows: Tensor, table: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, bits and levels of residuals, all (n,)."""

    def price(index: Tensor) -> Tensor:
        if table is None:
            return stanh.bits(index, gaussian_mass(sigma))
        return table[rows, index.clamp(-LEVEL_LIMIT, LEVEL_LIMIT) + LEVEL_LIMIT]

    value, bits = stanh.priced(residual[None, None], price)
    return value[0, 0], bits[0, 0], stanh.index(residual[None, None])[0, 0]
