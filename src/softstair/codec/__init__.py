"""The path of a picture: encoder, decoder, rate control, tiles."""

from __future__ import annotations

from .again import encode_like
from .arrival import Reader
from .budget import MAX_MEMORY
from .decoder import SCALES, Decoded, View, decode_picture, decode_view, divisor_of, read_symbols
from .encoder import (
    MODE_OF_EFFORT,
    Encoded,
    PictureEncoder,
    Rate,
    choose_mode,
    encode_picture,
    position_of,
)
from .kinds import choose_pack
from .latents import Latents, pooled_latents
from .quality import DEFAULT_QUALITY, position_of_quality
from .truncation import truncate
from .workers import networks_of, usable_cores

__all__ = [
    "DEFAULT_QUALITY",
    "MAX_MEMORY",
    "MODE_OF_EFFORT",
    "SCALES",
    "Decoded",
    "Encoded",
    "Latents",
    "PictureEncoder",
    "Rate",
    "Reader",
    "View",
    "choose_mode",
    "choose_pack",
    "decode_picture",
    "decode_view",
    "divisor_of",
    "encode_like",
    "encode_picture",
    "networks_of",
    "pooled_latents",
    "position_of",
    "position_of_quality",
    "read_symbols",
    "truncate",
    "usable_cores",
]
