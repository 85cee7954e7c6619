from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softstair.errors import (
    CorruptStream,
    LimitExceeded,
    NotAStairFile,
    StreamError,
    TruncatedStream,
    UnsupportedStream,
)
from softstair.stream import (
    Colour,
    Header,
    Metadata,
    Mode,
    Stream,
    measure_parts,
    read_header,
    read_stream,
    write_stream,
)

HEADER = Header(bytes(range(8)), 5, 3, Colour.RGB, Mode.SCALAR, 80)
PLAIN = Stream(HEADER, (b"payload",))
FULL = Stream(HEADER, (b"payload",), bytes(range(15)), Metadata(b"icc", b"exif", b"xmp"))

blobs = st.none() | st.binary(min_size=1, max_size=200)
sides = st.integers(1, 300)


@given(
    st.binary(min_size=8, max_size=8),
    sides,
    sides,
    st.sampled_from(Colour),
    st.integers(0, 255),
    st.binary(max_size=300),
    st.booleans(),
    st.builds(Metadata, blobs, blobs, blobs),
)
def test_round_trip(fingerprint, width, height, colour, position, payload, alpha, metadata):
    header = Header(fingerprint, width, height, colour, Mode.SCALAR, position)
    plane = zlib.compress(b"x" * width) * (width * height) if alpha else None
    stream = Stream(header, (payload,), plane[: width * height] if plane else None, metadata)
    data = write_stream(stream)
    assert read_stream(data) == stream
    assert read_header(data) == header
    parts = measure_parts(data)
    assert parts.header + parts.tiles + parts.alpha + parts.metadata == len(data)


def test_fixed_cost_is_at_most_32_bytes():
    header = replace(HEADER, width=8192, height=8192)
    payload = b"p" * 70_000
    assert len(write_stream(Stream(header, (payload,)))) - len(payload) <= 32


@pytest.mark.parametrize("stream", [PLAIN, FULL], ids=["plain", "full"])
def test_every_truncation_is_told(stream):
    data = write_stream(stream)
    for length in range(len(data)):
        expected = NotAStairFile if length == 0 else TruncatedStream
        with pytest.raises(expected):
            read_stream(data[:length])


@pytest.mark.parametrize("stream", [PLAIN, FULL], ids=["plain", "full"])
def test_every_flipped_bit_is_found(stream):
    data = write_stream(stream)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StreamError):
            read_stream(bytes(damaged))


def test_what_follows_the_end_is_refused():
    with pytest.raises(CorruptStream, match="follow the end"):
        read_stream(write_stream(PLAIN) + b"x")


@pytest.mark.parametrize(
    ("offset", "value", "error", "word"),
    [
        (0, 0x00, NotAStairFile, "does not start like"),
        (4, 2, UnsupportedStream, "version 2"),
        (5, 0x80, UnsupportedStream, "unknown flags"),
        (14, 0, CorruptStream, "width is zero"),
        (16, 7, UnsupportedStream, "unknown colour 7"),
        (17, 99, UnsupportedStream, "unknown mode 99"),
        (19, 1, CorruptStream, "checksum"),  # a picture of one tile either way
        (19, 0x80, UnsupportedStream, "tile layout"),
    ],
)
def test_header_errors_name_the_part(offset, value, error, word):
    data = bytearray(write_stream(PLAIN))
    data[offset] = value
    with pytest.raises(error, match=word):
        read_stream(bytes(data))


def test_sides_beyond_the_format_are_refused():
    data = bytearray(write_stream(PLAIN))
    data[14:15] = b"\xff\xff\xff\x7f"
    with pytest.raises(LimitExceeded, match="width"):
        read_stream(bytes(data))


def test_pixels_beyond_the_limit_are_refused_before_anything_else():
    data = write_stream(Stream(replace(HEADER, width=65536, height=65536), (b"",)))
    with pytest.raises(LimitExceeded, match="65536x65536"):
        read_stream(data)


def test_a_metadata_bomb_is_refused():
    import softstair.stream as module

    bomb = write_stream(replace(PLAIN, metadata=Metadata(icc=bytes(module.MAX_METADATA + 1))))
    with pytest.raises(LimitExceeded, match="ICC"):
        read_stream(bomb)


@given(st.binary(max_size=100))
def test_any_bytes_after_a_good_start(tail):
    with pytest.raises(StreamError):
        read_stream(write_stream(PLAIN)[:14] + tail)
