"""Atheris: a .stairs file whose checksums are right, through the Python reader. See ``make fuzz``."""

from __future__ import annotations

import sys
import zlib

import atheris

from softstair.bundle import read_bundle
from softstair.errors import SoftstairError


def put_right(data: bytearray) -> None:
    """Write the checksums of all entries that the directory names anew."""
    head = data.find(b"PK\1\2")
    while head >= 0 and head + 46 <= len(data):
        size = int.from_bytes(data[head + 20 : head + 24], "little")
        local = int.from_bytes(data[head + 42 : head + 46], "little")
        names = data[local + 26 : local + 30]
        first = local + 30 + int.from_bytes(names[:2], "little") + int.from_bytes(names[2:], "little")
        if local + 30 <= len(data) and first + size <= len(data):
            checksum = zlib.crc32(data[first : first + size]).to_bytes(4, "little")
            data[head + 16 : head + 20] = data[local + 14 : local + 18] = checksum
        head = data.find(b"PK\1\2", head + 4)


def one(data: bytes) -> None:
    changed = bytearray(data)
    put_right(changed)
    try:
        read_bundle(bytes(changed), "fuzzed.stairs")
    except SoftstairError as error:
        assert str(error).endswith("."), error


# All that is loaded: its hook for imports misses packages that lie in their source tree.
atheris.instrument_all()
atheris.Setup(sys.argv, one)
atheris.Fuzz()
