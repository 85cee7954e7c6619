"""Smoothing of what is learned: what it does, and that nobody sees where a picture was cut."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softstair
from softstair import _core
from softstair.bundle import Bundle
from softstair.codec import Rate, View, decode_picture, decode_view, encode_picture
from softstair.codec.again import encode_like
from softstair.codec.geometry import Geometry, to_pixels
from softstair.codec.grain import deviation_of_grain, grain_of
from softstair.errors import InvalidBundle
from softstair.mode import Mode
from softstair.pictures import Picture
from softstair.stream import read_stream

from ..tiny import photograph, screen_with_photograph, with_smoothing

MODE = Mode.TCQ8


def as_specified(planes: npt.NDArray[np.float32], threshold: int) -> npt.NDArray[np.float64]:
    """docs/format/stream.md, pixel by pixel: grey levels (H, W, 3), not rounded."""
    levels = 255 * planes[0].transpose(1, 2, 0).astype(np.float64)
    luma = levels @ [0.25, 0.5, 0.25]
    result = levels.copy()
    for y, x in np.ndindex(*luma.shape):
        moved, weights = np.zeros(3), 1.0
        for row in range(max(y - 2, 0), min(y + 3, len(luma))):
            for column in range(max(x - 2, 0), min(x + 3, luma.shape[1])):
                near = np.exp(-((row - y) ** 2 + (column - x) ** 2) / 2.88)
                weight = max(0.0, near * (1 - abs(luma[row, column] - luma[y, x]) / threshold))
                if (row, column) != (y, x):
                    moved += weight * (levels[row, column] - levels[y, x])
                    weights += weight
        result[y, x] += moved / (2 * weights)
    return result


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 63), st.integers(0, 99))
def test_pixels_are_as_specified(width, height, threshold, seed):
    noise = np.random.default_rng(seed)
    geometry = Geometry(width, height)
    shape = (1, 3, 16 * geometry.rows, 16 * geometry.columns)
    planes = (0.5 + 0.1 * noise.standard_normal(shape)).astype(np.float32)
    levels = np.clip(as_specified(planes, threshold)[:height, :width], 0, 255)
    assert np.abs(to_pixels(planes, geometry, threshold) - levels).max() <= 0.501


def test_without_it_levels_are_rounded_half_to_even():
    levels = np.array([-3, 0.5, 1.5, 2.5, 254.5, 300, np.nan, np.inf], np.float32)
    planes = np.zeros((1, 3, 16, 16), np.float32)
    planes[:, :, 0, : len(levels)] = levels / 255
    assert to_pixels(planes, Geometry(8, 1))[0, :, 1].tolist() == [0, 0, 2, 2, 254, 255, 0, 255]
    large = np.random.default_rng(1).normal(0.5, 0.4, (1, 3, 48, 64)).astype(np.float32)
    expected = np.clip(np.rint(large[0] * np.float32(255)), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    np.testing.assert_array_equal(to_pixels(large, Geometry(47, 33)), expected[:33, :47])


def test_what_no_planes_hold_is_refused():
    planes = np.zeros((3, 40, 50), np.float32)
    for height, width, threshold in ((41, 50, 0), (40, 51, 0), (0, 5, 0), (40, 50, -1), (40, 50, 64)):
        with pytest.raises(ValueError, match="outside the planes|impossible"):
            _core.to_pixels(planes, height, width, threshold)


@pytest.fixture
def smoothing(tiny_bundle: Bundle) -> Bundle:
    return with_smoothing(tiny_bundle)


def test_a_file_asks_for_it_and_any_decoder_does_it(tiny_bundle, smoothing):
    pixels = photograph(90, 70)
    plain = encode_picture(Picture(pixels), Rate(position=60), tiny_bundle, mode=MODE).data
    smoothed = encode_picture(Picture(pixels), Rate(position=60), smoothing, mode=MODE).data
    assert read_stream(plain).header.smoothing == 0
    assert read_stream(smoothed).header.smoothing == 12
    assert read_stream(smoothed).tiles == read_stream(plain).tiles
    before, after = (decode_picture(data, tiny_bundle).pixels for data in (plain, smoothed))
    steps = [np.abs(np.diff(one.astype(int), axis=0)).mean() for one in (before, after)]
    assert steps[1] < 0.97 * steps[0]
    assert softstair.decode(smoothed, bundle=tiny_bundle).tolist() == after.tolist()


def test_without_a_trellis_there_is_none(smoothing):
    for mode in (Mode.SCALAR, Mode.RDOQ):
        data = encode_picture(Picture(photograph(40, 40)), Rate(position=60), smoothing, mode=mode).data
        assert read_stream(data).header.smoothing == 0


def test_regions_and_windows_show_the_same(smoothing):
    pixels = photograph(700, 900)
    data = encode_picture(Picture(pixels), Rate(position=60), smoothing, mode=MODE).data
    whole = decode_picture(data, smoothing).pixels
    part = decode_view(data, View(region=(161, 243, 120, 99)), smoothing).picture.pixels
    assert np.abs(part.astype(int) - whole[243:342, 161:281]).max() <= 1
    small = decode_picture(data, smoothing, max_memory=205_000_000).pixels
    assert np.abs(small.astype(int) - whole).max() <= 1


def test_exact_pixels_stay_exact(smoothing):
    pixels, _ = screen_with_photograph(160, 192, slice(48, 112), slice(64, 144))
    data = encode_picture(Picture(pixels), Rate(position=90), smoothing, mode=MODE).data
    assert read_stream(data).exact
    decoded = decode_picture(data, smoothing).pixels
    exact = (decoded == pixels).all(axis=2)
    assert exact[:32].all()
    lossless = encode_picture(Picture(pixels), Rate(lossless=True), smoothing).data
    assert read_stream(lossless).header.smoothing == 0
    assert (decode_picture(lossless).pixels == pixels).all()


def test_a_psnr_that_was_asked_for_is_reached_with_it(smoothing):
    pixels = photograph(96, 96)
    data = encode_picture(Picture(pixels), Rate(target_psnr=24), smoothing, mode=MODE).data
    error = np.square(decode_picture(data, smoothing).pixels.astype(float) - pixels).mean()
    assert 10 * np.log10(255**2 / error) >= 24


def test_a_file_like_another_is_smoothed_like_it(tiny_bundle, smoothing):
    pixels = photograph(90, 70)
    old = encode_picture(Picture(pixels), Rate(position=60), smoothing, mode=MODE).data
    shown = decode_picture(old, tiny_bundle).pixels.copy()
    shown[40:44, 30:34] = 0
    again = encode_like(Picture(shown), old, tiny_bundle).data
    assert read_stream(again).header.smoothing == 12
    assert np.abs(decode_picture(again, tiny_bundle).pixels[:30].astype(int) - shown[:30]).mean() < 1


def sky(deviation: float, side: int = 128) -> npt.NDArray[np.uint8]:
    """Smooth from edge to edge, with grain of so many grey levels; a tenth of it over-exposed."""
    rows, columns = np.mgrid[0:side, 0:side]
    luma = (
        90
        + 0.5 * rows
        + 20 * np.sin(columns / 40)
        + np.random.default_rng(0).normal(0, deviation, rows.shape)
    )
    pixels = np.repeat(np.clip(np.rint(luma), 0, 255)[..., None], 3, axis=2)
    pixels[: side // 10] = 255
    return pixels.astype(np.uint8)


@pytest.mark.parametrize("deviation", [1.0, 2.0, 4.0])
def test_grain_is_measured_where_nothing_else_varies(deviation):
    pixels = sky(deviation)
    assert 0.7 * deviation < deviation_of_grain(pixels) < 1.1 * deviation
    assert deviation_of_grain(pixels[..., 0]) == pytest.approx(deviation_of_grain(pixels))
    busy = pixels.copy()
    busy[80:] = np.random.default_rng(1).integers(0, 255, busy[80:].shape)
    assert deviation_of_grain(busy) < 1.3 * deviation_of_grain(pixels)


def test_pictures_without_grain_or_too_small_to_tell_have_none():
    assert grain_of(sky(0)) == 0
    assert grain_of(np.full((64, 64, 3), 255, np.uint8)) == 0
    for shape in ((1, 1, 3), (9, 400, 3), (400, 9)):
        assert grain_of(np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)) == 0
    assert grain_of(sky(3)) == 1


def test_pictures_full_of_grain_are_smoothed_less(tiny_bundle):
    bundle = with_smoothing(tiny_bundle, of_grain=0.25)
    for deviation, threshold in ((0.3, 12), (3, 3)):
        data = encode_picture(Picture(sky(deviation)), Rate(position=60), bundle, mode=MODE).data
        assert read_stream(data).header.smoothing == threshold


def test_a_share_of_the_smoothing_that_cannot_be_is_refused(tiny_bundle):
    manifest = json.loads(with_smoothing(tiny_bundle).entries["manifest.json"])
    manifest["encoding"]["smoothing_of_grain"] = 1.5
    entries = {**tiny_bundle.entries, "manifest.json": json.dumps(manifest).encode()}
    with pytest.raises(InvalidBundle, match="smoothing of grain must be a share"):
        Bundle(entries, "odd")
