from __future__ import annotations

import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softstair.errors import (
    CorruptStream,
    LimitExceeded,
    NotAStairFile,
    StreamError,
    TruncatedStream,
    UnsupportedStream,
)
from softstair.mode import Mode
from softstair.stream import (
    MAX_METADATA,
    Colour,
    ExactPayload,
    Header,
    Metadata,
    Stream,
    StreamReader,
    measure_parts,
    pack_extras,
    read_exact_payload,
    read_header,
    read_stream,
    read_summary,
    with_metadata,
    write_stream,
)
from softstair.tiles import TileGrid

from ..conftest import GOLDEN
from ..tiny import photograph

HEADER = Header(bytes(range(8)), 5, 3, Colour.RGB, Mode.SCALAR, 80)
PLAIN = Stream(HEADER, (b"payload",))
ALL_KINDS = Metadata(b"icc", b"exif", b"xmp", b"iptc")
FULL = Stream(HEADER, (b"payload",), bytes(range(15)), ALL_KINDS, frozenset({0}))
# With noise, which VP8L makes smaller than deflate does.
ROUGH = photograph(40, 48)[..., 0].tobytes()
EXACT_ALPHA = Stream(replace(HEADER, width=48, height=40), (b"payload",), ROUGH, ALL_KINDS)
STREAMS = {"plain": PLAIN, "full": FULL, "exact-alpha": EXACT_ALPHA}

blobs = st.none() | st.binary(min_size=1, max_size=200)
sides = st.integers(1, 300)


@settings(deadline=None)
@given(
    st.binary(min_size=8, max_size=8),
    sides,
    sides,
    st.sampled_from(Colour),
    st.integers(0, 255),
    st.binary(max_size=300),
    st.booleans(),
    st.builds(Metadata, blobs, blobs, blobs, blobs),
    st.sampled_from([frozenset(), frozenset({0})]),
)
def test_round_trip(fingerprint, width, height, colour, position, payload, alpha, metadata, exact):
    header = Header(fingerprint, width, height, colour, Mode.SCALAR, position)
    plane = zlib.compress(b"x" * width) * (width * height) if alpha else None
    stream = Stream(header, (payload,), plane[: width * height] if plane else None, metadata, exact)
    data = write_stream(stream)
    assert read_stream(data) == stream
    assert read_summary(data).metadata == metadata
    assert read_header(data) == header
    parts = measure_parts(StreamReader(data))
    assert parts.header + parts.tiles + parts.alpha + parts.metadata == len(data)


def test_fixed_cost_is_at_most_32_bytes():
    header = replace(HEADER, width=8192, height=8192)
    payload = b"p" * 70_000
    assert len(write_stream(Stream(header, (payload,)))) - len(payload) <= 32


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_every_truncation_is_told(stream):
    data = write_stream(stream)
    for length in range(len(data)):
        expected = NotAStairFile if length == 0 else TruncatedStream
        with pytest.raises(expected):
            read_stream(data[:length])


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
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
        (4, 3, UnsupportedStream, "version 3"),
        (5, 0x40, CorruptStream, "flags 0x40 say what exact tiles are of"),
        (5, 0xC0, CorruptStream, "flags 0x40 say what exact tiles are of"),
        (5, 0x20, CorruptStream, "there is none"),
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


