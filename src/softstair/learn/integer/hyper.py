"""The context network of z: trained on symbols of training pictures, then rounded to integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softstair import _core
from softstair.quantize.context import (
    AROUND,
    FIRST_SCALE,
    HEAD_BITS,
    HIDDEN_BITS,
    HYPER_BITS,
    HYPER_ROWS,
    MEAN_PARTS,
    OWN,
    HyperContext,
)
from softstair.quantize.grids import Z
from softstair.quantize.rates import interpolate
from softstair.quantize.tables import TableSet, integer_cdf, join, measured_row

from ..layers.rates import hat_weights
from .weights import whole

_HIDDEN = 128
_BATCH, _RATE = 400, 0.01
_LEAST_BITS = 0.02  # of a channel's symbol: what costs less is left to its table
_OUT_BITS = 15
_PSEUDO_COUNT = 30.0
_LARGEST_ALPHABET = 127
_LIMIT = 255  # levels that are counted

Taken = tuple[npt.NDArray[np.int16], int]  # z (h, w, Z) and its rate position


class HyperNetwork(nn.Module):
    """Mean and log-scale of every live channel of z, each from what was read before it."""

    def __init__(self, live: int, points: int) -> None:
        super().__init__()
        self.around = nn.Parameter(torch.randn(len(AROUND), live, _HIDDEN) * 0.01)
        self.before = nn.Parameter(torch.randn(live, _HIDDEN) * 0.01)
        self.head = nn.Parameter(torch.zeros(live, 2, _HIDDEN))
        self.own = nn.Parameter(torch.zeros(live, 2, len(OWN)))
        self.rate_hidden = nn.Parameter(torch.zeros(points, _HIDDEN))
        self.rate_out = nn.Parameter(torch.zeros(points, live, 2))

    def forward(self, z: Tensor, near: Tensor, hat: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, n), near (N, 6, n), hat (N, points) to means in steps and log2 of scales, (N, n) each."""
        sums = hat @ self.rate_hidden + torch.einsum("nki,kih->nh", near[:, : len(AROUND)], self.around)
        own = z[:, :, None] * self.before
        sums = sums[:, None] + own.cumsum(1) - own
        active = sums.clamp(0, 2047 / (1 << HIDDEN_BITS))
        out = torch.einsum("nih,ikh->nik", active, self.head)
        out = out + torch.einsum("np,pik->nik", hat, self.rate_out)
        mean = out[..., 0] + (near * self.own[:, 0].T).sum(1)
        scale = out[..., 1] + (log_magnitude(near) * self.own[:, 1].T).sum(1)
        return mean, scale


def train_hyper(taken: Sequence[Taken], points: int, seed: int, steps: int) -> HyperContext | None:
    """A context network of z; None where no channel carries anything.

    points: rate points of the codec.
    """
    torch.manual_seed(seed)
    live = _live([z for z, _ in taken])
    if not len(live):
        return None
    z, near, hat = (
        torch.cat(parts) for parts in zip(*(_places(*one, live, points) for one in taken), strict=True)
    )
    network = HyperNetwork(len(live), points)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (1 - step / steps) + 1e-5
        pick = torch.randint(0, len(z), (_BATCH,))
        mean, scale = network(z[pick], near[pick], hat[pick])
        cost = _logistic_bits(z[pick] - mean, scale).sum() / _BATCH
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
    return _with_tables(_integers(network, live), taken)


def _live(symbols: list[npt.NDArray[np.int16]]) -> npt.NDArray[np.int32]:
    """Channels whose symbols are not nearly always the same."""
    together = np.concatenate([z.reshape(-1, z.shape[-1]) for z in symbols])
    live = []
    for channel in range(together.shape[1]):
        share = np.unique(together[:, channel], return_counts=True)[1] / len(together)
        if -(share * np.log2(share)).sum() > _LEAST_BITS:
            live.append(channel)
    return np.array(live, np.int32)


