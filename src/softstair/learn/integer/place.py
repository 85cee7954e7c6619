"""The context networks of a place: trained on symbols that a search chose, then rounded to integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softstair.quantize.context import (
    BLOCK,
    GROWING,
    GROWTH_BITS,
    LARGEST_SIGN,
    MEAN_BITS,
    MEAN_PLACES,
    NEAR,
    ROW_BITS,
    SURPRISE_BITS,
    UNIT_BITS,
    WEIGHT_BITS,
    PlaceContext,
    SignContext,
    reading_order,
)
from softstair.quantize.phases import PHASES
from softstair.quantize.rates import POSITIONS_PER_POINT
from softstair.quantize.tables import TableSet

from .symbols import MOST_HALF_STEPS, Symbols

_LEVELS = (MOST_HALF_STEPS + 1) // 2  # magnitudes of levels that are told apart
_BATCH, _RATE = 1500, 0.02
_GAIN_BITS = 8
_LEANS, _LEAN = 31, 0.2  # how far signs lean at most, and a step of it: in logits
_LEAST_UNIT = 0.3  # steps: of rows whose symbols are small


class _Network(nn.Module):
    """Sums of what was seen at a place and near it, by group; blocks see only those before them.

    group: channels of a group. nears: what is seen near.
    """

    def __init__(self, group: int, nears: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(PHASES, group, group))
        self.near = nn.Parameter(torch.zeros(PHASES, PHASES, nears, group))
        block = torch.arange(group) % (group // BLOCK)
        self.register_buffer("mask", (block[:, None] > block[None, :]).float())

    def masked(self) -> Tensor:
        """The weights of the place, (groups, output, input)."""
        return self.weight * self.get_buffer("mask")

    def sums(self, seen: Tensor, near: Tensor, phases: Tensor) -> Tensor:
        """seen (groups, N, G), near (nears, groups, N, G), phases (groups, N) to (groups, N, G)."""
        of_phase = self.near[phases, torch.arange(PHASES)[:, None]]  # (groups, N, nears, G)
        return seen @ self.masked().transpose(1, 2) + (near.permute(1, 2, 0, 3) * of_phase).sum(2)


class PlaceNetwork(_Network):
    """Corrections of table rows, in rows, of all latents of a group at a place.

    group: channels of a group. rows: of the tables.
    """

    def __init__(self, group: int, rows: int) -> None:
        super().__init__(group, len(NEAR) + len(MEAN_PLACES))
        self.gain = nn.Parameter(torch.ones(rows))
        self.bias = nn.Parameter(torch.zeros(rows))

    def forward(self, surprise: Tensor, near: Tensor, rows: Tensor, phases: Tensor) -> Tensor:
        """surprise and rows (groups, N, G), near (6, groups, N, G), phases (groups, N) to rows more."""
        row = rows.clamp(min=0)
        return self.sums(surprise, near, phases) * self.gain[row] + self.bias[row]


class SignNetwork(_Network):
    """Which sign latents of a group at a place have, in logits.

    group: channels of a group. rows: of the tables.
    """

    def __init__(self, group: int, rows: int) -> None:
        super().__init__(group, len(NEAR))
        self.gain = nn.Parameter(torch.full((rows,), 0.5))
        self.raw_growth = nn.Parameter(torch.full((rows,), -2.0))

    def growth(self) -> Tensor:
        """How much more a row leans with every step of a level."""
        return F.softplus(self.raw_growth)

    def forward(self, signs: Tensor, near: Tensor, rows: Tensor, phases: Tensor, levels: Tensor) -> Tensor:
        """signs, rows, levels (groups, N, G), near (4, groups, N, G), phases (groups, N) to logits."""
        row = rows.clamp(min=0)
        more = 1 + self.growth()[row] * (levels.clamp(1, GROWING) - 1)
        return self.sums(signs, near, phases) * self.gain[row] * more


class _Batch(NamedTuple):
    """Some places of all groups, (groups, N, G); near and means: what is seen there, in front of that."""

    rows: Tensor
    levels: Tensor
    quantizers: Tensor
    half_steps: Tensor
    near_rows: Tensor
    near_half_steps: Tensor
    means: Tensor
    phases: Tensor  # (groups, N)


@dataclass(frozen=True)
class _Surprise:
    """How much larger symbols are than rows let expect."""

    expected: Tensor  # magnitude, by row
    magnitudes: Tensor  # by number of half steps

    def of(self, rows: Tensor, half_steps: Tensor) -> Tensor:
        """Zero where nothing is coded."""
        return (self.magnitudes[half_steps.abs()] - self.expected[rows.clamp(min=0)]) * (rows >= 0)

    def of_place(self, batch: _Batch) -> tuple[Tensor, Tensor]:
        """Of the place, and of what is near it with the means: as ``PlaceNetwork`` takes them."""
        near = self.of(batch.near_rows, batch.near_half_steps)
        return self.of(batch.rows, batch.half_steps), torch.cat([near, batch.means])


def train_place(symbols: Symbols, tables: TableSet, seed: int, steps: int) -> PlaceContext:
    """A context network that makes symbols cheap by given tables: those of the mode that chose them."""
    torch.manual_seed(seed)
    rows = tables.rows // symbols.quantizers
    surprise = _Surprise(_mean_of_rows(symbols, rows, symbols.magnitudes), symbols.magnitudes)
    means = symbols.means(surprise.of)
    bits = _bits(tables)
    network = PlaceNetwork(symbols.group, rows)

    def cost(at: Tensor) -> Tensor:
        batch = _batch(symbols, at, means)
        change = network(*surprise.of_place(batch), batch.rows, batch.phases)
        return _cost(batch, change, bits, rows, symbols.quantizers)

    _train(network, cost, lambda: symbols.drawn(_BATCH), steps)
    return _integers(network, surprise.expected)


def train_signs(symbols: Symbols, place: PlaceContext, seed: int, steps: int) -> SignContext:
    """A context network that tells signs of symbols.

    place: which corrects the rows that symbols are read with.
    """
    torch.manual_seed(seed)
    rows = len(place.expected)
    surprise = _Surprise(torch.from_numpy(place.expected) / (1 << SURPRISE_BITS), symbols.magnitudes)
    means = symbols.means(surprise.of)
    of_place, network = _floating(place), SignNetwork(symbols.group, rows)
    half_steps = torch.arange(MOST_HALF_STEPS + 1) / 2
    unit = 1 / _mean_of_rows(symbols, rows, half_steps).clamp(min=_LEAST_UNIT)
    shares = _shares(symbols)

    def signs(rows: Tensor, half_steps: Tensor) -> Tensor:
        return (half_steps / 2 * unit[rows.clamp(min=0)] * (rows >= 0)).clamp(-LARGEST_SIGN, LARGEST_SIGN)

    def cost(at: Tensor) -> Tensor:
        batch = _batch(symbols, at, means)
        with torch.no_grad():
            change = of_place(*surprise.of_place(batch), batch.rows, batch.phases)
            corrected = (batch.rows + change).round().clamp(0, rows - 1).long()
        seen, near = signs(batch.rows, batch.half_steps), signs(batch.near_rows, batch.near_half_steps)
        logits = network(seen, near, corrected, batch.phases, batch.levels)
        there = (batch.half_steps != 0) & (batch.rows >= 0)
        return F.softplus(-logits[there] * batch.half_steps[there].sign()).sum()

    _train(network, cost, lambda: symbols.drawn(_BATCH, shares), steps)
    order = torch.from_numpy(reading_order(symbols.group))
    weight = network.masked()[:, order][:, :, order]
    skew = torch.tanh(torch.arange(1, _LEANS + 1) * (_LEAN / 2))
    return SignContext(
        _rounded(weight.transpose(1, 2), WEIGHT_BITS),
        _rounded(network.near[..., order], WEIGHT_BITS),
        _rounded(network.gain / _LEAN, _GAIN_BITS),
        _rounded(unit / 2, UNIT_BITS),
        _rounded(network.growth(), GROWTH_BITS),
        np.minimum(_rounded(skew, 8), 255).astype(np.int16),
    )


def _batch(symbols: Symbols, at: Tensor, means: Tensor) -> _Batch:
    rows, levels, quantizers, half_steps = symbols.at(at)
    near = [symbols.at(at + away) for away in symbols.near]
    return _Batch(
        rows,
        levels,
        quantizers,
        half_steps,
        torch.stack([one[0] for one in near]),
        torch.stack([one[3] for one in near]),
        means[:, :, symbols.line_of(at)].float(),
        symbols.phases_of(at),
    )


def _shares(symbols: Symbols) -> Tensor:
    """How often each crop is drawn: less at high rates, whose symbols were else all that counts."""
    point = symbols.positions // POSITIONS_PER_POINT
    density = symbols.density()
    share = torch.empty(len(point))
    for one in point.unique():
        share[point == one] = density[point == one].mean().clamp(min=1e-3) ** -0.5
    return share


def _train(
    network: nn.Module, cost: Callable[[Tensor], Tensor], draw: Callable[[], Tensor], steps: int
) -> None:
    """Steps of Adam on what some places cost."""
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (1 - step / steps) + 1e-5
        loss = cost(draw()) / _BATCH
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _cost(batch: _Batch, change: Tensor, bits: Tensor, rows: int, per_row: int) -> Tensor:
    """Bits of all coded latents; between rows, along a straight line."""
    coded = batch.rows >= 0
    row = (batch.rows[coded] + change[coded]).clamp(0, rows - 1.001)
    below = row.detach().floor().long()
    levels, quantizers = batch.levels[coded], batch.quantizers[coded]
    low = bits[per_row * below + quantizers, levels]
    high = bits[per_row * (below + 1) + quantizers, levels]
    return (low + (high - low) * (row - below)).sum()


def _mean_of_rows(symbols: Symbols, rows: int, values: Tensor) -> Tensor:
    """Mean of a value, by half steps, of the symbols of a row; rows hardly seen have that of neighbours."""
    counts = symbols.counts(rows)
    count = counts.sum(1)
    mean, seen = counts @ values.double() / count.clamp(min=1), count >= 50
    if not seen.any():
        return torch.zeros(rows)
    at = np.flatnonzero(seen.numpy())
    return torch.from_numpy(np.interp(np.arange(rows), at, mean[seen].numpy()).astype(np.float32))


def _bits(tables: TableSet) -> Tensor:
    """What a level of a magnitude costs by each row, (rows, _LEVELS + 1)."""
    costs = np.zeros((tables.rows, _LEVELS + 1), np.float32)
    for row in range(tables.rows):
        p = tables.probabilities(row)
        largest = len(p) // 2 - 1
        for level in range(_LEVELS + 1):
            if level <= largest:
                costs[row, level] = -np.log2((p[largest + level] + p[largest - level]) / 2)
            else:
                costs[row, level] = -np.log2(p[-1]) + 5 + np.floor(np.log2(level - largest))
    return torch.from_numpy(costs)


def _bits_of_near() -> Tensor:
    """Bits behind the point of weights of what is near: means have more of them, their weights less."""
    return torch.tensor(
        [WEIGHT_BITS] * len(NEAR) + [WEIGHT_BITS + SURPRISE_BITS - MEAN_BITS] * len(MEAN_PLACES)
    )


def _integers(network: PlaceNetwork, expected: Tensor) -> PlaceContext:
    near = network.near * 2.0 ** _bits_of_near()[:, None]
    return PlaceContext(
        _rounded(network.masked(), WEIGHT_BITS),
        _rounded(near, 0),
        _rounded(expected, SURPRISE_BITS),
        _rounded(network.gain, _GAIN_BITS),
        _rounded(network.bias, ROW_BITS),
    )


@torch.no_grad()
def _floating(place: PlaceContext) -> PlaceNetwork:
    """The network again, of its integers."""
    network = PlaceNetwork(place.weight.shape[1], len(place.expected))
    network.weight.copy_(torch.from_numpy(place.weight) / (1 << WEIGHT_BITS))
    network.near.copy_(torch.from_numpy(place.near) / 2.0 ** _bits_of_near()[:, None])
    network.gain.copy_(torch.from_numpy(place.gain) / (1 << _GAIN_BITS))
    network.bias.copy_(torch.from_numpy(place.bias) / (1 << ROW_BITS))
    return network


def _rounded(values: Tensor, bits: int) -> npt.NDArray[np.int16]:
    whole = torch.floor(values.detach() * (1 << bits) + 0.5).clamp(-32767, 32767)
    return np.ascontiguousarray(whole.numpy().astype(np.int16))
