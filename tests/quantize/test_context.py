"""Context networks: what is written with them is read with them, whatever the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softstair import _core
from softstair.bundle import open_bundle, read_bundle
from softstair.mode import Mode
from softstair.quantize.context import BLOCK, Context, from_tensors, to_tensors

from ..conftest import GOLDEN
from ..contexts import ROWS, random_hyper, random_place, random_signs, with_context

SIZES = [(1, 1), (2, 3), (3, 2), (5, 4), (16, 16), (17, 23)]
MODES = [Mode.SCALAR, Mode.TCQ8]
OF_ROWS = ("gain", "unit", "growth")  # of signs


def random_tile(height: int, width: int, seed: int = 0, channels: tuple[int, int] = (16, 64)):
    rng = np.random.default_rng(seed)
    z = rng.integers(-4, 5, ((height + 1) // 2, (width + 1) // 2, channels[0])).astype(np.int16)
    z[0, 0, :3] = [127, -127, 60]
    y = (3 * rng.standard_cauchy((channels[1], height, width))).astype(np.float32)
    return z, y


def coded(model, z, y):
    tile = _core.TileEncoder(model, z, *y.shape[1:])
    decoded = np.zeros_like(y)
    ones = np.ones(len(y), np.float32)
    for _ in range(4):
        tile.begin_phase()
        tile.quantize(y, np.zeros_like(y), ones, 0.04, np.zeros(0, np.float32), decoded)
    return tile


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "parts",
    [{"hyper": False}, {"place": False}, {}, {"signs": True}],
    ids=["place", "hyper", "both", "signs"],
)
def test_symbols_come_back_and_cost_what_the_tables_say(tiny_bundle, mode, parts):
    integers = with_context(tiny_bundle.integers, **parts)
    for size in SIZES:
        z, y = random_tile(*size)
        model = integers.at(70, mode).model
        tile = coded(model, z, y)
        data = tile.finish()
        read_z, read_y = model.decode(data, *size)
        np.testing.assert_array_equal(read_z, z)
        np.testing.assert_array_equal(read_y, tile.symbols)
        assert 8 * len(data) <= 1.003 * sum(tile.cross_entropy()) + 4 * 48


@pytest.mark.parametrize("mode", MODES)
def test_both_networks_change_what_symbols_cost(tiny_bundle, mode):
    z, y = random_tile(17, 23)
    plain = coded(tiny_bundle.at(70, mode).model, z, y).cross_entropy()
    place = coded(with_context(tiny_bundle.integers, hyper=False).at(70, mode).model, z, y).cross_entropy()
    hyper = coded(with_context(tiny_bundle.integers, place=False).at(70, mode).model, z, y).cross_entropy()
    assert place[0] == plain[0]
    assert place[1] != pytest.approx(plain[1], rel=1e-4)
    assert hyper[0] != pytest.approx(plain[0], rel=1e-3)


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(MODES),
    st.integers(1, 20),
    st.integers(1, 20),
    st.lists(st.integers(0, 255), min_size=1, max_size=7),
    st.integers(0, 1000),
)
def test_symbols_come_back_whatever_signs_lean_to(mode, height, width, skew, seed):
    tiny = read_bundle((GOLDEN / "v1" / "tiny.stairs").read_bytes(), "tiny.stairs")
    integers = with_context(tiny.integers, signs=True, seed=seed)
    signs = replace(integers.context.signs, skew=np.array(skew, np.int16))
    integers = replace(integers, context=replace(integers.context, signs=signs))
    z, y = random_tile(height, width, seed)
    model = integers.at(70, mode).model
    tile = coded(model, z, y)
    data = tile.finish()
    np.testing.assert_array_equal(model.decode(data, height, width)[1], tile.symbols)
    portable = integers.at(70, mode, simd=False).model
    assert coded(portable, z, y).finish() == data
    assert 8 * len(data) <= 1.003 * sum(tile.cross_entropy()) + 4 * 48


@pytest.mark.parametrize("mode", MODES)
def test_signs_change_no_symbol_and_no_scale(tiny_bundle, mode):
    z, y = random_tile(17, 23)
    without, signs = (
        coded(with_context(tiny_bundle.integers, signs=signs).at(70, mode).model, z, y)
        for signs in (False, True)
    )
    np.testing.assert_array_equal(signs.symbols, without.symbols)
    for ours, theirs in zip(signs.coded, without.coded, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert signs.cross_entropy()[0] == without.cross_entropy()[0]
    assert signs.cross_entropy()[1] != pytest.approx(without.cross_entropy()[1], rel=1e-3)


def test_signs_that_follow_those_before_cost_less(tiny_bundle):
    place = random_place(16)
    signs = random_signs(16)
    near = np.zeros_like(signs.near)
    near[:, :, 0] = 4000  # two places to the left
    signs = replace(signs, near=near, gain=np.full_like(signs.gain, 256))
    z, y = random_tile(16, 32)
    steady = np.minimum(np.abs(y), 0.6) * np.where(np.arange(64) % 2, 1, -1)[:, None, None].astype(np.float32)
    costs = {}
    for name, of in (("with", signs), ("without", None)):
        model = replace(tiny_bundle.integers, context=Context(place, None, of)).at(70, Mode.TCQ8).model
        costs[name] = coded(model, z, steady).cross_entropy()[1]
    assert costs["with"] < 0.95 * costs["without"]


def test_tables_of_a_lean_have_what_their_row_and_skew_say():
    row = np.cumsum([0, 100, 1, 2000, 9000, 3000, 7, 50, 16384 - 14158]).astype(np.uint16)
    tables = _core.Tables(row, np.array([0, len(row)], np.int32))
    signs = random_signs(16)
    of_row = {name: getattr(signs, name)[:1] for name in OF_ROWS}
    # A lean of 1 is one of 2 for a level of 2, and of 3 for one of 3; there are no more.
    skew, of_row["growth"] = np.array([128, 128, 255], np.int16), np.array([1 << 8], np.int16)
    leaning = tables.leaning(replace(signs, **of_row, skew=skew).build())
    assert leaning.rows == 4
    # Costs of many equal symbols tell the slots: f(-v) gives (f(-v) skew) >> 8 to f(v).
    for level, slots in {
        -3: (100, 1, 1, 1),
        -2: (1, 1, 1, 1),
        -1: (2000, 1000, 1000, 8),
        0: (9000, 9000, 9000, 9000),
        1: (3000, 4000, 4000, 4992),
        3: (50, 149, 149, 149),
    }.items():
        for lean, expected in enumerate(slots):
            data = leaning.encode(np.full(20000, lean, np.int16), np.full(20000, level, np.int16), 1)
            assert 8 * len(data) / 20000 == pytest.approx(14 - np.log2(expected), abs=0.05)
    with pytest.raises(ValueError, match="does not fit the tables"):
        tables.leaning(signs.build())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("signs", [False, True])
def test_vector_kernels_give_the_same_bytes(tiny_bundle, mode, signs):
    z, y = random_tile(17, 23)
    integers = with_context(tiny_bundle.integers, signs=signs)
    with_simd, without = (
        coded(integers.at(70, mode, simd=simd).model, z, y).finish() for simd in (True, False)
    )
    assert with_simd == without


@pytest.mark.parametrize("mode", MODES)
def test_blocks_after_the_first_see_those_before(mode):
    integers = open_bundle().integers
    assert integers.channels // 4 > 2 * BLOCK
    z, y = random_tile(9, 10, channels=(integers.hyper_channels, integers.channels))
    place = with_context(integers, hyper=False)
    blind = replace(place.context.place, weight=np.zeros_like(place.context.place.weight))
    models = [place.at(70, mode, simd=simd).model for simd in (True, False)]
    models.append(replace(place, context=Context(place=blind)).at(70, mode).model)
    seeing, portable, without = (coded(model, z, y) for model in models)
    assert seeing.finish() == portable.finish()
    assert seeing.cross_entropy()[1] != pytest.approx(without.cross_entropy()[1], rel=1e-3)
    for model in models[:2]:
        np.testing.assert_array_equal(model.decode(seeing.finish(), 9, 10)[1], seeing.symbols)


@pytest.mark.parametrize("mode", MODES)
def test_blocks_after_the_first_see_signs_of_those_before(mode):
    integers = open_bundle().integers
    z, y = random_tile(9, 10, channels=(integers.hyper_channels, integers.channels))
    seeing = with_context(integers, hyper=False, signs=True)
    signs = seeing.context.signs
    without = replace(signs, weight=np.zeros_like(signs.weight))
    blind = replace(seeing, context=replace(seeing.context, signs=without))
    models = [seeing.at(70, mode).model, seeing.at(70, mode, simd=False).model, blind.at(70, mode).model]
    tiles = [coded(model, z, y) for model in models]
    assert tiles[0].finish() == tiles[1].finish()
    assert tiles[0].cross_entropy()[1] != pytest.approx(tiles[2].cross_entropy()[1], rel=1e-3)
    for model in models[:2]:
        np.testing.assert_array_equal(model.decode(tiles[0].finish(), 9, 10)[1], tiles[0].symbols)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("signs", [False, True])
def test_bytes_that_arrive_one_by_one_are_read_as_far_as_they_reach(tiny_bundle, mode, signs):
    z, y = random_tile(16, 18)
    model = with_context(tiny_bundle.integers, signs=signs).at(70, mode).model
    tile = coded(model, z, y)
    data, lines = tile.finish(), 0
    reader = _core.TileDecoder(model, 16, 18)
    for start in range(0, len(data), 37):
        reader.append(data[start : start + 37])
        assert reader.y_lines >= lines
        lines = reader.y_lines
    np.testing.assert_array_equal(reader.z, z)
    np.testing.assert_array_equal(reader.y, tile.symbols)


def test_damaged_bytes_end_in_an_error_or_other_symbols(tiny_bundle):
    z, y = random_tile(16, 18)
    model = with_context(tiny_bundle.integers).at(70, Mode.TCQ8).model
    data = bytearray(coded(model, z, y).finish())
    rng = np.random.default_rng(5)
    faults = 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            model.decode(bytes(damaged), 16, 18)
        except ValueError as error:
            assert str(error) in ("truncated", "corrupt")
            faults += 1
    assert faults > 150


def test_a_channel_may_not_see_one_that_is_read_later():
    place = random_place(64)
    weight = place.weight.copy()
    weight[0, 0, 1] = 1
    with pytest.raises(ValueError, match="read later"):
        replace(place, weight=weight).build()
    assert BLOCK == 16


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ({"weight": np.tri(16, dtype=np.int16)[None].repeat(4, 0)}, "read later"),
        ({"weight": np.zeros((4, 16, 17), np.int16)}, "wrong shape"),
        ({"weight": np.zeros((3, 16, 16), np.int16)}, "wrong shape"),
        ({"near": np.zeros((4, 4, 3, 16), np.int16)}, "wrong shape"),
        ({"near": np.zeros((2, 8, 4, 16), np.int16)}, "wrong shape"),
        ({"skew": np.array([], np.int16)}, "number of leans"),
        ({"skew": np.arange(64, dtype=np.int16)}, "number of leans"),
        ({"skew": np.array([256], np.int16)}, "skew"),
        ({"skew": np.array([-1], np.int16)}, "skew"),
        ({"unit": np.full(ROWS, -1, np.int16)}, "negative"),
        ({"growth": np.full(ROWS, -1, np.int16)}, "negative"),
        ({"unit": np.zeros(ROWS - 1, np.int16)}, "numbers of rows"),
        ({"growth": np.zeros(0, np.int16)}, "numbers of rows"),
    ],
)
def test_impossible_signs_are_refused(damage, why):
    with pytest.raises(ValueError, match=why):
        replace(random_signs(16), **damage).build()


def test_signs_need_the_place_and_its_shape(tiny_bundle):
    place, signs = random_place(16), random_signs(16)
    for context in (
        Context(None, None, signs),
        Context(place, None, replace(signs, **{name: getattr(signs, name)[1:] for name in OF_ROWS})),
        Context(place, None, random_signs(32)),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            replace(tiny_bundle.integers, context=context).at(0, Mode.SCALAR)
    tensors = to_tensors(Context(place, None, signs))
    for missing in tensors:
        with pytest.raises(ValueError, match="does not hold"):
            from_tensors({name: value for name, value in tensors.items() if name != missing})


def test_weights_that_could_overflow_are_refused(tiny_bundle):
    hyper = random_hyper(16, 11, hidden=256)
    head = np.full_like(hyper.head, 32767)
    with pytest.raises(ValueError, match="overflow"):
        replace(hyper, head=head).build(16)
    wide = random_place(1024)
    random_signs(240).build()
    with pytest.raises(ValueError, match="wrong shape"):
        random_signs(256).build()
    block = np.arange(1024) % 64
    weight = np.broadcast_to(np.where(block[:, None] > block[None, :], 32767, 0), (4, 1024, 1024))
    with pytest.raises(ValueError, match="overflow"):
        replace(wide, weight=np.ascontiguousarray(weight, np.int16)).build()


def test_a_network_of_other_rows_does_not_fit(tiny_bundle):
    place = random_place(16)
    short = replace(place, expected=place.expected[:-1], gain=place.gain[:-1], bias=place.bias[:-1])
    with pytest.raises(ValueError, match="fit"):
        replace(tiny_bundle.integers, context=Context(place=short)).at(0, Mode.SCALAR)


@pytest.mark.parametrize("parts", [{"hyper": False}, {"place": False}, {}, {"signs": True}])
def test_tensors_come_back(tiny_bundle, parts):
    context = with_context(tiny_bundle.integers, **parts).context
    again = from_tensors(to_tensors(context))
    assert (again.place is None, again.hyper is None) == (context.place is None, context.hyper is None)
    for name, value in to_tensors(context).items():
        np.testing.assert_array_equal(to_tensors(again)[name], value)
