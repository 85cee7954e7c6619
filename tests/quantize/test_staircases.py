"""Levels and thresholds by one integer rule: the same on every machine, rising at every position."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softstair
from softstair.bundle import Bundle
from softstair.codec import read_symbols
from softstair.errors import InvalidBundle
from softstair.quantize.staircase import Encoding, Staircase, Thresholds, check_thresholds, thresholds_at

from ..tiny import with_staircases

POINTS = 11
LAST = 16 * (POINTS - 1)
# Levels and thresholds like learned ones: gaps a little over a step, a dead zone that shrinks with the rate.
LEVELS = [[512 * member + (7 * point + 3 * member) % 90 for member in range(1, 9)] for point in range(POINTS)]
THRESHOLDS = [[1024 * k + 512 + (POINTS - point) * 9 // (k + 1) for k in range(4)] for point in range(POINTS)]
Z_THRESHOLDS = [[540 + 5 * (POINTS - point), 1536 + point] for point in range(POINTS)]


def with_thresholds(bundle: Bundle, levels=LEVELS, thresholds=THRESHOLDS, z=Z_THRESHOLDS) -> Bundle:
    """The same bundle with staircases that were learned, for the mode scalar."""
    changed = with_staircases(bundle, lambda staircase: staircase)
    entries = dict(changed.entries)
    staircases = json.loads(entries["staircases.json"])
    staircases["modes"]["scalar"]["levels"] = levels
    entries["staircases.json"] = json.dumps(staircases).encode()
    manifest = json.loads(entries["manifest.json"])
    manifest["encoding"] = {"thresholds": {"scalar": thresholds} if thresholds else {}, "z_thresholds": z}
    entries["manifest.json"] = json.dumps(manifest).encode()
    return Bundle(entries, "changed")


def test_all_positions_have_the_same_numbers_everywhere():
    digest, staircase = hashlib.sha256(), Staircase(levels=LEVELS)
    for position in range(LAST + 1):
        grid = staircase.grid(position)
        digest.update(grid.tobytes())
        digest.update(thresholds_at(THRESHOLDS, position, grid).starts.tobytes())
        digest.update(thresholds_at(Z_THRESHOLDS, position).starts.tobytes())
    assert digest.hexdigest() == ("0810aabbfabf1c58a8336ced81793e7c1fe26d669142343b31dbb4a5f6555861")


@st.composite
def staircases(draw):
    """Levels and thresholds of all rate points, as wild as the format allows."""
    count = draw(st.integers(1, 5))
    levels, thresholds = [], []
    for _ in range(POINTS):
        gaps = draw(st.lists(st.integers(2, 4000), min_size=2 * count, max_size=2 * count))
        row = np.cumsum(gaps).tolist()
        edges = [0, *row[1::2]]
        levels.append(row)
        thresholds.append([draw(st.integers(edges[k] + 1, edges[k + 1] - 1)) for k in range(count)])
    return levels, thresholds


@settings(max_examples=60, deadline=None)
@given(staircases())
def test_levels_rise_and_thresholds_lie_between_them_at_all_positions(case):
    levels, thresholds = case
    staircase = Staircase(levels=levels)
    Encoding(thresholds={"scalar": thresholds})
    for row, edges in zip(thresholds, levels, strict=True):
        check_thresholds(row, edges)
    for position in range(LAST + 1):
        grid = staircase.grid(position)
        assert (np.diff(grid) > 0).all()
        starts = thresholds_at(thresholds, position, grid).starts
        assert (grid[:-1:2] < starts).all()
        assert (starts < grid[2::2]).all()


@settings(max_examples=60, deadline=None)
@given(staircases(), st.integers(0, LAST), st.integers(0, 1000))
def test_decisions_are_counts_of_thresholds(case, position, seed):
    levels, points = case
    grid = Staircase(levels=levels).grid(position)
    thresholds = thresholds_at(points, position, grid)
    values = np.random.default_rng(seed).normal(0, 6, 300).astype(np.float32)
    values[:3] = thresholds.starts[0], -thresholds.starts[0], 0
    half_way = thresholds.outermost + 0.5 + np.arange(64)
    starts = np.concatenate([thresholds.starts, half_way])
    expected = np.array([np.sign(v) * np.sum(np.abs(v) > starts) for v in values])
    np.testing.assert_array_equal(thresholds.decide(values), expected)


def test_nothing_learned_is_rounding():
    values = np.random.default_rng(0).normal(0, 9, 1000).astype(np.float32)
    plain = Thresholds(np.zeros(0, np.float32), np.float32(0))
    np.testing.assert_array_equal(plain.decide(values), np.rint(values))
    assert plain.decide(np.float32([1e9, -1e9])).tolist() == [16383, -16383]


@pytest.mark.parametrize("position", [40, 75])
def test_thresholds_decide_what_a_file_holds(tiny_bundle, small_photo, position):
    """Larger dead zones leave fewer symbols; the file decodes to what its encoder saw."""
    learned = with_thresholds(tiny_bundle)
    plain = with_thresholds(tiny_bundle, levels=[], thresholds=[[512]] * POINTS, z=[[512]] * POINTS)
    rounding = with_thresholds(tiny_bundle, levels=[], thresholds=[], z=[])
    count = {}
    for name, bundle in {"learned": learned, "plain": plain, "rounding": rounding}.items():
        data = softstair.encode(small_photo, bundle=bundle, rate_position=position, mode="scalar")
        (tile,) = read_symbols(data, bundle)
        count[name] = np.count_nonzero(tile.y) + np.count_nonzero(tile.z)
        assert softstair.decode(data, bundle=bundle).shape == small_photo.shape
    assert count["learned"] < count["plain"] == count["rounding"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"thresholds": [[512] * 4] * POINTS}, "between"),
        ({"thresholds": THRESHOLDS[:-1]}, "as many"),
        ({"thresholds": [[512]] * POINTS}, "levels"),
        ({"thresholds": [[0]] * POINTS, "levels": []}, "between"),
        ({"z": [[1024]] * POINTS}, "between"),
        ({"z": [[512]] * 3}, "as many"),
        ({"z": [[512], *[[512, 1536]] * (POINTS - 1)]}, "as many"),
    ],
)
def test_thresholds_that_no_staircase_can_have_are_refused(tiny_bundle, change, word):
    with pytest.raises(InvalidBundle, match=word):
        with_thresholds(tiny_bundle, **change)
