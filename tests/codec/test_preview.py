"""Small pictures by the head of a bundle, without the synthesis."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

import softstair
import softstair.pillow
from softstair.bundle import ICON, PREVIEW, Bundle, fingerprint, packed_bundle, read_bundle
from softstair.errors import CorruptStream, InvalidBundle

from ..tiny import encode_tiled

SCALES = (4, 8, 16, 32, 64)
LEAST = {4: 32, 8: 35, 16: 37, 32: 31, 64: 32}  # dB beside means of the whole picture


def psnr(one, other):
    return -10 * math.log10(np.square(one.astype(float) - other).mean() / 255**2)


@pytest.fixture(scope="module")
def without(bundle):
    entries = {name: entry for name, entry in bundle.entries.items() if name not in (PREVIEW, ICON)}
    return Bundle(entries, "without")


@pytest.fixture(scope="module")
def data(photo, bundle):
    return softstair.encode(photo[:, :571], 75, effort=2)


@pytest.fixture(scope="module")
def tiled(photo, bundle):
    return encode_tiled(photo[:371], bundle, 88, layout=1)


def test_the_shipped_bundle_has_one_and_it_changes_no_fingerprint(bundle, without):
    assert bundle.previews
    assert not without.previews
    assert fingerprint(without.entries) == bundle.fingerprint


@pytest.mark.parametrize("divisor", SCALES)
@pytest.mark.parametrize("name", ["data", "tiled"])
def test_small_pictures_are_like_means_of_the_whole(name, divisor, without, request):
    data = request.getfixturevalue(name)
    found = softstair.decode(data, scale=1 / divisor)
    expected = softstair.decode(data, scale=1 / divisor, bundle=without)
    assert found.shape == expected.shape
    assert psnr(found, expected) > LEAST[divisor]
    assert psnr(found[-1:], expected[-1:]) > LEAST[divisor] - 8
    assert psnr(found[:, -1:], expected[:, -1:]) > LEAST[divisor] - 8


def test_nobody_sees_where_windows_were_cut(tiled):
    whole = softstair.decode(tiled, scale=1 / 8)
    part = softstair.decode(tiled, scale=1 / 8, region=(96, 64, 400, 256))
    assert np.abs(part.astype(int) - whole[8:40, 12:62]).max() <= 1


def test_half_the_size_is_the_mean_of_all_pixels(data, without):
    assert np.array_equal(
        softstair.decode(data, scale=1 / 2), softstair.decode(data, scale=1 / 2, bundle=without)
    )


def test_damage_is_found(data):
    damaged = bytearray(data)
    damaged[-40] ^= 1
    with pytest.raises(CorruptStream):
        softstair.decode(bytes(damaged), scale=1 / 8)


def test_pillow_drafts_and_makes_thumbnails_of_them(data):
    image = Image.open(io.BytesIO(data))
    mode, box = image.draft("L", (70, 40))
    assert (mode, box, image.size) == ("RGB", (0, 0, 571 / 8, 48), (72, 48))
    assert np.array_equal(np.asarray(image), softstair.decode(data, scale=1 / 8))
    with pytest.raises(ValueError, match="keep"):
        image.save(io.BytesIO(), "STAIR", quality="keep")
    image = Image.open(io.BytesIO(data))
    image.thumbnail((64, 64))
    assert image.size == (64, 43)
    image = Image.open(io.BytesIO(data))
    assert image.draft(None, None) is None
    assert image.size == (571, 384)


def test_a_head_that_gives_something_else_is_refused(bundle, data):
    entries = {**bundle.entries, PREVIEW: bundle.entries["synthesis.onnx"]}
    wrong = Bundle(entries, "wrong")
    with pytest.raises(InvalidBundle, match="preview"):
        softstair.decode(data, scale=1 / 8, bundle=wrong)
    entries[PREVIEW] = bundle.entries["mean.onnx"]
    with pytest.raises(InvalidBundle, match=PREVIEW):
        read_bundle(packed_bundle(entries), "wrong")
