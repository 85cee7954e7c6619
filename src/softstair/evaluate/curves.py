"""Rate-distortion curves and the Bjontegaard delta rate between two of them.

G. Bjontegaard: Calculation of average PSNR differences between RD-curves. ITU-T VCEG-M33, 2001;
with piecewise interpolation of log rate over PSNR, as by PCHIP (JCT-VC) and Akima (C. Herglotz et
al., 2022), in place of one cubic polynomial.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

from softstair.errors import UsageError

FEWEST_POINTS = 4
SMALLEST_OVERLAP = 0.5

Point = tuple[float, float | None]  # bits per pixel, PSNR in dB or None where there is no error


@dataclass(frozen=True)
class DeltaRate:
    """Mean difference in rate of a test curve to an anchor at equal PSNR.

    pchip, akima: percent, negative where the test needs fewer bits. low, high: PSNR range of the
    comparison, dB. overlap: its share of the test curve's PSNR range, 0 to 1. dropped_anchor,
    dropped_test: points left out because a cheaper one is as good, or because they are no numbers.
    """

    pchip: float
    akima: float
    low: float
    high: float
    overlap: float
    dropped_anchor: int = 0
    dropped_test: int = 0


def delta_rate(anchor: Iterable[Point], test: Iterable[Point]) -> DeltaRate:
    """Bjontegaard delta rate of ``test`` against ``anchor``, by two interpolations.

    Args:
        anchor, test: points (rate, PSNR in dB) in any order; rates in the same unit.

    Raises:
        UsageError: a curve has fewer than four usable points, or the curves share less than half
            of the test curve's PSNR range.
    """
    (anchor_rates, anchor_psnrs), dropped_anchor = _clean(anchor, "anchor")
    (test_rates, test_psnrs), dropped_test = _clean(test, "test")
    low = max(anchor_psnrs[0], test_psnrs[0])
    high = min(anchor_psnrs[-1], test_psnrs[-1])
    overlap = max(high - low, 0.0) / (test_psnrs[-1] - test_psnrs[0])
    if overlap < SMALLEST_OVERLAP:
        raise UsageError(
            f"The curves share {overlap:.0%} of the test curve's PSNR range "
            f"({test_psnrs[0]:.2f} to {test_psnrs[-1]:.2f} dB; the anchor has {anchor_psnrs[0]:.2f} "
            f"to {anchor_psnrs[-1]:.2f} dB), and a delta rate needs {SMALLEST_OVERLAP:.0%}."
        )

    def percent(interpolator: Any) -> float:
        areas = [
            float(interpolator(psnrs, np.log(rates)).integrate(low, high))
            for psnrs, rates in ((anchor_psnrs, anchor_rates), (test_psnrs, test_rates))
        ]
        return float(100 * np.expm1((areas[1] - areas[0]) / (high - low)))

    return DeltaRate(
        percent(PchipInterpolator),
        percent(Akima1DInterpolator),
        low,
        high,
        overlap,
        dropped_anchor,
        dropped_test,
    )


def _clean(points: Iterable[Point], name: str) -> tuple[tuple[list[float], list[float]], int]:
    """Rates and PSNRs, both strictly rising, and how many points had to go."""
    given = list(points)
    usable = sorted(
        ((rate, psnr) for rate, psnr in given if psnr is not None and _sound(rate, psnr)),
        key=lambda point: (point[0], -point[1]),
    )
    rates: list[float] = []
    psnrs: list[float] = []
    for rate, psnr in usable:
        if not psnrs or psnr > psnrs[-1]:
            rates.append(float(rate))
            psnrs.append(float(psnr))
    dropped = len(given) - len(rates)
    if len(rates) < FEWEST_POINTS:
        why = f" ({dropped} dropped: a cheaper one is as good, or they are no numbers)" if dropped else ""
        raise UsageError(
            f"The {name} curve has {len(rates)} usable points{why}, and a delta rate needs {FEWEST_POINTS}."
        )
    return (rates, psnrs), dropped


def _sound(rate: float, psnr: float) -> bool:
    return bool(np.isfinite(rate) and np.isfinite(psnr) and rate > 0)
