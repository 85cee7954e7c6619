"""Whatever bytes come in: one SoftstairError, never a crash, a hang or a large allocation.

Some three hundred of each run; ``make fuzz`` runs for as long as one likes.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import softstair
from softstair.codec import View, decode_picture, decode_view
from softstair.codec import source as source_module
from softstair.errors import CorruptStream, NotAStairFile, SoftstairError, StreamError, TruncatedStream
from softstair.stream import read_stream, write_stream

from ..conftest import GOLDEN
from ..tiny import encode_tiled, photograph

PLAIN = (GOLDEN / "v1" / "plain.stair").read_bytes()
FOUR_LANES = (GOLDEN / "v1" / "four-lanes.stair").read_bytes()
TILED = (GOLDEN / "v1" / "tiled.stair").read_bytes()
STREAMS = {"plain": PLAIN, "four-lanes": FOUR_LANES}


def with_payload(data: bytes, payload: bytes) -> bytes:
    """A stream whose checksums are right, whatever its payload."""
    return write_stream(replace(read_stream(data), tiles=(payload,)))


@pytest.mark.parametrize("name", STREAMS)
def test_every_truncation(name, tiny_bundle):
    data = STREAMS[name]
    for length in range(len(data)):
        with pytest.raises(StreamError):
            decode_picture(data[:length], tiny_bundle)


def test_every_truncation_of_tiles(tiny_bundle):
    """Also where gaps may be filled: an error, or a picture that says what is missing."""
    for length in range(len(TILED)):
        with pytest.raises(StreamError):
            decode_picture(TILED[:length], tiny_bundle)
    for length in range(0, len(TILED), 97):
        try:
            decoded = decode_view(TILED[:length], View(allow_partial=True), tiny_bundle, threads=1)
        except StreamError:
            continue
        assert decoded.missing or decoded.cut
        assert not decoded.damaged


@pytest.mark.parametrize("name", STREAMS)
def test_every_cut_shows_a_picture_or_says_why_not(name, tiny_bundle):
    """A few bytes more never show less, and the last one changes nothing."""
    data = STREAMS[name]
    whole = decode_picture(data, tiny_bundle, threads=1).pixels.astype(int)
    errors, refused = [], 0
    for length in range(0, len(data), 3 if name == "plain" else 97):
        try:
            decoded = decode_view(data[:length], View(allow_partial=True), tiny_bundle, threads=1)
        except StreamError as error:
            assert not errors, "what was shown is refused with more bytes"
            assert isinstance(error, NotAStairFile if length == 0 else TruncatedStream)
            refused += 1
            continue
        assert decoded.cut == (0,)
        assert decoded.damage == "the file ends early and is shown as far as its bytes reach"
        errors.append(np.square(decoded.picture.pixels - whole).mean())
    assert 0 < refused < len(errors)
    assert errors[-1] < errors[0] / 20
    assert decode_view(data[:-4], View(allow_partial=True), tiny_bundle, threads=1).cut == (0,)
    np.testing.assert_array_equal(
        decode_view(data[:-4], View(allow_partial=True), tiny_bundle, threads=1).picture.pixels, whole
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_bytes_that_end_early(tiny_bundle, data):
    """No checksum covers them: they come out as an error or as a picture of that size."""
    cut = bytearray(FOUR_LANES[: data.draw(st.integers(60, len(FOUR_LANES) - 5))])
    for _ in range(data.draw(st.integers(1, 6))):
        cut[data.draw(st.integers(40, len(cut) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_view(bytes(cut), View(allow_partial=True), tiny_bundle, threads=1)
    except StreamError:
        return
    assert decoded.damage is not None


@pytest.mark.parametrize("name", STREAMS)
def test_every_truncated_payload_with_a_right_checksum(name, tiny_bundle):
    payload = read_stream(STREAMS[name]).tiles[0]
    for length in range(len(payload)):
        with pytest.raises(CorruptStream):
            decode_picture(with_payload(STREAMS[name], payload[:length]), tiny_bundle)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mutated_payloads_with_a_right_checksum(tiny_bundle, data):
    """Entropy decoding sees what it never should: it ends in an error, or in other symbols."""
    payload = bytearray(read_stream(PLAIN).tiles[0])
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode_picture(with_payload(PLAIN, bytes(payload)), tiny_bundle, threads=1)
    except CorruptStream:
        return
    assert picture.pixels.shape == (75, 90, 3)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_mutated_files(tiny_bundle, data):
    damaged = bytearray(PLAIN)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if bytes(damaged) == PLAIN:
        return
    with pytest.raises(SoftstairError):
        decode_picture(bytes(damaged), tiny_bundle, threads=1)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_mutated_files_of_tiles(tiny_bundle, data):
    damaged = bytearray(TILED)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if bytes(damaged) == TILED:
        return
    with pytest.raises(SoftstairError):
        decode_picture(bytes(damaged), tiny_bundle, threads=1)
    try:
        decoded = decode_view(bytes(damaged), View((250, 250, 20, 20), 2, True), tiny_bundle, threads=1)
    except SoftstairError:
        return
    assert decoded.picture.pixels.shape == (10, 10, 3)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(0, 256),
    st.lists(st.binary(max_size=40), max_size=9),
)
def test_any_cut_of_any_size_with_right_checksums(tiny_bundle, width, height, layout, tiles):
    stream = read_stream(TILED)
    header = replace(stream.header, width=width, height=height, layout=layout)
    data = write_stream(replace(stream, header=header, tiles=tuple(tiles)))
    with pytest.raises(StreamError):
        decode_picture(data, tiny_bundle, threads=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 40), st.integers(0, 5))
def test_an_index_that_points_anywhere(tiny_bundle, length, place):
    """The entry of one tile says anything; nothing is allocated for what is not there."""
    start = len(TILED) - sum(len(tile) + 4 for tile in read_stream(TILED).tiles)
    entries = TILED[start - 12 : start]  # six tiles of two bytes each
    entry = bytearray()
    while length > 0x7F:
        entry.append(length & 0x7F | 0x80)
        length >>= 7
    entry.append(length)
    index = entries[: 2 * place] + bytes(entry) + entries[2 * place + 2 :]
    data = TILED[: start - 12] + index + TILED[start:]
    if data == TILED:
        return
    with pytest.raises(StreamError):
        decode_picture(data, tiny_bundle, threads=1)
    with pytest.raises(StreamError):  # the index is part of what the tiles' checksums cover
        decode_view(data, View(allow_partial=True), tiny_bundle, threads=1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400))
def test_payloads_of_noise(tiny_bundle, payload):
    try:
        decode_picture(with_payload(PLAIN, payload), tiny_bundle, threads=1)
    except CorruptStream:
        return
    pytest.fail("noise decoded without an error")


ABSURD = """
import resource, sys, zlib
from dataclasses import replace
import softstair
from softstair.codec import View, decode_picture, decode_view
from softstair.bundle import read_bundle
from softstair.errors import SoftstairError
from softstair.stream import read_stream, write_stream

