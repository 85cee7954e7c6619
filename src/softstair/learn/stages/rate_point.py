"""A rate point whose staircases are learned, and what pictures cost with them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from softstair.quantize.rates import POSITIONS_PER_OCTAVE, interpolate
from softstair.quantize.staircase import LEVELS_PER_STEP, Staircase

from ..codec import Codec
from ..export.bundle import ROW_RULE, integers_of
from ..export.measure import measure_z_tables, sample
from ..export.modes import plain_mode, quantize, values
from ..layers.densities import SIGMA_MAX, SIGMA_MIN
from ..layers.rates import hat_weights
from ..layers.stanh import STanH, gaussian_mass
from ..recipe import Derive, Quantizer
from ..staircases import Kind, Point

_LEAST_SIGMA = 0.13  # steps: below, a zero costs 2e-4 bits


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

    def learn(self) -> None:
        """Let gradients through. What goes forward is hard from the first step on.

        Soft staircases are for transforms that learn with them. To a frozen synthesis they show less
        error than files will have, so that thresholds move too far out, and stay there.
        """
        self.y.beta = self.z.beta = math.inf
        self.y.train()
        self.z.train(self.z.place.requires_grad)

    @torch.no_grad()
    def harden(self) -> Point:
        """What codecs will use, rounded to whole numbers; only what this kind learns."""
        if self.kind == "step":
            return Point(step=round(self.step.item() * POSITIONS_PER_OCTAVE))
        thresholds = _whole(self.y.thresholds())
        if self.kind == "dead-zone":
            return Point(thresholds=thresholds)
        if self.kind == "uniform":
            return Point()
        levels = self.y.levels()[0, 0].double()
        grid = torch.stack([(levels[:-1] + levels[1:]) / 2, levels[1:]], 1)
        return Point(0, _whole(grid), thresholds, _whole(self.z.thresholds()))


def _whole(steps: Tensor) -> list[int]:
    numbers: list[int] = (steps.double().flatten() * LEVELS_PER_STEP).round().long().tolist()
    return numbers


@dataclass(frozen=True)
class Constants:
    """What a pass takes as given: latents, and what the hard staircases of the moment make of them.

    y: (B, C, h, w). z: not quantized, (B, Z, h / 2, w / 2). symbols, values: q and where they lie, in
    steps, (B, C, h, w). exponent: log2 of the gain at step zero, octaves, (1, C, 1, 1).
    """

    y: Tensor
    z: Tensor
    symbols: Tensor
    values: Tensor
    exponent: Tensor


class HardPath:
    """The integer path: what files would hold."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._integers = integers_of(codec)
        self._mode = plain_mode(self._integers, "scalar", Quantizer())
        self._z_tables = measure_z_tables(codec, ())

    @torch.no_grad()
    def constants(self, latents: Tensor, position: int, point: Point) -> Constants:
        """Code latents (B, C, h, w) at a rate position with hard staircases."""
        codec, points = self._codec, self._codec.shape.rate_points
        gains = self._integers.gains - np.int32(point.step)
        integers = replace(self._integers, gains=gains, z_thresholds=[point.z_thresholds] * points)
        staircase = Staircase(levels=[point.levels] * points if point.levels else [])
        mode = replace(self._mode, staircase=staircase, thresholds=[point.thresholds] * points)
        grid = staircase.grid(position)
        symbols, lying = [], []
        for one in latents:
            taken = sample(codec, integers, one[None], position)
            decided = quantize(codec, integers, taken, self._z_tables, mode).symbols
            symbols.append(torch.from_numpy(decided))
            lying.append(torch.from_numpy(values(decided, grid)))
        exponent = interpolate(self._integers.gains, position) + np.int32(position)
        octaves = torch.from_numpy(exponent).float()[None, :, None, None] / POSITIONS_PER_OCTAVE
        hat = hat_weights(torch.full((len(latents),), position), points)
        gain = torch.exp2(octaves - point.step / POSITIONS_PER_OCTAVE)
        z = codec.hyper_analysis(latents, codec.deviation, gain, hat)
        return Constants(latents, z, torch.stack(symbols), torch.stack(lying), octaves)


def code(codec: Codec, position: int, point: RatePoint, given: Constants) -> tuple[Tensor, Tensor]:
    """Bits a picture, (B,), and decoded pictures, (B, 3, H, W), differentiable in what a point learns.

    Constant are the latents, all weights, and the symbols that later phases see as context: those of
    the hard staircases of the moment. So bits and pictures are exact where the staircases are hard,
    and gradients leave out only that other symbols would change the context of later ones. Changes
    of z^ do reach means and scales; else a larger dead zone would only ever save bits of z.
    """
    hat = hat_weights(torch.full((len(given.y),), position), codec.shape.rate_points)
    octaves = given.exponent - point.step
    gain, step = torch.exp2(octaves), torch.exp2(-octaves)
    z_hat, z_bits = point.z(given.z, codec.z_density.mass(hat))
    context, log_scale = codec.reconstruct(given.symbols, given.values, z_hat, octaves, hat)
    mean = context - given.values * step
    sigma = torch.exp2(log_scale).clamp(SIGMA_MIN, SIGMA_MAX)
    residual = (given.y - mean) * gain
    is_coded = log_scale >= ROW_RULE.base / POSITIONS_PER_OCTAVE
    # Most latents are zeros that cost nothing, whatever is learned: leaving them out is half the time.
    near = 0.5 * point.y.thresholds().detach().min()
    alive = is_coded & ((sigma > _LEAST_SIGMA) | (residual.abs() > near))
    some_values, some_bits = point.y(residual[alive][None, None], gaussian_mass(sigma[alive]))
    value = torch.zeros_like(residual).masked_scatter(alive, some_values)
    y_bits = torch.zeros_like(residual).masked_scatter(alive, some_bits)
    picture = codec.synthesis(mean + value * step, hat)
    return y_bits.sum((1, 2, 3)) + z_bits.sum((1, 2, 3)), picture
