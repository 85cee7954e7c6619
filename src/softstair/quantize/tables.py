"""Integer probability tables: CDFs of 14 bits whose alphabets shrink with sigma.

A row codes the symbols -K..K and, last, an escape for everything outside. A set of rows is two
arrays: all CDFs one after the other, and where each row starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import erf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from softstair import _core

BITS = 14
_TAIL = 4.5  # sigmas that an alphabet covers
_LARGEST_ALPHABET = 255
_ESCAPE_FLOOR = 2e-5
_PSEUDO_COUNT = 200.0  # weight of the model's distribution against counts

Counts = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TableSet:
    """Rows of CDFs. cdf: uint16; offsets: int32, rows + 1 positions into cdf."""

    cdf: npt.NDArray[np.uint16]
    offsets: npt.NDArray[np.int32]

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def core(self) -> _core.Tables:
        """The same for the entropy coder. Raises ValueError if the rows are not valid CDFs."""
        return _core.Tables(self.cdf, self.offsets)

    def tensors(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """As bundles and packs hold a set of this name."""
        return {f"{name}.cdf": self.cdf, f"{name}.offsets": self.offsets}

    def select(self, start: int, count: int) -> TableSet:
        """Rows ``start`` to ``start + count`` as a set of their own."""
        offsets = self.offsets[start : start + count + 1]
        return TableSet(self.cdf[offsets[0] : offsets[-1]], offsets - offsets[0])

    def probabilities(self, row: int) -> Probabilities:
        """Probabilities of a row's symbols, escape last."""
        cdf = self.cdf[self.offsets[row] : self.offsets[row + 1]].astype(np.int64)
        return np.diff(cdf) / float(1 << BITS)


@dataclass(frozen=True)
class RowRule:
    """Table row of a log-scale in steps: ``(scale - base) >> 2``, skipped below row ``skip``."""

    base: int
    skip: int
    rows: int

    def sigma(self, row: int) -> float:
        """The standard deviation, in steps, at the middle of a row."""
        return float(2 ** ((self.base + 4 * row + 1.5) / 32))

    def alphabet(self, row: int) -> int:
        """K of a row's tables."""
        return int(min(np.ceil(_TAIL * self.sigma(row)), _LARGEST_ALPHABET))


def gaussian(sigma: float, largest: int, quantizer: int | None = None) -> Probabilities:
    """Probabilities of the levels -K..K and of everything outside, under N(0, sigma) in steps.

    quantizer: None for rounding; 0 and 1 are those of a trellis, whose cells are those of nearest
    members: of quantizer 0 as for rounding, of quantizer 1 around zero up to a quarter of a step,
    then up to 1, 2, ..
    """
    if quantizer == 1:
        positive = np.concatenate([[0.25], np.arange(1, largest + 1)])
    else:
        positive = np.arange(largest + 1) + 0.5
    edges = np.concatenate([-positive[::-1], positive])
    cumulative = np.array([0.5 * (1 + erf(edge / (sigma * sqrt(2)))) for edge in edges])
    inside = np.diff(cumulative)
    return np.append(inside, max(1 - inside.sum(), 0.0))


def integer_cdf(probabilities: Probabilities) -> npt.NDArray[np.uint16]:
    """A CDF of 14 bits, every symbol at least one slot, as near to the probabilities as can be.

    Slots are given out by the largest loss of code length, so that the sum is exact.
    """
    one = 1 << BITS
    p = np.maximum(probabilities, 1e-12)
    p = p / p.sum()
    slots = np.maximum(np.floor(p * one).astype(np.int64), 1)
    while slots.sum() > one:
        cost = np.where(slots > 1, p * np.log(slots / np.maximum(slots - 1, 1)), np.inf)
        slots[np.argmin(cost)] -= 1
    while slots.sum() < one:
        slots[np.argmax(p * np.log((slots + 1) / slots))] += 1
    return np.concatenate([[0], np.cumsum(slots)]).astype(np.uint16)


def measured_row(
    counts: Counts,
    prior: Probabilities,
    pseudo_count: float = _PSEUDO_COUNT,
    *,
    symmetric: bool = True,
) -> Probabilities:
    """Counts (2K + 2, escape last) smoothed with a prior of the same shape.

    ``symmetric`` for y: means are removed before coding, so what asymmetry counts show is noise.
    """
    both = counts.astype(np.float64)
    if symmetric:
        both[:-1] = 0.5 * (both[:-1] + both[-2::-1])
    mixed = both + pseudo_count * prior
    mixed /= mixed.sum()
    return _floored(mixed)


def join(rows: list[npt.NDArray[np.uint16]]) -> TableSet:
    """A set of given CDFs."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return TableSet(np.concatenate(rows), offsets.astype(np.int32))


def gaussian_tables(rule: RowRule, states: int = 1) -> TableSet:
    """Tables of the model's own distribution; of a trellis, row r of quantizer q at 2 r + q."""
    return join(
        [
            integer_cdf(_floored(gaussian(rule.sigma(row), rule.alphabet(row), quantizer)))
            for row, quantizer in _rows(rule, states)
        ]
    )


def measured_tables(rule: RowRule, counts: Counts, states: int = 1) -> TableSet:
    """Tables from counts of levels by row, smoothed with the model's distribution.

    Args:
        rule: how rows and sigmas belong together.
        counts: int64, shape (rows, 2 * L + 1): how often level ``column - L`` was seen; of a
            trellis (2 * rows, 2 * L + 1), row r of quantizer q at 2 r + q.
        states: of the trellis, 1 for none.
    """
    return join([integer_cdf(p) for p in measured_probabilities(rule, counts, states)])


def measured_probabilities(rule: RowRule, counts: Counts, states: int = 1) -> list[Probabilities]:
    """What ``measured_tables`` rounds to integers: of every row the levels -K..K and the escape."""
    rows = []
    for (row, quantizer), seen in zip(_rows(rule, states), counts, strict=True):
        largest = rule.alphabet(row)
        prior = gaussian(rule.sigma(row), largest, quantizer)
        rows.append(measured_row(_fold(seen, largest), prior))
    return rows


def _rows(rule: RowRule, states: int) -> list[tuple[int, int | None]]:
    """Rows of a set with the quantizer that each belongs to."""
    quantizers: tuple[int | None, ...] = (None,) if states == 1 else (0, 1)
    return [(row, quantizer) for row in range(rule.rows) for quantizer in quantizers]


def _floored(p: Probabilities) -> Probabilities:
    """Probabilities whose escape, the last, is never out of reach; they sum to one."""
    floored = p.copy()
    floored[-1] = max(floored[-1], _ESCAPE_FLOOR)
    floored /= floored.sum()
    return floored


def _fold(counts: Counts, largest: int) -> Counts:
    """Counts of all symbols to those of -K..K and an escape."""
    limit = len(counts) // 2
    kept = min(limit, largest)
    folded = np.zeros(2 * largest + 2, np.int64)
    folded[largest - kept : largest + kept + 1] = counts[limit - kept : limit + kept + 1]
    folded[-1] = counts.sum() - folded.sum()
    return folded