def _places(
    z: npt.NDArray[np.int16], position: int, live: npt.NDArray[np.int32], points: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Symbols, those near, and interpolation weights of all places of a tile."""
    symbols = torch.from_numpy(z[..., live].astype(np.float32))
    height, width, count = symbols.shape
    padded = F.pad(symbols, (0, 0, 2, 1, 2, 0))
    near = [padded[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] for dy, dx in OWN]
    hat = hat_weights(torch.tensor([position]), points).float().expand(height * width, -1)
    return symbols.reshape(-1, count), torch.stack(near, 2).reshape(-1, len(OWN), count), hat


def log_magnitude(z: Tensor) -> Tensor:
    """log2(1 + |z|) along straight lines between powers of two, rounded down to 1/16."""
    whole = torch.floor(torch.log2(1 + z.abs()) + 1e-6)
    return whole + torch.floor(16 * ((1 + z.abs()) * torch.exp2(-whole) - 1)) / 16


def _logistic_bits(residual: Tensor, scale: Tensor) -> Tensor:
    s = torch.exp2(scale.clamp(-(FIRST_SCALE - 1) / 4, (HYPER_ROWS - FIRST_SCALE) / 4))
    inside = torch.sigmoid((residual + 0.5) / s) - torch.sigmoid((residual - 0.5) / s)
    return -torch.log2(inside.clamp(min=2e-5))


def _integers(network: HyperNetwork, live: npt.NDArray[np.int32]) -> HyperContext:
    rate = np.concatenate(
        [
            whole(network.rate_hidden, HYPER_BITS),
            whole(network.rate_out, _OUT_BITS).reshape(len(network.rate_out), -1),
        ],
        axis=1,
    )
    own = torch.stack([network.own[:, 0], network.own[:, 1] / 2], 1)  # in 2**-12 and 2**-11
    return HyperContext(
        live,
        _small(network.around.permute(2, 0, 1), HYPER_BITS),
        _small(network.before.T, HYPER_BITS),
        _small(network.head, HEAD_BITS),
        _small(own, HYPER_BITS),
        rate.astype(np.int32),
        _tables(np.zeros((HYPER_ROWS * MEAN_PARTS, 2 * _LIMIT + 1), np.int64)),
    )


def _small(values: Tensor, bits: int) -> npt.NDArray[np.int16]:
    return np.ascontiguousarray(np.clip(whole(values, bits), -32767, 32767).astype(np.int16))


def _with_tables(context: HyperContext, taken: Sequence[Taken]) -> HyperContext:
    """The same with tables of what it makes of the symbols."""
    core: _core.HyperNetwork = context.build(taken[0][0].shape[-1])
    counts = np.zeros((context.tables.rows, 2 * _LIMIT + 1), np.int64)
    for z, position in taken:
        rows, levels = core.rows(np.clip(z, Z.low, Z.high), interpolate(context.rate, position))
        np.add.at(counts, (rows, np.clip(levels.astype(np.int64), -_LIMIT, _LIMIT) + _LIMIT), 1)
    return replace(context, tables=_tables(counts))


def _tables(counts: npt.NDArray[np.int64]) -> TableSet:
    """Tables of all scales and means, from counts of levels smoothed with logistic distributions."""
    rows = []
    for row, seen in enumerate(counts):
        scale = 2 ** ((row // MEAN_PARTS - FIRST_SCALE + 0.5) / 4)
        mean = row % MEAN_PARTS / MEAN_PARTS
        largest = int(min(np.ceil(1 + 8 * scale), _LARGEST_ALPHABET))
        edges = np.arange(-largest, largest + 2) - 0.5
        prior = np.diff(1 / (1 + np.exp(-np.clip((edges - mean) / scale, -60, 60))))
        inside = slice(_LIMIT - largest, _LIMIT + largest + 1)
        folded = np.append(seen[inside], seen.sum() - seen[inside].sum())
        expected = np.append(prior, max(1 - prior.sum(), 0))
        rows.append(integer_cdf(measured_row(folded, expected, _PSEUDO_COUNT, symmetric=False)))
    return join(rows)
