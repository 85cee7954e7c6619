"""Layers: one file whose cuts are files of lower quality."""

from __future__ import annotations

import io
import json
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import softstair
import softstair.pillow
from softstair.codec import Rate, View, decode_view, encode_picture
from softstair.commands import encode as encoding
from softstair.commands import info as telling
from softstair.commands import truncate as cutting
from softstair.errors import CorruptStream, SoftstairError, TruncatedStream, UnsupportedStream
from softstair.pictures import Picture
from softstair.quantize.layers import level_before
from softstair.stream import Metadata, StreamReader, read_stream, read_summary, with_metadata, write_stream

from .tiny import photograph

LAYERS = 3


@pytest.fixture(scope="module")
def pixels():
    return photograph(100, 130)


@pytest.fixture(scope="module")
def data(pixels, tiny_bundle):
    return softstair.encode(pixels, layers=LAYERS, bundle=tiny_bundle)


@pytest.fixture(scope="module")
def cuts(data):
    return [softstair.truncate(data, layers=layer + 1) for layer in range(LAYERS)]


@pytest.fixture(scope="module")
def tiled(tiny_bundle):
    """Of two tiles, with alpha and metadata."""
    picture = Picture(photograph(40, 2100), photograph(40, 2100, 2)[..., 0], Metadata(xmp=b"<x/>"))
    return encode_picture(picture, Rate(quality=70), tiny_bundle, layers=2).data


def test_cuts_are_whole_files_of_rising_quality(pixels, cuts, tiny_bundle):
    errors = []
    for cut in cuts:
        assert write_stream(read_stream(cut)) == cut
        errors.append(np.square(softstair.decode(cut, bundle=tiny_bundle).astype(float) - pixels).mean())
    assert errors[0] > errors[1] > errors[2]
    assert [softstair.info(cut).layers for cut in cuts] == [1, 2, 3]
    assert [softstair.info(cut).made_layers for cut in cuts] == [3, 3, 3]
    last = softstair.info(cuts[-1]).rate_position
    assert [softstair.info(cut).rate_position for cut in cuts] == [last - 64, last - 32, last]


def test_cuts_take_little_more_than_files_of_their_own(pixels, cuts, tiny_bundle):
    one = [
        len(
            softstair.encode(
                pixels, mode="rdoq", rate_position=softstair.info(c).rate_position, bundle=tiny_bundle
            )
        )
        for c in cuts
    ]
    assert all(len(cut) < 1.25 * alone for cut, alone in zip(cuts, one, strict=True))


def test_levels_of_a_layer_are_those_of_the_next_without_their_lowest_bit(cuts, tiny_bundle):
    from softstair.codec import read_symbols

    symbols = [next(read_symbols(cut, tiny_bundle)) for cut in cuts]
    for layer, (coarse, fine) in enumerate(pairwise(symbols)):
        assert (coarse.layer, fine.layer) == (layer, layer + 1)
        assert np.array_equal(coarse.y, level_before(fine.y, 1))
        assert np.array_equal(coarse.z, fine.z)


def test_the_encoder_decodes_as_decoders_do(pixels, tiny_bundle):
    from softstair.codec.tile import TileCoder
    from softstair.codec.workers import networks_of
    from softstair.mode import Mode

    coder = TileCoder(tiny_bundle, networks_of(tiny_bundle, 1), Mode.RDOQ, layers=3)
    analysed = coder.analyse(pixels)
    coded = coder.code(analysed, 40)
    decoded = coder.decode(coded.payload, analysed.geometry, 40)
    assert np.abs(decoded - coded.latents).max() < 1e-4
    assert coded.layer_ends[-1] == len(coded.payload)


def test_alpha_and_metadata_come_with_the_first_layer(tiled, tiny_bundle):
    cut = softstair.truncate(tiled, layers=1)
    picture = decode_view(cut, View(), tiny_bundle).picture
    assert picture.metadata.xmp == b"<x/>"
    assert np.array_equal(picture.alpha, decode_view(tiled, View(), tiny_bundle).picture.alpha)
    assert read_summary(cut).metadata.xmp == read_summary(tiled).metadata.xmp == b"<x/>"
    for one in (cut, tiled):
        other = with_metadata(one, Metadata(exif=b"exif"))
        assert read_stream(other).tiles == read_stream(one).tiles
        assert softstair.info(other).layers == softstair.info(one).layers
        assert read_stream(other).metadata == Metadata(exif=b"exif")


