"""The context networks of a place: trained on symbols that a search chose, then rounded to integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softstair.quantize.context import (
    BLOCK,
    NEAR,
    ROW_BITS,
    SURPRISE_BITS,
    WEIGHT_BITS,
    PlaceContext,
    SignContext,
    reading_order,
)
from softstair.quantize.grids import MAGNITUDE
from softstair.quantize.phases import PHASES, phase_map
from softstair.quantize.rates import POSITIONS_PER_POINT
from softstair.quantize.tables import TableSet

_LEVELS = 64  # magnitudes of levels that are told apart
_BATCH, _RATE = 1500, 0.02
_GAIN_BITS = 8
_LARGEST_SIGN = 2  # half steps that a symbol counts at most
_LEANS, _LEAN = 7, 0.2  # classes of signs that lean, and how far apart they are: in logits

Planes = dict[str, Tensor]


@dataclass(frozen=True)
class Sample:
    """A tile as a search decided it, phase by phase: int16 (4, h, w, C / 4), zero where nothing is coded.

    position: its rate. rows: of the scale network; -1 where nothing is coded. levels, quantizers: as they
    are coded.
    """

    position: int
    rows: npt.NDArray[np.int16]
    levels: npt.NDArray[np.int16]
    quantizers: npt.NDArray[np.int16]


class PlaceNetwork(nn.Module):
    """Corrections of table rows, in rows, of all latents of a group at a place.

    group: channels of a group. rows: of the tables.
    """

    def __init__(self, group: int, rows: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(PHASES, group, group))
        self.near = nn.Parameter(torch.zeros(len(NEAR), PHASES, group))
        self.gain = nn.Parameter(torch.ones(rows))
        self.bias = nn.Parameter(torch.zeros(rows))
        block = torch.arange(group) % (group // BLOCK)
        self.register_buffer("mask", (block[:, None] > block[None, :]).float())

    def forward(self, surprise: Tensor, near: Tensor, rows: Tensor) -> Tensor:
        """surprise and rows (groups, N, G), near (4, groups, N, G) to rows more, (groups, N, G)."""
        sums = surprise @ (self.weight * self.get_buffer("mask")).transpose(1, 2)
        sums = sums + (near * self.near[:, :, None]).sum(0)
        row = rows.clamp(min=0)
        return sums * self.gain[row] + self.bias[row]


class SignNetwork(nn.Module):
    """Which sign latents of a group at a place have, in logits.

    group: channels of a group. rows: of the tables.
    """

    def __init__(self, group: int, rows: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(PHASES, group, group))
        self.near = nn.Parameter(torch.zeros(PHASES, PHASES, len(NEAR), group))
        self.gain = nn.Parameter(torch.full((rows,), 0.5))
        block = torch.arange(group) % (group // BLOCK)
        self.register_buffer("mask", (block[:, None] > block[None, :]).float())

    def forward(self, signs: Tensor, near: Tensor, rows: Tensor, phases: Tensor) -> Tensor:
        """signs and rows (groups, N, G), near (4, groups, N, G), phases (groups, N) to (groups, N, G)."""
        sums = signs @ (self.weight * self.get_buffer("mask")).transpose(1, 2)
        of_phase = self.near[phases, torch.arange(PHASES)[:, None]]  # (groups, N, 4, G)
        sums = sums + (near.permute(1, 2, 0, 3) * of_phase).sum(2)
        return sums * self.gain[rows.clamp(min=0)]


class _Latents(NamedTuple):
    """All places of samples by group, (groups, N, G); near: what is seen at ``NEAR``, (4, groups, N, G)."""

    rows: Tensor
    levels: Tensor
    quantizers: Tensor
    seen: Tensor
    near: Tensor

    def some(self, pick: Tensor) -> _Latents:
        """Of some places, in the types that torch computes with."""
        part = [of[..., pick, :] for of in self]
        return _Latents(*(of.long() for of in part[:3]), *(of.float() for of in part[3:]))


def train_place(
    samples: Sequence[Sample], tables: TableSet, states: int, seed: int, steps: int
) -> PlaceContext:
    """A context network that makes the symbols of samples cheap by given tables.

    tables: of the mode that chose the symbols. states: of its trellis.
    """
    torch.manual_seed(seed)
    per_row = 1 if states == 1 else 2
    rows = tables.rows // per_row
    planes = [_by_group(sample, states) for sample in samples]
    expected = _expected(planes, rows)
    latents = _gather(planes, lambda plane: _surprise(plane, expected))
    del planes
    bits = _bits(tables)
    network = PlaceNetwork(latents.rows.shape[2], rows)

    def cost(pick: Tensor) -> Tensor:
        part = latents.some(pick)
        return _cost(part, network(part.seen, part.near, part.rows), bits, rows, per_row)

    _train(network, cost, torch.ones(latents.rows.shape[1]), steps)
    return _integers(network, expected)


def train_signs(
    samples: Sequence[Sample], place: PlaceContext, states: int, seed: int, steps: int
) -> SignContext:
    """A context network that tells signs of the symbols of samples.

    place: which corrects the rows that symbols are read with. states: of the trellis.
    """
    torch.manual_seed(seed)
    rows = len(place.expected)
    planes = [_by_group(sample, states) for sample in samples]
    corrected = _corrected(planes, place)
    latents = _gather(planes, lambda plane: plane["signs"])._replace(rows=corrected)
    shares = _shares(samples, latents.rows.shape[1])
    phases = torch.cat([plane["phases"].flatten(1, 3)[..., 0] for plane in planes], 1).long()
    del planes
    network = SignNetwork(latents.rows.shape[2], rows)

    def cost(pick: Tensor) -> Tensor:
        part = latents.some(pick)
        logits = network(part.seen, part.near, part.rows, phases[:, pick])
        there = part.seen != 0
        return F.softplus(-logits[there] * part.seen[there].sign()).sum()

    _train(network, cost, shares, steps)
    order = torch.from_numpy(reading_order(latents.rows.shape[2]))
    weight = (network.weight * network.get_buffer("mask"))[:, order][:, :, order]
    return SignContext(
        _rounded(weight.transpose(1, 2), WEIGHT_BITS),
        _rounded(network.near[..., order], WEIGHT_BITS),
        _rounded(network.gain / _LEAN, _GAIN_BITS),
        _rounded(torch.tanh(torch.arange(1, _LEANS + 1) * (_LEAN / 2)), 8),
    )


def _shares(samples: Sequence[Sample], places: int) -> Tensor:
    """How often each place is drawn: less at high rates, whose symbols were else all that counts."""
    point = np.array([sample.position // POSITIONS_PER_POINT for sample in samples])
    density = np.array([(sample.levels != 0).mean() for sample in samples])
    share = [density[point == of].mean().clip(min=1e-3) ** -0.5 for of in point]
    return torch.from_numpy(np.repeat(share, places // len(samples)))


def _train(network: nn.Module, cost: Callable[[Tensor], Tensor], shares: Tensor, steps: int) -> None:
    """Steps of Adam on what some places cost, drawn by their shares."""
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (1 - step / steps) + 1e-5
        loss = cost(torch.multinomial(shares, _BATCH, replacement=True)) / _BATCH
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def _corrected(planes: Sequence[Planes], place: PlaceContext) -> Tensor:
    """Rows of all latents as the network of the place corrects them, int16 (groups, N, G)."""
    network = PlaceNetwork(place.near.shape[2], len(place.expected))
    network.weight.copy_(torch.from_numpy(place.weight) / (1 << WEIGHT_BITS))
    network.near.copy_(torch.from_numpy(place.near).transpose(0, 1) / (1 << WEIGHT_BITS))
    network.gain.copy_(torch.from_numpy(place.gain) / (1 << _GAIN_BITS))
    network.bias.copy_(torch.from_numpy(place.bias) / (1 << ROW_BITS))
    expected = torch.from_numpy(place.expected) / (1 << SURPRISE_BITS)
    result = []
    for plane in planes:
        latents = _gather([plane], lambda one: _surprise(one, expected))
        change = network(latents.seen.float(), latents.near.float(), latents.rows.long())
        row = (latents.rows + change).round().clamp(0, len(expected) - 1)
        result.append(torch.where(latents.rows < 0, latents.rows, row.short()))
    return torch.cat(result, 1)


def _cost(part: _Latents, change: Tensor, bits: Tensor, rows: int, per_row: int) -> Tensor:
    """Bits of all coded latents; between rows, along a straight line."""
    coded = part.rows >= 0
    row = (part.rows[coded] + change[coded]).clamp(0, rows - 1.001)
    below = row.detach().floor().long()
    levels, quantizers = part.levels[coded], part.quantizers[coded]
    low = bits[per_row * below + quantizers, levels]
    high = bits[per_row * (below + 1) + quantizers, levels]
    return (low + (high - low) * (row - below)).sum()


def _by_group(sample: Sample, states: int) -> Planes:
    """Arrays (groups, classes, h / 2, w / 2, G): the places of a group that one phase codes lie together."""
    _, height, width, group = (int(side) for side in sample.rows.shape)
    shape = (PHASES, 4, height // 2, width // 2, group)
    phases = phase_map(PHASES, 2, 2)  # of a group, by class of place
    # Both sides of a trellis: index_of in cpp/src/trellis.hpp.
    indices = 2 * sample.levels.astype(np.int32)
    if states > 1:
        indices -= np.sign(sample.levels) * sample.quantizers
    steps = np.abs(indices) / np.float32(2)
    unit = float(1 << MAGNITUDE.bits)
    magnitude = np.floor(np.minimum(np.log2(1 + steps), MAGNITUDE.high / unit) * unit + 0.5) / unit
    given: dict[str, npt.NDArray[Any]] = {
        "rows": sample.rows,
        "levels": np.minimum(np.abs(sample.levels), _LEVELS).astype(np.int8),
        "quantizers": sample.quantizers.astype(np.int8),
        "magnitude": magnitude.astype(np.float16),  # exact: sixteenths up to 3
        "signs": np.clip(indices, -_LARGEST_SIGN, _LARGEST_SIGN).astype(np.int8),
        "phases": np.broadcast_to(np.arange(PHASES, dtype=np.int8)[:, None, None, None], sample.rows.shape),
    }
    result = {}
    for name, values in given.items():
        planes = np.zeros(shape, values.dtype)
        for g in range(PHASES):
            for place in range(4):
                row, column = divmod(place, 2)
                of_phase = values[phases[g, row, column]]
                planes[g, place] = of_phase[row : height // 2 * 2 : 2, column : width // 2 * 2 : 2]
        result[name] = torch.from_numpy(planes)
    return result


def _expected(planes: Sequence[Planes], rows: int) -> Tensor:
    """Mean magnitude of the symbols of a row; of rows that were hardly seen, that of their neighbours."""
    total, count = torch.zeros(rows), torch.zeros(rows)
    for plane in planes:
        coded = plane["rows"] >= 0
        total.index_add_(0, plane["rows"][coded].long(), plane["magnitude"][coded].float())
        count += torch.bincount(plane["rows"][coded].long(), minlength=rows)
    mean, seen = total / count.clamp(min=1), count >= 50
    if not seen.any():
        return torch.zeros(rows)
    return torch.from_numpy(
        np.interp(np.arange(rows), np.flatnonzero(seen.numpy()), mean[seen].numpy()).astype(np.float32)
    )


def _surprise(plane: Planes, expected: Tensor) -> Tensor:
    coded = plane["rows"] >= 0
    surprise = (plane["magnitude"] - expected[plane["rows"].clamp(min=0).long()]) * coded
    return surprise.half()


def _gather(planes: Sequence[Planes], seen: Callable[[Planes], Tensor]) -> _Latents:
    """seen: what the network sees of planes."""
    all_seen, nears = [], []
    for plane in planes:
        one = seen(plane)
        height, width = one.shape[2:4]
        padded = F.pad(one, (0, 0, 1, 1, 1, 0))
        moved = [
            padded[:, :, 1 + dy // 2 : 1 + dy // 2 + height, 1 + dx // 2 : 1 + dx // 2 + width]
            for dy, dx in NEAR
        ]
        all_seen.append(one.flatten(1, 3))
        nears.append(torch.stack(moved).flatten(2, 4))
    together = {
        name: torch.cat([plane[name].flatten(1, 3) for plane in planes], 1)
        for name in ("rows", "levels", "quantizers")
    }
    return _Latents(seen=torch.cat(all_seen, 1), near=torch.cat(nears, 2), **together)


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


def _integers(network: PlaceNetwork, expected: Tensor) -> PlaceContext:
    weight = network.weight * network.get_buffer("mask")
    return PlaceContext(
        _rounded(weight, WEIGHT_BITS),
        _rounded(network.near.transpose(0, 1), WEIGHT_BITS),
        _rounded(expected, SURPRISE_BITS),
        _rounded(network.gain, _GAIN_BITS),
        _rounded(network.bias, ROW_BITS),
    )


def _rounded(values: Tensor, bits: int) -> npt.NDArray[np.int16]:
    whole = torch.floor(values.detach() * (1 << bits) + 0.5).clamp(-32767, 32767)
    return np.ascontiguousarray(whole.numpy().astype(np.int16))
