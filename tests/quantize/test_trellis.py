"""Entropy-constrained quantization: optimal, worth what theory says, and read back by the decoder."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softstair import _core
from softstair.mode import Mode
from softstair.quantize.staircase import UNIFORM
from softstair.quantize.tables import RowRule, TableSet, gaussian_tables, join
from softstair.quantize.trellis import indices, quantizers, search

from ..tiny import with_512_states

RULE = RowRule(base=-102, skip=0, rows=78)
TRELLISES = [states for states in sorted({mode.states for mode in Mode}) if states > 1]
# Granular gain over a scalar quantizer, dB: docs/modes.md.
COST_UNIT = 2**-10  # costs of a latent are rounded to it
GRANULAR_GAIN = {4: 0.99, 8: 1.08, 16: 1.14, 32: 1.20, 512: 1.36}


@pytest.fixture(scope="module")
def every_mode(tiny_bundle):
    """The tiny bundle, with the modes that it has not."""
    return with_512_states(tiny_bundle)


def bits_of(tables: TableSet, row: int, level: int) -> float:
    p = tables.probabilities(row)
    largest = (len(p) - 2) // 2
    if abs(level) <= largest:
        return -np.log2(p[level + largest])
    return -np.log2(p[-1]) + 4 + int(abs(level) - largest).bit_length()


def cost_of(levels, residual, rows, tables, states, rate_weight, grid=None) -> float:
    member = indices(np.asarray(levels, np.int16), states=states)
    chosen = quantizers(np.asarray(levels, np.int16), states=states)
    place = 0.5 * np.abs(member) if grid is None else grid[np.abs(member)]
    error = np.square(residual - np.sign(member) * place).sum()
    bits = sum(bits_of(tables, 2 * r + q, k) for r, q, k in zip(rows, chosen, levels, strict=True))
    return float(error + rate_weight * bits)


@pytest.mark.parametrize("states", TRELLISES)
@pytest.mark.parametrize("learned", [False, True])
def test_the_search_finds_what_an_exhaustive_one_finds(states, learned):
    """Every sequence of levels, against the search: never better by more than its candidates cost."""
    rng = np.random.default_rng(states)
    tables = gaussian_tables(RULE, states)
    grid = np.cumsum(np.r_[0, rng.uniform(0.3, 0.7, 11)]).astype(np.float32) if learned else None
    excess = []
    for _ in range(3):
        residual = rng.normal(0, 1, 4).astype(np.float32)
        rows = rng.integers(20, 44, 4).astype(np.int16)
        rate_weight = float(rng.choice([0.0, 0.05, 0.15]))
        found = search(residual, rows, tables, states=states, rate_weight=rate_weight, grid=grid)
        every = product(range(-3, 4), repeat=4)
        best = min(cost_of(levels, residual, rows, tables, states, rate_weight, grid) for levels in every)
        cost = cost_of(found, residual, rows, tables, states, rate_weight, grid)
        excess.append(cost / best - 1)
        if rate_weight == 0:
            assert cost == pytest.approx(best, abs=4 * COST_UNIT)
    assert max(excess) < 0.02


@pytest.mark.parametrize("states", TRELLISES)
def test_granular_gain(states):
    """Uniform samples far from zero, no rate weight: the trellis' gain over rounding, in dB."""
    rng = np.random.default_rng(7)
    residual = rng.uniform(-300, 300, 400_000).astype(np.float32)
    rows = np.full(len(residual), 77, np.int16)
    tables = gaussian_tables(RULE, states)
    levels = search(residual, rows, tables, states=states, rate_weight=0.0, lanes=4)
    error = np.mean((residual - 0.5 * indices(levels, states=states, lanes=4)) ** 2)
    assert 10 * np.log10(1 / 12 / error) == pytest.approx(GRANULAR_GAIN[states], abs=0.03)