golden = sys.argv[1]
data = open(golden + "/plain.stair", "rb").read()
bundle = read_bundle(open(golden + "/tiny.stairs", "rb").read(), "tiny")
decode_picture(data, bundle, threads=1)   # engine and libraries are loaded
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
limit = used + (256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
stream = read_stream(data)
for width, height, layout, tiles in (
    (8192, 8192, 0, 1), (65536, 1000, 0, 1), (1, 65536, 0, 1), (65536, 65536, 0, 1),
    (8192, 8192, 256, 1), (8192, 8192, 8, 16), (8192, 8192, 1, 1024), (65536, 4096, 1, 7),
):
    header = replace(stream.header, width=width, height=height, layout=layout)
    for payload in (b"", b"\\0" * 16, b"\\xff" * 3000, stream.tiles[0]):
        data = write_stream(replace(stream, header=header, tiles=(payload,) * tiles))
        for view in (View(), View(region=(0, 0, 1, 1)), View(divisor=16)):
            try:
                decode_view(data, view, bundle, threads=1)
            except SoftstairError as error:
                print(type(error).__name__)
"""


def test_absurd_sizes_allocate_nothing_large():
    """Small files that claim huge pictures, with 256 MiB of address space to spare."""
    done = subprocess.run(
        [sys.executable, "-c", ABSURD, str(GOLDEN / "v1")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert len(names) == 8 * 4 * 3
    assert set(names) <= {"CorruptStream", "LimitExceeded", "TruncatedStream", "UsageError"}


def test_what_is_made_up_costs_little_and_is_not_most(tiny_bundle, monkeypatch):
    """A file that ends early: grey without a network where nothing was read; too little is an error."""
    from softstair.codec import budget, networks_of

    monkeypatch.setattr(budget, "DECODED_WINDOWS", (1,))
    data = encode_tiled(photograph(512, 2560), tiny_bundle, 80, layout=1)
    stream = read_stream(data)
    whole = decode_picture(data, tiny_bundle, threads=1).pixels
    networks, runs = networks_of(tiny_bundle, 1, "scalar"), []
    original = type(networks).synthesis
    monkeypatch.setattr(
        type(networks), "synthesis", lambda self, *given: runs.append(1) or original(self, *given)
    )
    first = len(data) - sum(len(tile) + 4 for tile in stream.tiles[1:])
    decoded = decode_view(data[:first], View(allow_partial=True), tiny_bundle, threads=1)
    assert decoded.missing == tuple(range(1, 20))
    assert len(runs) < 8
    assert np.abs(decoded.picture.pixels[:200, :200].astype(int) - whole[:200, :200]).max() <= 1
    assert (decoded.picture.pixels[:, 1024:] == 128).all()
    monkeypatch.setattr(source_module, "_LEAST_READ", 0.2)
    with pytest.raises(TruncatedStream):
        decode_view(data[:first], View(allow_partial=True), tiny_bundle, threads=1)


def test_a_deflate_bomb_as_alpha_is_limited_by_the_picture(tiny_bundle):
    data = (GOLDEN / "v1" / "alpha.stair").read_bytes()
    stream = read_stream(data)
    head = write_stream(replace(stream, alpha=None))
    flags = bytearray(head)
    flags[5] |= 1
    tile_crc = zlib.crc32(stream.tiles[0], zlib.crc32(flags[: len(head) - len(stream.tiles[0]) - 4]))
    flags[-4:] = tile_crc.to_bytes(4, "little")
    bomb = zlib.compress(bytes(200 << 20), 9)
    length = bytes([len(bomb) & 0x7F | 0x80, len(bomb) >> 7 & 0x7F | 0x80, len(bomb) >> 14])
    block = length + bomb + zlib.crc32(bomb).to_bytes(4, "little")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StreamError, match="alpha"):
        decode_picture(bytes(flags) + block, tiny_bundle)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_an_unknown_bundle_is_named_with_a_way_out():
    with pytest.raises(SoftstairError, match=r"--model FILE"):
        softstair.decode(PLAIN)