def test_a_region_is_that_of_the_whole(tiled, tiny_bundle):
    whole = softstair.decode(tiled, bundle=tiny_bundle).astype(int)
    part = softstair.decode(tiled, bundle=tiny_bundle, region=(1000, 4, 90, 30))
    assert np.abs(part - whole[4:34, 1000:1090]).max() <= 1


def test_what_arrives_is_shown_with_every_layer(data, cuts, tiny_bundle):
    reader, shown = softstair.Reader(bundle=tiny_bundle), []
    for start in range(0, len(data), 50):
        if (picture := reader.feed(data[start : start + 50])) is not None:
            shown.append(picture)
    assert reader.complete
    for cut, picture in zip(cuts, shown[-3:], strict=True):
        assert np.array_equal(picture, softstair.decode(cut, bundle=tiny_bundle))
    with pytest.raises(CorruptStream, match="follow"):
        softstair.Reader(bundle=tiny_bundle).feed(data + b"x")


def test_every_cut_is_told_or_a_whole_file(data, cuts, tiny_bundle):
    ends = {len(cut) for cut in cuts}
    for length in range(1, len(data)):
        if length in ends:
            read_stream(data[:length])
            continue
        with pytest.raises(TruncatedStream):
            read_stream(data[:length])
    between = len(cuts[0]) + 20
    with pytest.raises(TruncatedStream, match="within layer 2 of 3"):
        softstair.decode(data[:between], bundle=tiny_bundle)
    with pytest.warns(softstair.PartialPicture, match="1 of 3 layers are shown"):
        partial = softstair.decode(data[:between], bundle=tiny_bundle, allow_partial=True)
    assert np.array_equal(partial, softstair.decode(cuts[0], bundle=tiny_bundle))
    with pytest.warns(softstair.PartialPicture, match="as far as its bytes reach"):
        softstair.decode(data[: len(cuts[0]) - 20], bundle=tiny_bundle, allow_partial=True)