@pytest.mark.parametrize("sizes", [(MAX_METADATA + 1, 0), (MAX_METADATA // 2 + 1, MAX_METADATA // 2)])
def test_a_metadata_bomb_is_refused(sizes, monkeypatch):
    """Whether it is one block or several; where nobody asks for its content it costs nothing."""
    import softstair.stream as module

    large = Metadata(icc=bytes(sizes[0]), xmp=bytes(sizes[1]))
    with pytest.raises(LimitExceeded, match="--strip"):
        write_stream(replace(PLAIN, metadata=large))
    with monkeypatch.context() as patch:
        patch.setattr(module, "MAX_METADATA", 1 << 30)
        bomb = write_stream(replace(PLAIN, metadata=large))
    with pytest.raises(LimitExceeded, match="inflates to more"):
        read_stream(bomb)
    tracemalloc.start()
    summary, parts = module.read_summary(bomb), module.measure_parts(StreamReader(bomb))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert parts.metadata < 100_000
    assert summary.metadata.xmp is None


def test_alpha_is_not_inflated_to_be_counted():
    width = height = 2048
    stream = replace(PLAIN, header=replace(PLAIN.header, width=width, height=height))
    data = write_stream(replace(stream, alpha=bytes(width * height)))
    tracemalloc.start()
    assert measure_parts(StreamReader(data)).alpha < 100_000
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@given(st.binary(max_size=100))
def test_any_bytes_after_a_good_start(tail):
    with pytest.raises(StreamError):
        read_stream(write_stream(PLAIN)[:14] + tail)


def test_version_1_is_read_for_ever():
    data = (GOLDEN / "v1" / "alpha.stair").read_bytes()
    assert data[4] == 1
    stream = read_stream(data)
    assert len(stream.alpha or b"") == 40 * 33
    for flags in (0x10, 0x20, 0x80):
        with pytest.raises(UnsupportedStream, match="unknown flags"):
            read_stream(data[:5] + bytes([flags]) + data[6:])
    anew = write_stream(stream)
    assert anew[4] == 2
    assert read_stream(anew) == stream
    assert len(anew) <= len(data)


def test_metadata_of_version_1_has_a_flag_a_kind():
    plain = write_stream(PLAIN)
    head = bytearray(plain[: -len(b"payload") - 4])
    head[4], head[5] = 1, 0x0C
    tile = b"payload" + zlib.crc32(b"payload", zlib.crc32(head)).to_bytes(4, "little")
    blocks = b""
    for content in (b"exif", b"xmp"):
        deflated = zlib.compress(content)
        blocks += bytes([len(deflated)]) + deflated + zlib.crc32(deflated).to_bytes(4, "little")
    data = bytes(head) + tile + blocks
    assert read_stream(data).metadata == Metadata(exif=b"exif", xmp=b"xmp")


def test_metadata_of_an_unknown_kind_is_passed_over_but_checked():
    data = write_stream(PLAIN)
    head = bytearray(data[: -len(b"payload") - 4])
    head[5] |= 2
    tile = b"payload" + zlib.crc32(b"payload", zlib.crc32(head)).to_bytes(4, "little")
    known = pack_extras(None, Metadata(xmp=b"xmp"), HEADER.grid).packed[1:]
    unknown = b"\x63\x03new" + zlib.crc32(b"cnew").to_bytes(4, "little")
    start = bytes(head) + tile
    assert read_stream(start + b"\x02" + unknown + known).metadata == Metadata(xmp=b"xmp")
    with pytest.raises(CorruptStream, match="checksum of metadata of kind 99"):
        read_stream(start + b"\x02" + unknown.replace(b"new", b"old") + known)
    with pytest.raises(CorruptStream, match="kind 2 twice"):
        read_stream(start + b"\x02" + known + known)
    with pytest.raises(TruncatedStream):
        read_stream(start + b"\xff\xff\xff\xff\x0f" + known)


def test_alpha_is_coded_exactly_where_that_is_smaller():
    data = write_stream(EXACT_ALPHA)
    assert data[5] == 0x23
    assert read_stream(data).alpha == ROUGH
    assert measure_parts(StreamReader(data)).alpha < 0.9 * len(zlib.compress(ROUGH, 9))
    assert write_stream(FULL)[5] == 0x07


def test_exact_alpha_comes_tile_by_tile():
    header = replace(HEADER, width=300, height=520, layout=1)
    alpha = photograph(520, 300)[..., 0].tobytes()
    stream = Stream(header, (b"",) * header.grid.count, alpha)
    data = write_stream(stream)
    assert data[5] == 0x21
    assert read_stream(data) == stream


def test_alpha_of_another_size_is_refused():
    grid, smaller = TileGrid(40, 48), TileGrid(39, 48)
    good, other = (pack_extras(ROUGH[: 48 * g.height], Metadata(), g) for g in (grid, smaller))
    data = write_stream(replace(EXACT_ALPHA, metadata=Metadata()))
    assert data.endswith(good.packed)
    with pytest.raises(CorruptStream, match="48x39 pixels where 48x40 were expected"):
        read_stream(data.removesuffix(good.packed) + other.packed)


def test_exact_tiles_are_in_a_bitmap_behind_the_index():
    header = replace(HEADER, width=900, height=900, layout=1)
    assert header.grid.count == 16
    stream = Stream(header, tuple(bytes([i]) * i for i in range(16)), exact=frozenset({1, 3, 11}))
    data = write_stream(stream)
    start = data.index(bytes(range(16))) + 16
    assert data[start : start + 2] == bytes([0b1010, 0b1000])
    assert read_stream(data) == stream
    assert StreamReader(data).exact == {1, 3, 11}


def test_a_flag_of_a_later_release_is_not_guessed_at():
    data = write_stream(PLAIN)
    with pytest.raises(UnsupportedStream, match="unknown flags 0x100"):
        read_stream(data[:5] + b"\x80\x02" + data[6:])


@pytest.mark.parametrize("smoothing", [1, 8, 63])
def test_smoothing_is_a_flag_and_a_byte(smoothing):
    plain = write_stream(PLAIN)
    smoothed = replace(PLAIN, header=replace(PLAIN.header, smoothing=smoothing))
    data = write_stream(smoothed)
    assert len(data) == len(plain) + 2  # flags have a second byte
    assert read_stream(data) == smoothed


def test_smoothing_that_no_writer_asks_for_is_refused():
    data = write_stream(replace(PLAIN, header=replace(PLAIN.header, smoothing=8)))
    assert data[5:7] == b"\x80\x01"
    place = 20  # behind magic, version, flags, fingerprint, sides, colour, mode and rate position
    assert data[place] == 8
    for value, error, word in (
        (0, CorruptStream, "nothing of it is"),
        (64, UnsupportedStream, "smoothing 64"),
    ):
        with pytest.raises(error, match=word):
            read_stream(data[:place] + bytes([value]) + data[place + 1 :])
    with pytest.raises(CorruptStream, match="nothing of it is"):
        read_stream(data[:7] + bytes(8) + data[15:])


def test_that_exact_payloads_are_in_fewer_colours_is_a_flag():
    exact = replace(PLAIN, exact=frozenset({0}))
    plain, reduced = write_stream(exact), write_stream(replace(exact, is_reduced=True))
    assert (len(plain), plain[5] | 64) == (len(reduced), reduced[5])
    assert read_stream(reduced) == replace(exact, is_reduced=True)
    assert read_stream(with_metadata(reduced, Metadata(xmp=b"xmp"))).is_reduced


def test_a_bitmap_of_more_tiles_than_there_are_is_corrupt():
    data = bytearray(write_stream(replace(PLAIN, exact=frozenset({0}))))
    place = data.index(b"payload") - 1
    assert data[place] == 1
    data[place] = 3
    with pytest.raises(CorruptStream, match="bitmap"):
        read_stream(bytes(data))


def test_an_exact_payload_has_a_learned_part_and_an_image():
    payload = ExactPayload(b"l" * 300, b"image")
    assert read_exact_payload(payload.pack(), 7) == payload
    with pytest.raises(CorruptStream, match="learned part of tile 7"):
        read_exact_payload(payload.pack()[:200], 7)
    with pytest.raises(CorruptStream, match="learned part of tile 7"):
        read_exact_payload(b"", 7)
