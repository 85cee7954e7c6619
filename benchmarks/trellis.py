"""What trellises are worth on synthetic latents, as Markdown tables.

    python benchmarks/trellis.py [--samples 200000]

Granular gain: uniform samples, no rate weight, mean squared error against rounding with the same
step. Gap: Gaussian samples of one variance, tables measured until they agree with the levels that
the search chooses by them, rate by the tables; distance to the rate-distortion bound
D = sigma^2 2^(-2R) at the best step and rate weight for every rate. Speed: the search alone, one
thread, latents of mixed scales in four lanes; 245 760 are those of 768x512 pixels with 160 channels.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import numpy.typing as npt

from softstair.quantize.tables import RowRule, TableSet, gaussian_tables, integer_cdf, join, measured_row
from softstair.quantize.trellis import indices, quantizers, search

STATES = (1, 4, 8, 16, 32, 512)
RATES = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)
RULE = RowRule(base=-102, skip=0, rows=78)
LANES = 4
ROUNDS = 12
Floats = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--speed", action="store_true", help="the table of speeds alone")
    arguments = parser.parse_args()
    print_speed()
    if not arguments.speed:
        print_gains(arguments.samples)


def print_speed() -> None:
    counts = (245_760, 983_040, 3_932_160)
    print("| states |", " | ".join(f"{count} latents, ms | ns a latent" for count in counts), "|")
    print("| --: |" + " --: |" * 2 * len(counts))
    for states in STATES:
        seconds = [search_seconds(states, count) for count in counts]
        cells = [f"{1e3 * s:.1f} | {1e9 * s / n:.1f}" for s, n in zip(seconds, counts, strict=True)]
        print(f"| {states} |", " | ".join(cells), "|", flush=True)


def search_seconds(states: int, count: int, runs: int = 9) -> float:
    """Median of searches for latents whose scales spread as those of photographs do."""
    rng = np.random.default_rng(1)
    rows = np.clip(rng.normal(26, 10, count), 0, RULE.rows - 1).astype(np.int16)
    sigma = np.array([RULE.sigma(row) for row in range(RULE.rows)], np.float32)[rows]
    residual = rng.normal(0, 1, count).astype(np.float32) * sigma
    tables = gaussian_tables(RULE, states)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        search(residual, rows, tables, states=states, rate_weight=0.04, lanes=LANES)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def print_gains(samples: int) -> None:
    print("\n| states | granular gain, dB |\n| --: | --: |")
    for states in STATES[1:]:
        print(f"| {states} | {granular_gain(states, samples):.3f} |", flush=True)
    print("\n| gap to R(D), dB, at bits |", " | ".join(f"{rate:g}" for rate in RATES), "|")
    print("| --- |" + " --: |" * len(RATES))
    for name, states, weights in (
        ("rounding", 1, (0.0,)),
        ("RDOQ", 1, (0.04, 0.08, 0.12, 0.16, 0.2)),
        *((f"{states} states", states, (0.03, 0.06, 0.09, 0.12, 0.15)) for states in STATES[1:]),
    ):
        print(f"| {name} |", " | ".join(gaps(states, weights, samples)), "|", flush=True)


def granular_gain(states: int, samples: int) -> float:
    residual = np.random.default_rng(7).uniform(-300, 300, samples).astype(np.float32)
    rows = np.full(samples, RULE.rows - 1, np.int16)
    tables = gaussian_tables(RULE, states)
    levels = search(residual, rows, tables, states=states, rate_weight=0.0, lanes=LANES)
    return float(10 * np.log10(1 / 12 / np.mean((residual - places(levels, states)) ** 2)))


def gaps(states: int, weights: tuple[float, ...], samples: int) -> list[str]:
    """The smallest gap at every rate, "-" where no step reaches it."""
    normal = np.random.default_rng(3).normal(0, 1, samples).astype(np.float32)
    curves = []
    for weight in weights:
        points = [converge(normal, sigma, states, weight) for sigma in np.geomspace(0.2, 5, 16)]
        curves.append(np.array(sorted(points)))
    best = []
    for rate in RATES:
        found = [
            np.interp(rate, curve[:, 0], curve[:, 1])
            for curve in curves
            if curve[0, 0] <= rate <= curve[-1, 0]
        ]
        best.append(f"{min(found):.2f}" if found else "-")
    return best


def converge(normal: Floats, sigma: float, states: int, weight: float) -> tuple[float, float]:
    """Bits a sample and gap in dB, once tables and levels agree."""
    residual = (normal * sigma).astype(np.float32)
    rows = np.zeros(len(residual), np.int16)
    largest = int(np.ceil(5 * sigma)) + 1
    quantizer_count = 1 if states == 1 else 2
    flat = np.full(2 * largest + 2, 1.0)
    start = np.exp(-0.5 * (np.arange(-largest, largest + 1) / max(sigma, 0.4)) ** 2)
    tables = join([integer_cdf(np.append(start, 1e-4) / (start.sum() + 1e-4))] * quantizer_count)
    levels = np.zeros(0, np.int16)
    for _ in range(ROUNDS):
        levels = search(residual, rows, tables, states=states, rate_weight=weight, lanes=LANES)
        tables = measure(levels, states, largest, flat)
    bits = float(np.mean(cost(levels, states, largest, tables)))
    error = float(np.mean((residual - places(levels, states)) ** 2))
    return bits, 10 * np.log10(error / (sigma**2 * 2 ** (-2 * bits)))


def measure(
    levels: npt.NDArray[np.int16], states: int, largest: int, flat: npt.NDArray[np.float64]
) -> TableSet:
    chosen = quantizers(levels, states=states, lanes=LANES)
    rows = []
    for quantizer in range(1 if states == 1 else 2):
        symbols = levels[chosen == quantizer] if states > 1 else levels
        inside = symbols[np.abs(symbols) <= largest].astype(np.int64)
        counts = np.bincount(inside + largest, minlength=2 * largest + 1)
        seen = np.append(counts, len(symbols) - len(inside))
        rows.append(integer_cdf(measured_row(seen, flat / flat.sum(), 20.0)))
    return join(rows)


def cost(
    levels: npt.NDArray[np.int16], states: int, largest: int, tables: TableSet
) -> npt.NDArray[np.float64]:
    chosen = quantizers(levels, states=states, lanes=LANES) if states > 1 else np.zeros(len(levels), int)
    bits = np.array([-np.log2(tables.probabilities(row)) for row in range(tables.rows)])
    symbol = np.where(np.abs(levels) <= largest, levels + largest, 2 * largest + 1)
    return bits[chosen, symbol]


def places(levels: npt.NDArray[np.int16], states: int) -> npt.NDArray[np.float64]:
    if states == 1:
        return levels.astype(np.float64)
    return 0.5 * indices(levels, states=states, lanes=LANES)


if __name__ == "__main__":
    main()
