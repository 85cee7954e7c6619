"""Whatever bytes come in: one SoftstairError, never a crash, a hang or a large allocation."""

from __future__ import annotations

import resource
import subprocess
import sys
import zlib
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import softstair
from softstair.codec import decode_picture
from softstair.errors import CorruptStream, SoftstairError, StreamError
from softstair.stream import read_stream, write_stream

from .conftest import GOLDEN

PLAIN = (GOLDEN / "v1" / "plain.stair").read_bytes()
FOUR_LANES = (GOLDEN / "v1" / "four-lanes.stair").read_bytes()
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


@pytest.mark.parametrize("name", STREAMS)
def test_every_truncated_payload_with_a_right_checksum(name, tiny_bundle):
    payload = read_stream(STREAMS[name]).tiles[0]
    for length in range(len(payload)):
        with pytest.raises(CorruptStream):
            decode_picture(with_payload(STREAMS[name], payload[:length]), tiny_bundle)


@settings(max_examples=1500, deadline=None)
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


@settings(max_examples=2000, deadline=None)
@given(st.data())
def test_mutated_files(tiny_bundle, data):
    damaged = bytearray(PLAIN)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if bytes(damaged) == PLAIN:
        return
    with pytest.raises(SoftstairError):
        decode_picture(bytes(damaged), tiny_bundle, threads=1)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
from softstair.codec import decode_picture
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
for width, height in ((8192, 8192), (65536, 1000), (1, 65536), (65536, 65536)):
    header = replace(stream.header, width=width, height=height)
    for payload in (b"", b"\\0" * 16, b"\\xff" * 3000, stream.tiles[0]):
        try:
            decode_picture(write_stream(replace(stream, header=header, tiles=(payload,))), bundle, threads=1)
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
    assert len(names) == 16
    assert set(names) <= {"CorruptStream", "LimitExceeded"}


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
