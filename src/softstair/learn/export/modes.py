"""Modes measured on training latents, through the integer path that the codec uses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair import _core
from softstair.quantize.phases import PHASES, phase_map
from softstair.quantize.rates import POSITIONS_PER_OCTAVE, interpolate, nearest_point
from softstair.quantize.staircase import (
    LEVELS_PER_STEP,
    STATES,
    UNWEIGHTED,
    Staircase,
    thresholds_at,
)
from softstair.quantize.tables import TableSet, gaussian_tables, measured_tables

from ..codec import Codec
from ..recipe import Quantizer
from .measure import Integers, Sample

Floats = npt.NDArray[np.float32]

_LEVEL_LIMIT = 1024
# Tables decide levels and levels make tables: so many rounds on a part of the samples come first.
_ROUNDS = {"scalar": 0, "rdoq": 3, "tcq4": 5, "tcq8": 5, "tcq16": 5, "tcq32": 5}
_ROUND_SHARE = 8
_MEMBERS = 8  # of the fine grid that centroids are measured for: four steps
_PSEUDO_COUNT = 200  # weight of a uniform member against residuals
_FREEDOM = 0.24  # steps that a centroid may be off its member, so that centroids rise


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

    rate_weight: squared steps a bit. weights: of every channel's squared errors, (C,) or empty.
    thresholds: of every rate point; if there are any, they decide instead of a search.
    """

    states: int
    staircase: Staircase
    rate_weight: float
    weights: Floats
    tables: TableSet
    thresholds: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Decided:
    """A sample with its symbols decided.

    tile: their encoder. decoded: y^. residual: y - mu. symbols: q. The last two are in steps, all
    (C, h, w).
    """

    tile: _core.TileEncoder
    decoded: Floats
    residual: Floats
    symbols: Floats


def plain_mode(
    integers: Integers,
    name: str,
    quantizer: Quantizer,
    weights: Floats = UNWEIGHTED,
    learned: Learned = NOTHING_LEARNED,
) -> Mode:
    """A mode with the tables of the model's own distribution; levels are uniform or were learned."""
    states = STATES[name]
    staircase = Staircase(quantizer.step, quantizer.skip, learned.levels)
    tables = gaussian_tables(integers.rule, states)
    return Mode(states, staircase, quantizer.rate_weight, weights, tables, learned.thresholds)


def measure_mode(
    codec: Codec,
    integers: Integers,
    taken: list[Sample],
    z_tables: TableSet,
    name: str,
    quantizer: Quantizer,
    weights: Floats = UNWEIGHTED,
    learned: Learned = NOTHING_LEARNED,
) -> Mode:
    """A mode whose tables, and centroids if asked for, fit the symbols that its search chooses.

    Levels that were learned are not replaced by centroids.
    """
    mode = plain_mode(integers, name, quantizer, weights, learned)
    with_centroids = quantizer.centroids and not learned.levels
    rounds = max(_ROUNDS[name], 2 if with_centroids else 0)
    points = len(integers.gains)
    parts = [taken[start::_ROUND_SHARE] for start in range(rounds)] + [taken]
    for part in parts:
        counts = np.zeros((mode.tables.rows, 2 * _LEVEL_LIMIT + 1), np.int64)
        centroids = _Centroids(points)
        for one in part:
            decided = quantize(codec, integers, one, z_tables, mode)
            rows, levels = decided.tile.coded
            clipped = np.clip(levels, -_LEVEL_LIMIT, _LEVEL_LIMIT).astype(np.int64)
            np.add.at(counts, (rows, clipped + _LEVEL_LIMIT), 1)
            centroids.add(one, decided)
        mode = replace(mode, tables=measured_tables(integers.rule, counts, mode.states))
        if with_centroids:
            staircase = Staircase(quantizer.step, quantizer.skip, centroids.levels())
            mode = replace(mode, staircase=staircase)
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
    decoded, residual = np.zeros_like(sample.latents), np.zeros_like(sample.latents)
    phases, grid = phase_map(*sample.latents.shape), staircase.grid(position)
    thresholds = thresholds_at(mode.thresholds, position, grid) if mode.thresholds else None
    for phase in range(PHASES):
        tile.begin_phase()
        one_hot: Tensor = torch.eye(PHASES)[phase][None]
        known = torch.from_numpy(decoded)[None]
        mean = codec.mean_network(known, sample.base, codec.deviation, one_hot)[0].numpy()
        in_steps, here = (sample.latents - mean) * scale[:, None, None], phases == phase
        residual[here] = in_steps[here]
        if thresholds is None:
            tile.quantize(sample.latents, mean, scale, mode.rate_weight, grid, mode.weights, decoded)
        else:
            tile.put(np.ascontiguousarray(thresholds.decide(in_steps).transpose(1, 2, 0)))
            _core.reconstruct_phase(phase, tile.symbols, mode.states, grid, mean, 1 / scale, decoded)
    symbols = tile.symbols.transpose(2, 0, 1).astype(np.float32) / (1 if mode.states == 1 else 2)
    return Decided(tile, decoded, residual, symbols)


def values(symbols: Floats, grid: Floats) -> Floats:
    """Where symbols lie on a fine grid, in steps, the shape of ``symbols``."""
    if not len(grid):
        return symbols
    member = np.abs(2 * symbols)
    last = len(grid) - 1
    inside = grid[np.minimum(member, last).astype(np.int64)]
    return np.sign(symbols) * (inside + np.maximum(member - last, 0) / 2)


class _Centroids:
    """Where residuals lie that became a member of the fine grid, by rate point."""

    def __init__(self, points: int) -> None:
        self._sums, self._counts = np.zeros((points, _MEMBERS)), np.zeros((points, _MEMBERS))

    def add(self, sample: Sample, decided: Decided) -> None:
        symbols = decided.symbols
        member = np.abs(2 * symbols).astype(np.int64)
        listed = (member > 0) & (member <= _MEMBERS)
        along = np.sign(symbols[listed]) * decided.residual[listed]
        point = nearest_point(sample.position, len(self._sums))
        self._sums[point] += np.bincount(member[listed] - 1, along, _MEMBERS)
        self._counts[point] += np.bincount(member[listed] - 1, minlength=_MEMBERS)

    def levels(self) -> list[list[int]]:
        """Centroids by rate point, kept apart so that they rise."""
        uniform = np.arange(1, _MEMBERS + 1) / 2
        centroids = (self._sums + _PSEUDO_COUNT * uniform) / (self._counts + _PSEUDO_COUNT)
        apart = np.clip(centroids, uniform - _FREEDOM, uniform + _FREEDOM)
        return np.rint(apart * LEVELS_PER_STEP).astype(int).tolist()
