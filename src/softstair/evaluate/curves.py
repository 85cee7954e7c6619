"""Rate-distortion curves and the Bjontegaard delta rate between two of them.

G. Bjontegaard: Calculation of average PSNR differences between RD-curves. ITU-T VCEG-M33, 2001;
with piecewise interpolation of log rate over quality, as by PCHIP (JCT-VC) and Akima (C. Herglotz et
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

Point = tuple[float, float | None]  # bits per pixel; a metric, higher is better, None where infinite


@dataclass(frozen=True)
class DeltaRate:
    """Mean difference in rate of a test curve to an anchor at equal values of a metric such as PSNR.

    pchip, akima: percent, negative where the test needs fewer bits. low, high: range of the
    comparison, in the metric's unit. overlap: its share of the test curve's range, 0 to 1. dropped_anchor,
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
        anchor, test: points (rate, value) in any order, both in the same units; of a metric that
            rises with quality, such as PSNR or MS-SSIM in dB.

    Raises:
        UsageError: a curve has fewer than four usable points, or the curves share less than half
            of the test curve's range.
    """
    (anchor_rates, anchor_values), dropped_anchor = _clean(anchor, "anchor")
    (test_rates, test_values), dropped_test = _clean(test, "test")
    low = max(anchor_values[0], test_values[0])
    high = min(anchor_values[-1], test_values[-1])
    overlap = max(high - low, 0.0) / (test_values[-1] - test_values[0])
    if overlap < SMALLEST_OVERLAP:
        raise UsageError(
            f"The curves share {overlap:.0%} of the test curve's range "
            f"({test_values[0]:.2f} to {test_values[-1]:.2f}; the anchor has {anchor_values[0]:.2f} "
            f"to {anchor_values[-1]:.2f}), and a delta rate needs {SMALLEST_OVERLAP:.0%}."
        )

    def percent(interpolator: Any) -> float:
        areas = [
            float(interpolator(values, np.log(rates)).integrate(low, high))
            for values, rates in ((anchor_values, anchor_rates), (test_values, test_rates))
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
    """Rates and values, both strictly rising, and how many points had to go."""
    given = list(points)
    usable = sorted(
        ((rate, value) for rate, value in given if value is not None and _sound(rate, value)),
        key=lambda point: (point[0], -point[1]),
    )
    rates: list[float] = []
    values: list[float] = []
    for rate, value in usable:
        if not values or value > values[-1]:
            rates.append(float(rate))
            values.append(float(value))
    dropped = len(given) - len(rates)
    if len(rates) < FEWEST_POINTS:
        why = f" ({dropped} dropped: a cheaper one is as good, or they are no numbers)" if dropped else ""
        raise UsageError(
            f"The {name} curve has {len(rates)} usable points{why}, and a delta rate needs {FEWEST_POINTS}."
        )
    return (rates, values), dropped


def _sound(rate: float, value: float) -> bool:
    return bool(np.isfinite(rate) and np.isfinite(value) and rate > 0)
