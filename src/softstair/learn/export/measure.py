"""Samples of training latents, and tables of z measured on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair.quantize.rates import (
    POSITIONS_PER_OCTAVE,
    POSITIONS_PER_POINT,
    interpolate,
    nearest_point,
)
from softstair.quantize.scale_network import ScaleWeights
from softstair.quantize.staircase import rounded, thresholds_at
from softstair.quantize.tables import (
    RowRule,
    TableSet,
    integer_cdf,
    join,
    measured_row,
)

from ..codec import Codec
from ..layers.rates import hat_weights

_Z_LIMIT = 127  # the scale network clips z^ there
_Z_TAIL = 1e-4
_Z_PSEUDO_COUNT = 30.0


@dataclass(frozen=True)
class Integers:
    """The integer parts of a codec.

    gains: e_c, int32 (points, C). rule: with nothing skipped. z_thresholds: of every rate point, as an
    encoder has them (``quantize.staircase.Encoding``).
    """

    weights: ScaleWeights
    gains: npt.NDArray[np.int32]
    rule: RowRule
    z_thresholds: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """A crop at a rate position: latents (C, h, w), z^ as symbols (h/2, w/2, Z), what means share."""

    position: int
    latents: npt.NDArray[np.float32]
    z: npt.NDArray[np.int16]
    base: Tensor


def samples(codec: Codec, integers: Integers, crops: npt.NDArray[np.uint8]) -> list[Sample]:
    """Every crop at a third of the rate points and of the places halfway between.

    Args:
        codec: with fixed grids, on the CPU.
        integers: the same codec's integers.
        crops: uint8, (N, 3, side, side), sides a multiple of 32.
    """
    last = (len(integers.gains) - 1) * POSITIONS_PER_POINT
    positions = range(0, last + 1, POSITIONS_PER_POINT // 2)
    result = []
    for index, crop in enumerate(crops):
        y = latents_of(codec, crop)
        result += [sample(codec, integers, y, position) for position in positions[index % 3 :: 3]]
    return result


def measure_z_tables(codec: Codec, taken: Iterable[Sample]) -> TableSet:
    """A row for every rate point and channel, point by point."""
    points, channels = codec.shape.rate_points, codec.shape.hyper_latents
    counts = np.zeros((points, channels, 2 * _Z_LIMIT + 1), np.int64)
    for one in taken:
        channel = np.broadcast_to(np.arange(channels), one.z.shape)
        point = nearest_point(one.position, points)
        np.add.at(counts[point], (channel, one.z.astype(np.int64) + _Z_LIMIT), 1)
    return _z_tables(_z_prior(codec), counts)


@torch.no_grad()
def latents_of(codec: Codec, crop: npt.NDArray[np.uint8]) -> Tensor:
    """y of pixels (3, H, W), float32 (1, C, h, w)."""
    return codec.analysis(torch.from_numpy(crop)[None].float() / 255)


@torch.no_grad()
def sample(codec: Codec, integers: Integers, y: Tensor, position: int) -> Sample:
    """Latents (1, C, h, w), h and w even, at a rate position."""
    hat = hat_weights(torch.tensor([position]), codec.shape.rate_points)
    exponent = interpolate(integers.gains, position) + position
    gain = torch.from_numpy(np.exp2(exponent / POSITIONS_PER_OCTAVE).astype(np.float32))
    z = codec.hyper_analysis(y, codec.deviation, gain[None, :, None, None], hat)
    thresholds = thresholds_at(integers.z_thresholds, position) if integers.z_thresholds else None
    planes = np.clip(rounded(z.contiguous().numpy(), thresholds), -_Z_LIMIT, _Z_LIMIT)
    symbols = np.ascontiguousarray(planes[0].transpose(1, 2, 0).astype(np.int16))
    z_hat = torch.from_numpy(planes)
    return Sample(position, y[0].contiguous().numpy(), symbols, codec.mean_network.base(z_hat, hat))


@torch.no_grad()
def _z_prior(codec: Codec) -> npt.NDArray[np.float64]:
    """The density's probabilities, (points, channels, 2 * limit + 1)."""
    points, channels = codec.shape.rate_points, codec.shape.hyper_latents
    symbols = torch.arange(-_Z_LIMIT, _Z_LIMIT + 1).float()
    grid = symbols.view(1, 1, 1, -1).expand(points, channels, 1, -1)
    p = codec.z_density.probability(grid, torch.eye(points))
    return p[:, :, 0].double().numpy()


def _z_tables(prior: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> TableSet:
    """A row for every rate point and channel, its alphabet cut where almost nothing is left."""
    rows = []
    for p, seen in zip(prior.reshape(-1, prior.shape[-1]), counts.reshape(-1, counts.shape[-1]), strict=True):
        share = (p + seen / max(seen.sum(), 1)) / 2
        outside = np.array([1 - share[_Z_LIMIT - k : _Z_LIMIT + k + 1].sum() for k in range(_Z_LIMIT)])
        largest = int(np.argmax(outside < _Z_TAIL)) if (outside < _Z_TAIL).any() else _Z_LIMIT - 1
        inside = slice(_Z_LIMIT - largest, _Z_LIMIT + largest + 1)
        folded = np.append(seen[inside], seen.sum() - seen[inside].sum())
        expected = np.append(p[inside], max(1 - p[inside].sum(), 0))
        rows.append(integer_cdf(measured_row(folded, expected, _Z_PSEUDO_COUNT, symmetric=False)))
    return join(rows)
