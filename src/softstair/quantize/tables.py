"""Integer probability tables: CDFs of 14 bits whose alphabets shrink with sigma.

A row codes the symbols -K..K and, last, an escape for everything outside. A set of rows is two
arrays: all CDFs one after the other, and where each row starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import erf, sqrt

import numpy as np
import numpy.typing as npt

from softstair import _core

BITS = 14
ROWS_PER_OCTAVE = 8
_TAIL = 4.5  # sigmas that an alphabet covers
_LARGEST_ALPHABET = 255
_ESCAPE_FLOOR = 2e-5
_PSEUDO_COUNT = 200.0  # weight of the model's distribution against counts

Counts = npt.NDArray[np.int64]


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

    def select(self, start: int, count: int) -> TableSet:
        """Rows ``start`` to ``start + count`` as a set of their own."""
        offsets = self.offsets[start : start + count + 1]
        return TableSet(self.cdf[offsets[0] : offsets[-1]], offsets - offsets[0])

    def probabilities(self, row: int) -> npt.NDArray[np.float64]:
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
        """K of a row's Gaussian table."""
        return int(min(np.ceil(_TAIL * self.sigma(row)), _LARGEST_ALPHABET))


def gaussian(sigma: float, largest: int) -> npt.NDArray[np.float64]:
    """Probabilities of -K..K and of everything outside, under a rounded N(0, sigma)."""
    edges = np.arange(-largest, largest + 2) - 0.5
    cumulative = np.array([0.5 * (1 + erf(edge / (sigma * sqrt(2)))) for edge in edges])
    inside = np.diff(cumulative)
    return np.append(inside, max(1 - inside.sum(), 0.0))


def integer_cdf(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
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
    prior: npt.NDArray[np.float64],
    pseudo_count: float = _PSEUDO_COUNT,
    *,
    symmetric: bool = True,
) -> npt.NDArray[np.float64]:
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


def gaussian_tables(rule: RowRule) -> TableSet:
    """Tables of the model's own distribution."""
    return join([integer_cdf(_floored(gaussian(rule.sigma(r), rule.alphabet(r)))) for r in range(rule.rows)])


def measured_tables(rule: RowRule, counts: Counts) -> TableSet:
    """Tables from counts of symbols by row, smoothed with the model's distribution.

    Args:
        rule: how rows and sigmas belong together.
        counts: int64, shape (rows, 2 * L + 1): how often symbol ``column - L`` was seen.
    """
    rows = []
    for row in range(rule.rows):
        largest = rule.alphabet(row)
        seen = _fold(counts[row], largest)
        rows.append(integer_cdf(measured_row(seen, gaussian(rule.sigma(row), largest))))
    return join(rows)


def _floored(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
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
