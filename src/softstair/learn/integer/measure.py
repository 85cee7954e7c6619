"""A codec as integers, and its tables, measured on what the product's own coder makes of crops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair.codec.geometry import Geometry
from softstair.codec.tile import Analysed, Begun, TileCoder
from softstair.mode import Mode
from softstair.quantize.grids import STRIDE, Z
from softstair.quantize.rates import POSITIONS_PER_POINT, nearest_point
from softstair.quantize.setting import Coding, Integers
from softstair.quantize.staircase import Staircase
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
from ..recipe import Quantizer
from ..staircases import Derivation
from ..torch_networks import TorchNetworks
from .weights import integer_gains, integer_weights

# Rows from sigma 0.11 to 89 steps; what lies below is not coded.
ROW_RULE = RowRule(base=-102, skip=0, rows=78)
Z_LIMIT = Z.magnitude
_Z_TAIL = 1e-4
_Z_PSEUDO_COUNT = 30.0
_LEVEL_LIMIT = 1024
# Tables decide levels and levels make tables: so many rounds on a part of the samples come first.
_ROUNDS = {mode: 0 if mode is Mode.SCALAR else 5 if mode.is_trellis else 3 for mode in Mode}
_ROUND_SHARE = 8


def integers_of(
    codec: Codec, quantizers: Mapping[Mode, Quantizer], derivation: Derivation | None = None
) -> Integers:
    """A codec on fixed grids as integers, with tables of the model's own distributions.

    Args:
        quantizers: the modes and their settings.
        derivation: staircases that were learned. Steps and thresholds of z are for all modes; levels and
            thresholds of y for the mode scalar, where they decide instead of a search.

    Raises:
        InvalidBundle: the scale network could overflow.
    """
    points = [] if derivation is None else derivation.of(codec.shape.positions)
    steps = np.array([[point.step] for point in points] or [[0]], np.int32)
    codings = {
        mode: Coding(
            Staircase(one.step, one.skip, _given([point.levels for point in points], mode)),
            gaussian_tables(ROW_RULE, mode.states),
            one.rate_weight,
            _given([point.thresholds for point in points], mode),
        )
        for mode, one in quantizers.items()
    }
    return Integers(
        integer_weights(codec),
        integer_gains(codec) - steps,
        ROW_RULE.base,
        measure_z_tables(codec, ()),
        codings,
        _given([point.z_thresholds for point in points]),
    )


def _given(rows: list[list[int]], mode: Mode = Mode.SCALAR) -> list[list[int]]:
    """Learned numbers of all rate points, if there are any and they are for this mode."""
    return rows if mode is Mode.SCALAR and rows and rows[0] else []


def measured(codec: Codec, integers: Integers, crops: npt.NDArray[np.uint8]) -> Integers:
    """The integers with tables that fit the symbols which every mode chooses.

    Args:
        codec: with fixed grids, on the CPU.
        integers: the same codec's.
        crops: uint8, (N, 3, side, side), sides a multiple of 32.
    """
    networks = TorchNetworks(codec)
    samples = begin_crops(codec, integers, crops)
    integers = replace(integers, z_tables=measure_z_tables(codec, samples))
    codings = {mode: measure_coding(networks, integers, samples, mode) for mode in integers.codings}
    return replace(integers, codings=codings)


@torch.no_grad()
def latents_of(codec: Codec, crop: npt.NDArray[np.uint8]) -> Tensor:
    """y of pixels (3, H, W), float32 (1, C, h, w)."""
    return codec.analysis(torch.from_numpy(crop)[None].float() / 255)


def analysed(codec: Codec, crop: npt.NDArray[np.uint8]) -> Analysed:
    """Latents of pixels (3, H, W), sides multiples of 32, as the product's coder takes them."""
    latents = latents_of(codec, crop).contiguous().numpy()
    return Analysed(Geometry(STRIDE * latents.shape[3], STRIDE * latents.shape[2]), latents)


def begin_crops(codec: Codec, integers: Integers, crops: npt.NDArray[np.uint8]) -> list[Begun]:
    """Every crop at a third of the rate points and of the places halfway between."""
    coder = TileCoder(integers, TorchNetworks(codec), next(iter(integers.codings)))
    return begin_all(coder, integers, (analysed(codec, crop) for crop in crops))


