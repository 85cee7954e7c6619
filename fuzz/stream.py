"""Atheris: a .stair file, through the Python reader and decoder. See ``make fuzz``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import atheris

from softstair.bundle import read_bundle
from softstair.codec import View, decode_view
from softstair.errors import SoftstairError
from softstair.stream import read_stream, write_stream

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "v1"
BUNDLE = read_bundle((GOLDEN / "tiny.stairs").read_bytes(), "tiny.stairs")
PLAIN = read_stream((GOLDEN / "plain.stair").read_bytes())


def one(data: bytes) -> None:
    """A file as it comes; after an odd first byte, a payload whose checksum is right."""
    has_payload, data = bool(data) and data[0] & 1, data[1:]
    if has_payload:
        data = write_stream(replace(PLAIN, tiles=(data,)))
    for partial in (False, True):
        try:
            view = View(allow_partial=partial)
            decode_view(data, view, BUNDLE, threads=1, max_pixels=1 << 16, max_memory=512 << 20)
        except SoftstairError as error:
            assert str(error).endswith("."), error


# All that is loaded: its hook for imports misses packages that lie in their source tree.
atheris.instrument_all()
atheris.Setup(sys.argv, one)
atheris.Fuzz()
