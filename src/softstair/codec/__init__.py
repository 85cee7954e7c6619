"""The path of a picture: encoder, decoder, rate control, tiles."""

from __future__ import annotations

from dataclasses import replace

from softstair.pictures import Picture

from .budget import MAX_MEMORY
from .crew import networks_of, usable_cores
from .decoder import SCALES, Decoded, View, decode_picture, decode_view, divisor_of, read_symbols
from .encoder import DEFAULT_QUALITY, MODE_OF_EFFORT, Encoded, Rate, choose_mode, encode_picture

__all__ = [
    "DEFAULT_QUALITY",
    "MAX_MEMORY",
    "MODE_OF_EFFORT",
    "SCALES",
    "Decoded",
    "Encoded",
    "Rate",
    "View",
    "choose_mode",
    "decode_picture",
    "decode_view",
    "divisor_of",
    "encode_picture",
    "networks_of",
    "read_symbols",
    "strip",
    "usable_cores",
]


def strip(picture: Picture, kinds: frozenset[str]) -> Picture:
    """A picture without some of its metadata: any of icc, exif, xmp."""
    return replace(picture, metadata=replace(picture.metadata, **dict.fromkeys(kinds)))
