"""The small picture that the file of a large one holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import softstair
from softstair.bundle import find_bundle
from softstair.codec import Rate, View, decode_view, encode_like, encode_picture
from softstair.errors import BundleNotFound, CorruptStream
from softstair.pictures import Picture
from softstair.stream import Metadata, StreamReader, read_stream, with_metadata, write_stream

from ..tiny import photograph, screen

HEIGHT, WIDTH = 70, 8240


@pytest.fixture(scope="module")
def picture():
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, 32:64] = 100
    waves = 100 * np.sin(np.arange(WIDTH) / 300)[None, :, None]
    pixels = np.clip(0.2 * photograph(HEIGHT, WIDTH) + waves + 100, 0, 255).astype(np.uint8)
    return Picture(pixels, alpha, Metadata(icc=b"icc"))


@pytest.fixture(scope="module")
def data(picture, tiny_bundle):
    return encode_picture(picture, Rate(position=120), tiny_bundle, threads=1).data


def without_tiles(data):
    """The file, none of whose tiles can be read."""
    reader, damaged = StreamReader(data), bytearray(data)
    for end in reader.ends:
        damaged[end - 1] ^= 255
    return bytes(damaged)


def means(pixels, divisor):
    rows = [pixels[top : top + divisor] for top in range(0, pixels.shape[0], divisor)]
    return np.array(
        [
            [row[:, left : left + divisor].mean((0, 1)) for left in range(0, row.shape[1], divisor)]
            for row in rows
        ]
    )


@pytest.mark.parametrize("divisor", [32, 64])
def test_a_thumbnail_needs_no_tile(divisor, picture, data, tiny_bundle):
    damaged = without_tiles(data)
    with pytest.raises(CorruptStream):
        softstair.decode(damaged, bundle=tiny_bundle)
    found = decode_view(damaged, View(divisor=divisor), tiny_bundle).picture
    expected = means(picture.pixels.astype(float), divisor)
    assert found.pixels.shape == expected.shape
    assert np.abs(found.pixels - expected).mean() < 12  # of a network that was hardly trained
    np.testing.assert_allclose(found.alpha, means(picture.alpha.astype(float), divisor), atol=1)
    assert found.metadata.icc == b"icc"


def test_a_region_is_that_part_of_it(data, tiny_bundle):
    whole = softstair.decode(data, scale=1 / 32, bundle=tiny_bundle)
    part = softstair.decode(data, scale=1 / 32, region=(330, 40, 700, 20), bundle=tiny_bundle)
    assert np.array_equal(part, whole[1:2, 10:33])


def test_larger_views_and_partial_ones_are_made_of_tiles(data, tiny_bundle):
    for view in (View(divisor=16), View(divisor=32, allow_partial=True)):
        assert decode_view(data, view, tiny_bundle).needed > 0
        with pytest.raises(CorruptStream):
            decode_view(without_tiles(data), replace(view, allow_partial=False, divisor=16), tiny_bundle)


def test_pictures_of_8192_pixels_a_side_have_none(tiny_bundle):
    data = encode_picture(Picture(photograph(8, 8192)), Rate(position=40), tiny_bundle, threads=1).data
    assert read_stream(data).small is None


def test_all_of_a_stream_is_written_as_it_was_read(data):
    stream = read_stream(data)
    assert stream.small is not None
    assert write_stream(stream) == data
    parts = StreamReader(data).parts()
    assert parts.small > len(stream.small)
    assert parts.header + parts.tiles + parts.alpha + parts.metadata + parts.small == len(data)


def test_other_metadata_leaves_it(data):
    changed = read_stream(with_metadata(data, Metadata(xmp=b"xmp")))
    assert changed.metadata == Metadata(xmp=b"xmp")
    assert changed.small == read_stream(data).small


def test_an_edited_picture_has_another(picture, data, tiny_bundle):
    was = softstair.decode(data, bundle=tiny_bundle)
    edited = Picture(was[..., :3].copy(), picture.alpha)
    edited.pixels[:, 4000:4100] = 255
    again = encode_like(edited, data, tiny_bundle, threads=1).data
    shown = softstair.decode(again, scale=1 / 32, bundle=tiny_bundle)
    assert shown[0, 126].min() > 200


def test_a_screen_shows_it_without_the_bundle_of_its_tiles(tiny_bundle):
    data = encode_picture(Picture(screen(40, WIDTH)), Rate(lossless=True), tiny_bundle, threads=1).data
    try:
        find_bundle(tiny_bundle.fingerprint)
    except BundleNotFound:
        assert softstair.decode(data, scale=1 / 32).shape == (2, 258, 3)


@pytest.mark.parametrize("size", [(3, 257), (3, 259), (2, 258)])
def test_one_of_another_size_is_refused(size, data, tiny_bundle):
    other = softstair.encode(photograph(*size), bundle=tiny_bundle)
    wrong = write_stream(replace(read_stream(data), small=other))
    with pytest.raises(CorruptStream, match="small picture"):
        softstair.decode(wrong, scale=1 / 32, bundle=tiny_bundle)


def test_that_of_a_small_picture_is_passed_over(tiny_bundle):
    plain = softstair.encode(photograph(40, 50), bundle=tiny_bundle)
    nested = plain
    for _ in range(3):
        nested = write_stream(replace(read_stream(plain), small=nested))
    expected = softstair.decode(plain, scale=1 / 32, bundle=tiny_bundle)
    assert np.array_equal(softstair.decode(nested, scale=1 / 32, bundle=tiny_bundle), expected)
