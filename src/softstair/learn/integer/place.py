"""The context network of a place: trained on symbols that a search chose, then rounded to integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softstair.quantize.context import BLOCK, NEAR, ROW_BITS, SURPRISE_BITS, WEIGHT_BITS, PlaceContext
from softstair.quantize.grids import MAGNITUDE
from softstair.quantize.phases import PHASES, phase_map
from softstair.quantize.tables import TableSet

_LEVELS = 64  # magnitudes of levels that are told apart
_BATCH, _RATE = 1500, 0.02
_GAIN_BITS = 8


@dataclass(frozen=True)
class Sample:
    """A tile as a search decided it, phase by phase: int16 (4, h, w, C / 4), zero where nothing is coded.

    rows: of the scale network; -1 where nothing is coded. levels, quantizers: as they are coded.
    """

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


class _Latents(NamedTuple):
    """All places of samples by group, each (groups, N, G), and near (4, groups, N, G)."""

    rows: Tensor
    levels: Tensor
    quantizers: Tensor
    surprise: Tensor
    near: Tensor


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
    latents = _gather(planes, expected)
    bits = _bits(tables)
    network = PlaceNetwork(latents.rows.shape[2], rows)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (1 - step / steps) + 1e-5
        pick = torch.randint(0, latents.rows.shape[1], (_BATCH,))
        part = _Latents(*(planes[..., pick, :] for planes in latents))
        change = network(part.surprise, part.near, part.rows)
        cost = _cost(part, change, bits, rows, per_row) / _BATCH
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
    return _integers(network, expected)


def _cost(part: _Latents, change: Tensor, bits: Tensor, rows: int, per_row: int) -> Tensor:
    """Bits of all coded latents; between rows, along a straight line."""
    coded = part.rows >= 0
    row = (part.rows[coded] + change[coded]).clamp(0, rows - 1.001)
    below = row.detach().floor().long()
    levels, quantizers = part.levels[coded], part.quantizers[coded]
    low = bits[per_row * below + quantizers, levels]
    high = bits[per_row * (below + 1) + quantizers, levels]
    return (low + (high - low) * (row - below)).sum()


def _by_group(sample: Sample, states: int) -> dict[str, Tensor]:
    """Arrays (groups, classes, h / 2, w / 2, G): the places of a group that one phase codes lie together."""
    _, height, width, group = (int(side) for side in sample.rows.shape)
    shape = (PHASES, 4, height // 2, width // 2, group)
    phases = phase_map(PHASES, 2, 2)  # of a group, by class of place
    steps = np.abs(sample.levels.astype(np.float32))
    if states > 1:
        steps = np.maximum(steps - sample.quantizers / 2, 0)
    unit = float(1 << MAGNITUDE.bits)
    magnitude = np.floor(np.minimum(np.log2(1 + steps), MAGNITUDE.high / unit) * unit + 0.5) / unit
    given = {
        "rows": sample.rows.astype(np.int64),
        "levels": np.minimum(np.abs(sample.levels.astype(np.int64)), _LEVELS),
        "quantizers": sample.quantizers.astype(np.int64),
        "magnitude": magnitude.astype(np.float32),
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


def _expected(planes: list[dict[str, Tensor]], rows: int) -> Tensor:
    """Mean magnitude of the symbols of a row; of rows that were hardly seen, that of their neighbours."""
    total, count = torch.zeros(rows), torch.zeros(rows)
    for plane in planes:
        coded = plane["rows"] >= 0
        total.index_add_(0, plane["rows"][coded], plane["magnitude"][coded])
        count += torch.bincount(plane["rows"][coded], minlength=rows)
    mean, seen = total / count.clamp(min=1), count >= 50
    if not seen.any():
        return torch.zeros(rows)
    return torch.from_numpy(
        np.interp(np.arange(rows), np.flatnonzero(seen.numpy()), mean[seen].numpy()).astype(np.float32)
    )


def _gather(planes: list[dict[str, Tensor]], expected: Tensor) -> _Latents:
    surprises, nears = [], []
    for plane in planes:
        coded = (plane["rows"] >= 0).float()
        surprise = (plane["magnitude"] - expected[plane["rows"].clamp(min=0)]) * coded
        height, width = surprise.shape[2:4]
        padded = F.pad(surprise, (0, 0, 1, 1, 1, 0))
        moved = [
            padded[:, :, 1 + dy // 2 : 1 + dy // 2 + height, 1 + dx // 2 : 1 + dx // 2 + width]
            for dy, dx in NEAR
        ]
        surprises.append(surprise.flatten(1, 3))
        nears.append(torch.stack(moved).flatten(2, 4))
    together = {
        name: torch.cat([plane[name].flatten(1, 3) for plane in planes], 1)
        for name in ("rows", "levels", "quantizers")
    }
    return _Latents(surprise=torch.cat(surprises, 1), near=torch.cat(nears, 2), **together)


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
