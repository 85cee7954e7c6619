"""The smallest pictures, by a network of the bundle that needs neither means nor synthesis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import softstair
from softstair.bundle import ICON, Bundle, packed_bundle, read_bundle
from softstair.errors import CorruptStream, InvalidBundle, TruncatedStream
from softstair.stream import read_stream, write_stream

from ..conftest import GOLDEN
from ..tiny import encode_tiled


@pytest.fixture(scope="module")
def with_icon(tiny_bundle):
    entries = {**tiny_bundle.entries, ICON: (GOLDEN / "icon" / "tiny.onnx").read_bytes()}
    return read_bundle(packed_bundle(entries), "with icon")


@pytest.fixture(scope="module")
def data(photo, tiny_bundle):
    return encode_tiled(photo[:371, :571], tiny_bundle, 88, layout=1)


@pytest.mark.parametrize("divisor", [32, 64])
@pytest.mark.parametrize("cut", [(371, 571), (100, 300), (33, 95)])
def test_icons_have_the_size_of_means_and_look_like_them(cut, divisor, photo, tiny_bundle, with_icon):
    data = encode_tiled(photo[: cut[0], : cut[1]], tiny_bundle, 88, layout=0)
    found = softstair.decode(data, scale=1 / divisor, bundle=with_icon)
    expected = softstair.decode(data, scale=1 / divisor, bundle=tiny_bundle)
    assert found.shape == expected.shape
    assert not np.array_equal(found, expected)
    assert np.abs(found.astype(int) - expected).mean() < 6


def test_larger_pictures_do_without(data, tiny_bundle, with_icon):
    whole = softstair.decode(data, scale=1 / 16, bundle=tiny_bundle)
    assert np.array_equal(softstair.decode(data, scale=1 / 16, bundle=with_icon), whole)


def test_it_changes_no_fingerprint(tiny_bundle, with_icon):
    assert with_icon.icons
    assert not tiny_bundle.icons
    assert with_icon.fingerprint == tiny_bundle.fingerprint


def test_a_region_is_that_part_of_the_icon(data, with_icon):
    whole = softstair.decode(data, scale=1 / 32, bundle=with_icon)
    part = softstair.decode(data, scale=1 / 32, region=(40, 250, 300, 100), bundle=with_icon)
    assert np.array_equal(part, whole[7:11, 1:11])
    assert np.array_equal(softstair.decode(data, scale=1 / 32, bundle=with_icon, threads=1), whole)


def test_a_layered_file_shows_its_first_layer(photo, tiny_bundle, with_icon):
    data = softstair.encode(photo[:200, :300], 85, bundle=tiny_bundle, layers=3)
    first = softstair.truncate(data, layers=1)
    icons = [softstair.decode(one, scale=1 / 32, bundle=with_icon) for one in (data, first)]
    assert np.array_equal(*icons)


def test_exact_pictures_have_means(photo, tiny_bundle, with_icon):
    data = softstair.encode(photo[:100, :200], lossless=True)
    icons = [softstair.decode(data, scale=1 / 32, bundle=one) for one in (tiny_bundle, with_icon)]
    assert np.array_equal(*icons)


def test_damage_is_found_where_nothing_of_it_would_be_shown(data, with_icon):
    damaged = bytearray(data)
    damaged[-8] ^= 1  # in the last phase of the last tile
    with pytest.raises(CorruptStream):
        softstair.decode(bytes(damaged), scale=1 / 32, bundle=with_icon)
    region = softstair.decode(bytes(damaged), scale=1 / 32, region=(0, 0, 128, 128), bundle=with_icon)
    assert np.array_equal(region, softstair.decode(data, scale=1 / 32, bundle=with_icon)[:4, :4])
    with pytest.raises(TruncatedStream):
        softstair.decode(data[:-8], scale=1 / 32, bundle=with_icon)


def test_a_payload_that_no_encoder_wrote_is_refused(data, with_icon):
    stream = read_stream(data)
    garbage = bytes(range(7, 207))
    with pytest.raises(CorruptStream):
        softstair.decode(
            write_stream(replace(stream, tiles=(garbage, *stream.tiles[1:]))), scale=1 / 32, bundle=with_icon
        )


def test_a_file_that_ends_early_is_shown_as_ever(data, tiny_bundle, with_icon):
    with pytest.warns(softstair.PartialPicture):
        shown = [
            softstair.decode(data[: len(data) // 2], scale=1 / 32, allow_partial=True, bundle=one)
            for one in (tiny_bundle, with_icon)
        ]
    assert np.array_equal(*shown)


def test_a_network_that_gives_something_else_is_refused(data, tiny_bundle):
    entries = {**tiny_bundle.entries, ICON: tiny_bundle.entries["mean.onnx"]}
    with pytest.raises(InvalidBundle, match="icon"):
        softstair.decode(data, scale=1 / 32, bundle=Bundle(entries, "wrong"))
    entries[ICON] = tiny_bundle.entries["synthesis.onnx"]
    with pytest.raises(InvalidBundle, match=ICON):
        read_bundle(packed_bundle(entries), "wrong")