def begin_all(coder: TileCoder, integers: Integers, latents: Iterable[Analysed]) -> list[Begun]:
    """Each at a third of the rate points and of the places halfway between."""
    positions = range(0, integers.last_position + 1, POSITIONS_PER_POINT // 2)
    return [
        coder.begin(one, position)
        for index, one in enumerate(latents)
        for position in positions[index % 3 :: 3]
    ]


def measure_coding(
    networks: TorchNetworks, integers: Integers, samples: Sequence[Begun], mode: Mode
) -> Coding:
    """A mode's coding with tables of the symbols that its search chooses by these tables."""
    coding = integers.codings[mode]
    for part in [*(samples[start::_ROUND_SHARE] for start in range(_ROUNDS[mode])), samples]:
        coding = with_tables_of(
            TileCoder(replace(integers, codings={mode: coding}), networks, mode), coding, part
        )
    return coding


def with_tables_of(coder: TileCoder, coding: Coding, samples: Iterable[Begun]) -> Coding:
    """A coding with tables that fit the rows and levels which a coder of it decides."""
    counts = np.zeros((coding.tables.rows, 2 * _LEVEL_LIMIT + 1), np.int64)
    for sample in samples:
        rows, levels = coder.decide(sample).tile.coded
        clipped = np.clip(levels, -_LEVEL_LIMIT, _LEVEL_LIMIT).astype(np.int64)
        np.add.at(counts, (rows, clipped + _LEVEL_LIMIT), 1)
    return replace(coding, tables=measured_tables(ROW_RULE, counts, coder.mode.states))


def measure_z_tables(codec: Codec, samples: Iterable[Begun]) -> TableSet:
    """A row for every rate point and channel, point by point; of no samples, what the density says."""
    counts = count_z(samples, codec.shape.rate_points, codec.shape.hyper_latents)
    return _z_tables(_z_prior(codec), counts)


def count_z(samples: Iterable[Begun], points: int, channels: int) -> npt.NDArray[np.int64]:
    """How often each symbol of z was there, (points, channels, 2 * limit + 1)."""
    counts = np.zeros((points, channels, 2 * Z_LIMIT + 1), np.int64)
    for one in samples:
        channel = np.broadcast_to(np.arange(channels), one.z.shape)
        point = nearest_point(one.position, points)
        np.add.at(counts[point], (channel, one.z.astype(np.int64) + Z_LIMIT), 1)
    return counts


@torch.no_grad()
def _z_prior(codec: Codec) -> npt.NDArray[np.float64]:
    """The density's probabilities, (points, channels, 2 * limit + 1)."""
    points, channels = codec.shape.rate_points, codec.shape.hyper_latents
    symbols = torch.arange(-Z_LIMIT, Z_LIMIT + 1).float()
    grid = symbols.view(1, 1, 1, -1).expand(points, channels, 1, -1)
    p = codec.z_density.probability(grid, torch.eye(points))
    return p[:, :, 0].double().numpy()


def _z_tables(prior: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> TableSet:
    """A row for every rate point and channel, its alphabet cut where almost nothing is left."""
    rows = []
    for p, seen in zip(prior.reshape(-1, prior.shape[-1]), counts.reshape(-1, counts.shape[-1]), strict=True):
        share = (p + seen / max(seen.sum(), 1)) / 2
        outside = np.array([1 - share[Z_LIMIT - k : Z_LIMIT + k + 1].sum() for k in range(Z_LIMIT)])
        largest = int(np.argmax(outside < _Z_TAIL)) if (outside < _Z_TAIL).any() else Z_LIMIT - 1
        inside = slice(Z_LIMIT - largest, Z_LIMIT + largest + 1)
        folded = np.append(seen[inside], seen.sum() - seen[inside].sum())
        expected = np.append(p[inside], max(1 - p[inside].sum(), 0))
        rows.append(integer_cdf(measured_row(folded, expected, _Z_PSEUDO_COUNT, symmetric=False)))
    return join(rows)
