"""Modes measured on training latents, through the integer path that the codec uses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair import _core
from softstair.quantize.phases import PHASES
from softstair.quantize.rates import POSITIONS_PER_OCTAVE, interpolate, nearest_point
from softstair.quantize.staircase import STATES, Staircase, thresholds_at
from softstair.quantize.tables import TableSet, gaussian_tables, measured_tables

from ..codec import Codec
from ..recipe import Quantizer
from .measure import Integers, Sample

Floats = npt.NDArray[np.float32]

_LEVEL_LIMIT = 1024
# Tables decide levels and levels make tables: so many rounds on a part of the samples come first.
_ROUNDS = {"scalar": 0, "rdoq": 3, "tcq4": 5, "tcq8": 5, "tcq16": 5, "tcq32": 5}
_ROUND_SHARE = 8


@dataclass(frozen=True)
class Learned:
    """Levels and thresholds of every rate point, learned before; empty: rounding.

    They are in the forms of ``quantize.staircase.Staircase`` and ``Encoding``.
    """

    levels: list[list[int]] = field(default_factory=list)
    thresholds: list[list[int]] = field(default_factory=list)


NOTHING_LEARNED = Learned()


@dataclass(frozen=True)
class Mode:
    """A mode as encoder and decoder have it.

    rate_weight: squared steps a bit. thresholds: of every rate point; if there are any, they decide
    instead of a search.
    """

    states: int
    staircase: Staircase
    rate_weight: float
    tables: TableSet
    thresholds: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Decided:
    """A sample with its symbols decided.

    tile: their encoder. decoded: y^. symbols: q, in steps. Both are (C, h, w).
    """

    tile: _core.TileEncoder
    decoded: Floats
    symbols: Floats


def plain_mode(
    integers: Integers, name: str, quantizer: Quantizer, learned: Learned = NOTHING_LEARNED
) -> Mode:
    """A mode with the tables of the model's own distribution; levels are uniform or were learned."""
    states = STATES[name]
    staircase = Staircase(quantizer.step, quantizer.skip, learned.levels)
    tables = gaussian_tables(integers.rule, states)
    return Mode(states, staircase, quantizer.rate_weight, tables, learned.thresholds)


def measure_mode(
    codec: Codec,
    integers: Integers,
    taken: list[Sample],
    z_tables: TableSet,
    name: str,
    quantizer: Quantizer,
    learned: Learned = NOTHING_LEARNED,
) -> Mode:
    """A mode whose tables fit the symbols that its search chooses."""
    mode = plain_mode(integers, name, quantizer, learned)
    parts = [taken[start::_ROUND_SHARE] for start in range(_ROUNDS[name])] + [taken]
    for part in parts:
        counts = np.zeros((mode.tables.rows, 2 * _LEVEL_LIMIT + 1), np.int64)
        for one in part:
            decided = quantize(codec, integers, one, z_tables, mode)
            rows, levels = decided.tile.coded
            clipped = np.clip(levels, -_LEVEL_LIMIT, _LEVEL_LIMIT).astype(np.int64)
            np.add.at(counts, (rows, clipped + _LEVEL_LIMIT), 1)
        mode = replace(mode, tables=measured_tables(integers.rule, counts, mode.states))
    return mode


@torch.no_grad()
def quantize(codec: Codec, integers: Integers, sample: Sample, z_tables: TableSet, mode: Mode) -> Decided:
    """Decide the symbols of a sample as the codec does."""
    position, staircase = sample.position, mode.staircase
    exponent = interpolate(integers.gains, position) + np.int32(position - staircase.step)
    channels = codec.shape.hyper_latents
    point = nearest_point(position, len(integers.gains))
    model = _core.Model(
        integers.weights.core,
        z_tables.select(point * channels, channels).core,
        mode.tables.core,
        integers.rule.base,
        staircase.skip,
        interpolate(integers.weights.rate_bias, position),
        exponent.astype(np.int32),
        mode.states,
    )
    scale = np.exp2(exponent / POSITIONS_PER_OCTAVE).astype(np.float32)
    tile = _core.TileEncoder(model, sample.z, *sample.latents.shape[1:])
    decoded, grid = np.zeros_like(sample.latents), staircase.grid(position)
    thresholds = thresholds_at(mode.thresholds, position, grid) if mode.thresholds else None
    for phase in range(PHASES):
        tile.begin_phase()
        one_hot: Tensor = torch.eye(PHASES)[phase][None]
        known = torch.from_numpy(decoded)[None]
        mean = codec.mean_network(known, sample.base, codec.deviation, one_hot)[0].numpy()
        if thresholds is None:
            tile.quantize(sample.latents, mean, scale, mode.rate_weight, grid, decoded)
        else:
            symbols = thresholds.decide((sample.latents - mean) * scale[:, None, None])
            tile.put(np.ascontiguousarray(symbols.transpose(1, 2, 0)))
            _core.reconstruct_phase(phase, tile.symbols, mode.states, grid, mean, 1 / scale, decoded)
    in_steps = tile.symbols.transpose(2, 0, 1).astype(np.float32) / (1 if mode.states == 1 else 2)
    return Decided(tile, decoded, in_steps)


def values(symbols: Floats, grid: Floats) -> Floats:
    """Where symbols lie on a fine grid, in steps, the shape of ``symbols``."""
    if not len(grid):
        return symbols
    member = np.abs(2 * symbols)
    last = len(grid) - 1
    inside = grid[np.minimum(member, last).astype(np.int64)]
    return np.sign(symbols) * (inside + np.maximum(member - last, 0) / 2)
