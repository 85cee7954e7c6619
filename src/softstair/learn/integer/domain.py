"""Tables of a bundle measured anew on the pictures of a domain, by the product's own path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle
from softstair.codec import networks_of
from softstair.codec.tile import Begun, TileCoder
from softstair.mode import Mode
from softstair.quantize.setting import Integers
from softstair.quantize.tables import TableSet, integer_cdf, join, measured_row

from .measure import Z_LIMIT, begin_all, count_z

_Y_PSEUDO_COUNT, _Z_PSEUDO_COUNT = 200.0, 30.0
_NEW = 1e-6  # of a symbol of z that the bundle's table leaves to the escape

Crops = Sequence[npt.NDArray[np.uint8]]


def measure_tables(bundle: Bundle, crops: Crops, mode: Mode) -> dict[str, npt.NDArray[Any]]:
    """Tables of z and of a mode, as packs hold them.

    crops: uint8 (H, W, 3), sides multiples of 32. Every one is coded at a third of the rate points and of
        the places halfway between; the bundle's own tables are what counts are smoothed with.
    """
    integers, networks = bundle.integers, networks_of(bundle, 1, mode)
    coder = TileCoder(integers, networks, mode)
    samples = begin_all(coder, integers, (coder.analyse(crop) for crop in crops))
    z = _measured_z(integers, samples)
    # Levels are those that the bundle's own tables decide: search by tables made of its own levels drifts.
    coding = integers.codings[mode]
    counts = [np.zeros(size, np.int64) for size in np.diff(coding.tables.offsets) - 1]
    for sample in samples:
        _count(counts, *coder.decide(sample).tile.coded)
    own = coding.tables.probabilities
    y = join([_row(seen, own(row), _Y_PSEUDO_COUNT) for row, seen in enumerate(counts)])
    return z.tensors("z") | y.tensors(f"y.{mode}")


def _count(counts: list[npt.NDArray[np.int64]], rows: npt.NDArray[Any], levels: npt.NDArray[Any]) -> None:
    """Add levels to the counts of their rows, whose last is the escape."""
    order = np.argsort(rows, kind="stable")
    rows, levels = rows[order], levels[order].astype(np.int64)
    starts = np.searchsorted(rows, np.arange(len(counts) + 1))
    for row, seen in enumerate(counts):
        found, largest = levels[starts[row] : starts[row + 1]], len(seen) // 2 - 1
        inside = found[np.abs(found) <= largest]
        seen[:-1] += np.bincount(inside + largest, minlength=len(seen) - 1)
        seen[-1] += len(found) - len(inside)


def _row(
    counts: npt.NDArray[np.int64], own: npt.NDArray[np.float64], pseudo: float, *, symmetric: bool = True
) -> npt.NDArray[np.uint16]:
    return integer_cdf(measured_row(counts, own, pseudo, symmetric=symmetric))


def _measured_z(integers: Integers, samples: Sequence[Begun]) -> TableSet:
    """A row for every rate point and channel, with an alphabet as large as both of its sources need."""
    counts = count_z(samples, integers.points, integers.hyper_channels)
    rows = []
    for row, seen in enumerate(counts.reshape(-1, 2 * Z_LIMIT + 1)):
        own = integers.z_tables.probabilities(row)
        inner = len(own) // 2 - 1
        farthest = int(np.abs(np.flatnonzero(seen) - Z_LIMIT).max(initial=0))
        largest = min(max(inner, farthest), Z_LIMIT - 1)
        prior = np.full(2 * largest + 2, _NEW)
        prior[largest - inner : largest + inner + 1], prior[-1] = own[:-1], own[-1]
        inside = seen[Z_LIMIT - largest : Z_LIMIT + largest + 1]
        folded = np.append(inside, seen.sum() - inside.sum())
        rows.append(_row(folded, prior / prior.sum(), _Z_PSEUDO_COUNT, symmetric=False))
    return join(rows)
