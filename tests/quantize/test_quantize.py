from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softstair.quantize.phases import phase_map
from softstair.quantize.rates import hat_weights, interpolate, nearest_point
from softstair.quantize.tables import BITS, RowRule, gaussian, gaussian_tables, integer_cdf, measured_tables

RULE = RowRule(base=-102, skip=0, rows=78)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=600))
def test_integer_cdfs_are_whole_and_leave_nothing_out(weights):
    cdf = integer_cdf(np.array(weights) + 1e-9)
    assert cdf[0] == 0
    assert cdf[-1] == 1 << BITS
    assert (np.diff(cdf.astype(int)) >= 1).all()


def test_tables_lose_little_against_their_gaussian():
    """The rate loss of 14-bit tables with shrinking alphabets."""
    tables = gaussian_tables(RULE)
    for row in range(0, RULE.rows, 7):
        p = gaussian(RULE.sigma(row), RULE.alphabet(row))[:-1]
        q = tables.probabilities(row)[:-1]
        keep = p > 0
        entropy = -(p[keep] * np.log2(p[keep])).sum()
        assert -(p[keep] * np.log2(q[keep])).sum() - entropy < 0.002 + 0.002 * entropy


def test_gaussians_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    for sigma in (0.2, 1.0, 20.0):
        k = np.arange(-30, 31)
        expected = stats.norm.cdf(k + 0.5, scale=sigma) - stats.norm.cdf(k - 0.5, scale=sigma)
        np.testing.assert_allclose(gaussian(sigma, 30)[:-1], expected, atol=1e-12)


def test_measured_tables_follow_the_counts_where_there_are_many():
    counts = np.zeros((RULE.rows, 2049), np.int64)
    counts[30, 1023:1026] = (100_000, 800_000, 100_000)
    p = measured_tables(RULE, counts).probabilities(30)
    middle = (len(p) - 1) // 2
    assert p[middle] == pytest.approx(0.8, abs=0.01)
    assert p[middle - 1] == pytest.approx(p[middle + 1], abs=2e-4)


@given(st.integers(1, 20), st.integers(1, 20))
def test_phases_cover_every_latent_once(height, width):
    phases = phase_map(64, height, width)
    per_position = [(phases == phase).sum(axis=0) for phase in range(4)]
    assert all((count == 16).all() for count in per_position)


@given(st.lists(st.integers(-1024, 1024), min_size=11, max_size=11), st.integers(0, 160))
def test_interpolation_is_exact_at_points_and_between_its_ends(values, position):
    points = np.array(values, np.int32)
    found = int(interpolate(points, position))
    point, fraction = divmod(position, 16)
    ends = points[point], points[min(point + 1, 10)]
    assert min(ends) <= found <= max(ends)
    if fraction == 0:
        assert found == points[point]
    assert hat_weights(position, 11) @ points == pytest.approx(found, abs=0.5001)
    assert abs(16 * nearest_point(position, 11) - position) <= 8
