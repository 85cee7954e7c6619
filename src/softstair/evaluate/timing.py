"""How long codecs take: one picture at a time, networks loaded, nothing else of ours at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from time import perf_counter

from softstair.peers import Codec

from .data import Pixels
from .machine import load_average
from .results import Timing


def time_codec(codec: Codec, qualities: Sequence[float], pictures: Sequence[Pixels]) -> Iterator[Timing]:
    """Times of a codec at some qualities, over some pictures, uint8 (H, W, 3).

    A first picture is coded untimed: it loads networks and libraries.
    """
    if qualities:
        codec.decode(codec.encode(pictures[0], qualities[0]))
    for quality in qualities:
        load, encode, decode = load_average(), [], []
        for pixels in pictures:
            start = perf_counter()
            data = codec.encode(pixels, quality)
            middle = perf_counter()
            codec.decode(data)
            encode.append(middle - start)
            decode.append(perf_counter() - middle)
        yield Timing(
            codec=codec.name,
            quality=quality,
            pictures=len(pictures),
            threads=codec.threads,
            encode_seconds=round(median(encode), 6),
            decode_seconds=round(median(decode), 6),
            load=load,
        )
