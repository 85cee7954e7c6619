"""Atheris: a .stair file opened by Pillow, which raises what it knows how to report. See ``make fuzz``."""

from __future__ import annotations

import io
import os
import sys
import warnings
from pathlib import Path

import atheris

os.environ["SOFTSTAIR_MODELS"] = str(Path(__file__).resolve().parent.parent / "tests" / "golden" / "v1")
from PIL import Image

import softstair.pillow  # noqa: F401
from softstair.errors import SoftstairError

Image.MAX_IMAGE_PIXELS = 1 << 16
warnings.simplefilter("ignore")


def one(data: bytes) -> None:
    if len(data) > 16 and data[4:6] == b"\2\0":  # a header that says little costs little: keep pictures small
        data = data[:14] + bytes([data[14] & 127, data[15] & 127]) + data[16:]
    try:
        with Image.open(io.BytesIO(data), formats=["STAIR"]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, SoftstairError):
        pass


# All that is loaded: its hook for imports misses packages that lie in their source tree.
atheris.instrument_all()
atheris.Setup(sys.argv, one)
atheris.Fuzz()