@given(
    st.sampled_from(TRELLISES),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 300),
    st.sampled_from([0.3, 3.0, 300.0, 1e6]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_vector_kernels_find_the_same_levels(states, lanes, count, spread, seed):
    """Far beyond the tables, too, and where a residual is no number."""
    rng = np.random.default_rng(seed)
    residual = rng.normal(0, spread, count).astype(np.float32)
    residual[rng.random(count) < 0.02] = np.nan
    rows = rng.integers(0, 78, count).astype(np.int16)
    arguments = (states, gaussian_tables(RULE, states).core, residual, rows, 0.04, UNIFORM, lanes)
    with_vectors, without = (_core.search(*arguments, simd=simd) for simd in (True, False))
    np.testing.assert_array_equal(with_vectors, without)


def least_error(residual: np.ndarray, states: int, h0: int, h1: int) -> float:
    """Of all paths over all latents, without a rate: A. Viterbi's search, one cost a state."""
    before = np.arange(states)
    after = [before >> 1 ^ np.where(before & 1, h0 >> 1, 0) ^ (h1 >> 1 if odd else 0) for odd in (0, 1)]
    costs = np.full(states, np.inf)
    costs[0] = 0
    # The nearest member of each quantizer and parity: of quantizer 1, a level k > 0 lies at k - 1/2.
    for value in np.abs(residual):
        levels = np.arange(int(value) + 4)
        error = [(value - levels) ** 2, (value - np.maximum(levels - 0.5, 0)) ** 2]
        entered = np.full(states, np.inf)
        for odd in (0, 1):
            nearest = np.array([one[odd::2].min() for one in error])
            np.minimum.at(entered, after[odd], costs + nearest[before & 1])
        costs = entered
    return float(costs.min())


@pytest.mark.parametrize(("states", "h0", "h1"), [(8, 0o13, 0o4), (512, 0o1045, 0o576)])
def test_the_windows_of_a_search_cost_nothing(states, h0, h1):
    """Latents are decided 4096 at a time, with 256 more in view: as good as all at once."""
    residual = np.random.default_rng(states).normal(0, 1.5, 2 * 4096 + 700).astype(np.float32)
    rows = np.full(len(residual), 50, np.int16)
    tables = gaussian_tables(RULE, states)
    levels = search(residual, rows, tables, states=states, rate_weight=0.0)
    error = np.square(residual - 0.5 * indices(levels, states=states)).sum()
    assert error == pytest.approx(least_error(residual, states, h0, h1), rel=1e-4)


def test_one_state_without_a_rate_weight_is_rounding():
    residual = np.random.default_rng(1).normal(0, 5, 5000).astype(np.float32)
    rows = np.full(len(residual), 60, np.int16)
    found = search(residual, rows, gaussian_tables(RULE), states=1, rate_weight=0.0)
    np.testing.assert_array_equal(found, np.rint(residual))


def test_rate_distortion_optimised_levels_cost_least():
    rng = np.random.default_rng(2)
    residual = rng.normal(0, 1.5, 3000).astype(np.float32)
    rows = rng.integers(10, 60, len(residual)).astype(np.int16)
    tables = gaussian_tables(RULE)
    found = search(residual, rows, tables, states=1, rate_weight=0.1)
    for r, row, level in zip(residual, rows, found, strict=True):
        costs = {k: (r - k) ** 2 + 0.1 * bits_of(tables, row, k) for k in range(-12, 13)}
        assert costs[level] <= min(costs.values()) + 1e-4


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"states": 5}, "states"),
        ({"lanes": 3}, "lanes"),
        ({"rows": np.array([99], np.int16)}, "row"),
        ({"rows": np.array([1, 2], np.int16)}, "row"),
        ({"rate_weight": -1.0}, "rate weight"),
        ({"grid": np.array([0.0, 0.5, 0.4], np.float32)}, "rises"),
    ],
)
def test_impossible_searches_are_refused(change, word):
    arguments = {"residual": np.zeros(1, np.float32), "rows": np.array([3], np.int16), "states": 8}
    arguments |= {"tables": gaussian_tables(RULE, 8), "rate_weight": 0.1} | change
    with pytest.raises(ValueError, match=word):
        search(**arguments)


@settings(max_examples=120, deadline=None)
@given(
    mode=st.sampled_from(Mode),
    height=st.integers(1, 18),
    width=st.integers(1, 18),
    position=st.integers(0, 160),
    spread=st.sampled_from([0.0, 0.3, 5.0, 1e3, 1e7]),
    seed=st.integers(0, 2**16),
)
def test_every_mode_reads_what_it_wrote(every_mode, mode, height, width, position, spread, seed):
    """One latent, many lanes, escapes, scales that do not fit: the symbols come back."""
    rng = np.random.default_rng(seed)
    z = np.rint(rng.normal(0, 20, ((height + 1) // 2, (width + 1) // 2, 16))).clip(-127, 127).astype(np.int16)
    y = (spread * rng.standard_cauchy((64, height, width))).astype(np.float32)
    check_round_trip(every_mode.at(position, mode).model, every_mode, z, y, mode)


@pytest.mark.parametrize("mode", Mode)
def test_nothing_coded_is_nothing_written(every_mode, mode):
    """Rows all below the skip threshold: only the lanes' states remain of y."""
    flat = join([np.arange(0, 2**14 + 1, 256, dtype=np.uint16)] * 16)
    states = mode.states
    y_tables = gaussian_tables(RULE, states)
    scale = every_mode.integers.scale
    zeros = np.zeros(64, np.int32)
    model = _core.Model(scale.core, flat.core, y_tables.core, -102, 78, np.zeros(16, np.int32), zeros, states)
    z = np.zeros((8, 8, 16), np.int16)
    y = np.full((64, 16, 16), 9, np.float32)
    tile = check_round_trip(model, every_mode, z, y, mode)
    assert not tile.symbols.any()
    assert len(tile.coded[0]) == 0


def check_round_trip(model, bundle, z, y, mode):
    _, height, width = y.shape
    tile = _core.TileEncoder(model, z, height, width)
    decoded, mean = np.zeros_like(y), np.zeros_like(y)
    scale, weight = np.ones(64, np.float32), bundle.at(0, mode).rate_weight
    for _ in range(4):
        tile.begin_phase()
        tile.quantize(y, mean, scale, weight, UNIFORM, decoded)
    z_back, y_back = model.decode(tile.finish(), height, width)
    np.testing.assert_array_equal(z_back, z)
    np.testing.assert_array_equal(y_back, tile.symbols)
    again = np.zeros_like(y)
    for phase in range(4):
        _core.reconstruct_phase(phase, y_back, mode.states, UNIFORM, mean, scale, again)
    np.testing.assert_array_equal(again, decoded)
    return tile