def test_every_damage_is_told(data):
    for place in range(5, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 4
        with pytest.raises(SoftstairError):
            read_stream(bytes(damaged))


def _with_payload(stream, payload, first):
    """Right checksums, whatever the payload."""
    half = (first + len(payload)) // 2
    return write_stream(type(stream)(stream.header, (payload,), layer_ends=((first, half, len(payload)),)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_payloads_that_nobody_wrote(data, tiny_bundle, draw):
    stream, first = read_stream(data), len(read_stream(data).tiles[0])
    payload = bytearray(stream.tiles[0])
    for _ in range(draw.draw(st.integers(1, 4))):
        payload[draw.draw(st.integers(0, len(payload) - 1))] = draw.draw(st.integers(0, 255))
    payload = bytes(payload[: draw.draw(st.integers(0, len(payload)))]) + draw.draw(st.binary(max_size=40))
    hostile = _with_payload(stream, payload, min(first // 3, len(payload)))
    try:
        decoded = softstair.decode(hostile, bundle=tiny_bundle)
    except SoftstairError:
        return
    assert decoded.shape == (100, 130, 3)


def test_layers_without_end_are_corrupt(data, tiny_bundle):
    stream = read_stream(data)
    with pytest.raises(CorruptStream, match="tile 0"):
        softstair.decode(_with_payload(stream, stream.tiles[0] + bytes(16), 40), bundle=tiny_bundle)


def test_headers_that_nobody_writes(data, tiny_bundle):
    at = data.index(bytes([6, StreamReader(data).header.position, LAYERS]))
    for layers in (0, 1, 5, 255):
        other = data[: at + 2] + bytes([layers]) + data[at + 3 :]
        with pytest.raises(UnsupportedStream, match="layers"):
            StreamReader(other)
    for flag in (4, 16):
        with pytest.raises(CorruptStream, match="in layers"):
            StreamReader(data[:5] + bytes([data[5] | flag]) + data[6:])
    with pytest.raises(UnsupportedStream, match="mode 6"):
        StreamReader(data[:4] + b"\1" + data[5:])
    stream = read_stream(data)
    far = type(stream.header)(**{**vars(stream.header), "position": tiny_bundle.last_position - 40})
    with pytest.raises(CorruptStream, match="rate position"):
        softstair.decode(
            write_stream(type(stream)(far, stream.tiles, layer_ends=stream.layer_ends)), bundle=tiny_bundle
        )


def test_truncate_says_what_cannot_be(data, cuts, small_photo, tiny_bundle):
    assert softstair.truncate(data, max_bytes=len(cuts[1]) + 1) == cuts[1]
    assert softstair.truncate(data, max_bytes=10**9) == data
    assert softstair.truncate(data[:-1], layers=2) == cuts[1]
    plain = softstair.encode(small_photo, bundle=tiny_bundle)
    for arguments, wanted, message in (
        ((plain,), {"layers": 1}, "not in layers"),
        ((data,), {}, "Ask for"),
        ((data,), {"layers": 4}, "has 3 layers, not 4"),
        ((data,), {"max_bytes": 10}, "beyond the 10 asked for"),
        ((data[:-1],), {"layers": 3}, "ends at byte"),
    ):
        with pytest.raises(SoftstairError, match=message):
            softstair.truncate(*arguments, **wanted)
    damaged = bytearray(data)
    damaged[-1] ^= 1
    assert softstair.truncate(bytes(damaged), layers=2) == cuts[1]
    with pytest.raises(CorruptStream):
        softstair.truncate(bytes(damaged), layers=3)


def test_encode_says_what_cannot_be(pixels, data, tiny_bundle):
    for wanted, message in (
        ({"layers": 1}, "2 to 4 layers"),
        ({"layers": 5}, "2 to 4 layers"),
        ({"layers": True}, "whole number"),
        ({"layers": 2, "effort": 3}, "leave effort out"),
        ({"layers": 2, "mode": "tcq8"}, "leave mode and progressive out"),
        ({"layers": 2, "progressive": True}, "leave mode and progressive out"),
        ({"layers": 2, "lossless": True}, "no layers"),
        ({"layers": 4, "quality": 5}, "a quality from"),
        ({"layers": 2, "target_size": 20}, "more than the 20 asked for"),
        ({"layers": 2, "target_psnr": 90}, "do not reach 90 dB"),
        ({"layers": 2, "like": data}, "like an old file"),
        ({"like": data}, "in layers"),
    ):
        with pytest.raises(SoftstairError, match=message):
            softstair.encode(pixels, bundle=tiny_bundle, **wanted)


def test_targets_are_met_by_the_whole_file(pixels, tiny_bundle):
    size = len(softstair.encode(pixels, layers=2, target_size=1200, bundle=tiny_bundle))
    assert 1080 < size <= 1200
    reached = softstair.encode(pixels, layers=2, target_psnr=31.2, bundle=tiny_bundle)
    error = np.square(softstair.decode(reached, bundle=tiny_bundle).astype(float) - pixels).mean()
    assert 10 * np.log10(255**2 / error) >= 31.2


def test_the_commands_and_pillow(pixels, tmp_path, tiny_bundle):
    Image.fromarray(pixels).save(tmp_path / "p.png")
    source, whole, cut = (str(tmp_path / name) for name in ("p.png", "p.stair", "cut.stair"))
    run = CliRunner().invoke
    run(encoding.command, [source, "--layers", "2", "-o", whole], catch_exceptions=False)
    run(cutting.command, [whole, "--layers", "1", "-o", cut], catch_exceptions=False)
    told = json.loads(run(telling.command, [cut, "--json"], catch_exceptions=False).output)
    assert told["layers"] == "1 of 2"
    with Image.open(whole) as image, Image.open(cut) as smaller:
        assert image.size == smaller.size == (130, 100)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(smaller)).max() > 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "STAIR", layers=2, bundle=tiny_bundle)
    assert softstair.info(buffer.getvalue()).made_layers == 2
