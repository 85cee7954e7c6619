"""Tables measured on training latents, through the integer path that the codec uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair import _core
from softstair.quantize.phases import PHASES, phase_channels
from softstair.quantize.rates import (
    POSITIONS_PER_OCTAVE,
    POSITIONS_PER_POINT,
    interpolate,
    nearest_point,
)
from softstair.quantize.scalar import thresholds
from softstair.quantize.scale_network import ScaleWeights
from softstair.quantize.tables import (
    RowRule,
    TableSet,
    gaussian_tables,
    integer_cdf,
    join,
    measured_row,
    measured_tables,
)

from ..codec import Codec
from ..layers.rates import hat_weights

_Z_LIMIT = 127  # the scale network clips z^ there
_Z_TAIL = 1e-4
_Z_PSEUDO_COUNT = 30.0
_SYMBOL_LIMIT = 1024


@dataclass(frozen=True)
class Integers:
    """The integer parts of a codec. gains: e_c, int32 (points, C)."""

    weights: ScaleWeights
    gains: npt.NDArray[np.int32]
    rule: RowRule


@dataclass
class _Counts:
    """y: by (row, symbol + limit); z: by (point, channel, symbol + limit)."""

    y: npt.NDArray[np.int64]
    z: npt.NDArray[np.int64]


def measure_tables(
    codec: Codec, integers: Integers, crops: npt.NDArray[np.uint8], rate_weight: float
) -> tuple[TableSet, TableSet]:
    """Tables of y and z from the symbols of crops at every rate point and halfway between.

    Args:
        codec: with fixed grids, on the CPU.
        integers: the same codec's integers.
        crops: uint8, (N, 3, side, side), sides a multiple of 32.
        rate_weight: of the encoder's thresholds, squared steps a bit.
    """
    points, channels = len(integers.gains), codec.shape.hyper_latents
    counts = _Counts(
        np.zeros((integers.rule.rows, 2 * _SYMBOL_LIMIT + 1), np.int64),
        np.zeros((points, channels, 2 * _Z_LIMIT + 1), np.int64),
    )
    prior = _z_prior(codec)
    start = _z_tables(prior, counts.z)
    y_start = gaussian_tables(integers.rule)
    staircase = thresholds(integers.rule, rate_weight)
    positions = range(0, (points - 1) * POSITIONS_PER_POINT + 1, POSITIONS_PER_POINT // 2)
    for crop, position in _spread(crops, list(positions)):
        point = nearest_point(position, points)
        model = _core.Model(
            integers.weights.core,
            start.select(point * channels, channels).core,
            y_start.core,
            integers.rule.base,
            integers.rule.skip,
            interpolate(integers.weights.rate_bias, position),
            (interpolate(integers.gains, position) + position).astype(np.int32),
        )
        _count(codec, integers, model, crop, position, staircase, counts)
    return measured_tables(integers.rule, counts.y), _z_tables(prior, counts.z)


def _spread(
    crops: npt.NDArray[np.uint8], positions: list[int]
) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
    """Every crop at a third of the positions, so that all positions are seen equally often."""
    for index, crop in enumerate(crops):
        for position in positions[index % 3 :: 3]:
            yield crop, position


@torch.no_grad()
def _count(
    codec: Codec,
    integers: Integers,
    model: _core.Model,
    crop: npt.NDArray[np.uint8],
    position: int,
    staircase: npt.NDArray[np.float32],
    counts: _Counts,
) -> None:
    picture = torch.from_numpy(crop)[None].float() / 255
    hat = hat_weights(torch.tensor([position]), codec.shape.rate_points)
    exponent = interpolate(integers.gains, position) + position
    gain = np.exp2(exponent / POSITIONS_PER_OCTAVE).astype(np.float32)
    y = codec.analysis(picture)
    z = codec.hyper_analysis(y, codec.deviation, torch.from_numpy(gain)[None, :, None, None], hat)
    z_hat = z.round().clamp(-_Z_LIMIT, _Z_LIMIT)
    base = codec.mean_network.base(z_hat, hat)
    height, width = y.shape[2:]
    z_symbols = np.ascontiguousarray(z_hat[0].permute(1, 2, 0).numpy().astype(np.int16))
    tile = _core.TileEncoder(model, z_symbols, height, width)
    decoded = np.zeros(y.shape[1:], np.float32)
    rows = []
    for phase in range(PHASES):
        rows.append(tile.begin_phase())
        one_hot: Tensor = torch.eye(PHASES)[phase][None]
        mu = codec.mean_network(torch.from_numpy(decoded)[None].clone(), base, codec.deviation, one_hot)
        tile.quantize(y[0].numpy(), mu[0].numpy(), gain, staircase, decoded)
    symbols = np.clip(tile.symbols, -_SYMBOL_LIMIT, _SYMBOL_LIMIT).astype(np.int64)
    for phase, row in enumerate(rows):
        values = np.take_along_axis(symbols, phase_channels(len(gain), height, width, phase), axis=2)
        coded = row >= 0
        np.add.at(counts.y, (row[coded], values[coded] + _SYMBOL_LIMIT), 1)
    point = nearest_point(position, len(integers.gains))
    channel = np.broadcast_to(np.arange(z_symbols.shape[2]), z_symbols.shape)
    np.add.at(counts.z[point], (channel, z_symbols.astype(np.int64) + _Z_LIMIT), 1)


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
