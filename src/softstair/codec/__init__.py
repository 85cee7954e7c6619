"""The path of a picture: encoder, decoder, rate control."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle, find_bundle
from softstair.engine import Networks, load_networks
from softstair.errors import CorruptStream, LimitExceeded, UsageError
from softstair.pictures import Picture, fill_hidden
from softstair.stream import MAX_PIXELS, Colour, Header, Mode, Stream, read_stream, write_stream

from .geometry import Geometry
from .rate_control import largest_within, smallest_reaching
from .tile import CodedTile, Symbols, TileCoder

DEFAULT_QUALITY = 75.0
# What the time of an encoder buys: mode by effort.
MODE_OF_EFFORT = {
    1: "scalar",
    2: "rdoq",
    3: "tcq4",
    4: "tcq8",
    5: "tcq32",
    6: "tcq32",
    7: "tcq32",
    8: "tcq32",
    9: "tcq32",
}


@dataclass(frozen=True)
class Rate:
    """What is asked for; exactly one field is set, or none for the default quality.

    quality: 0 to 100, linear in the rate position. position: the native knob. target_size: bytes
    of the file. target_bpp: bits per pixel of the file. target_psnr: dB, RGB, at least.
    """

    quality: float | None = None
    position: int | None = None
    target_size: int | None = None
    target_bpp: float | None = None
    target_psnr: float | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"Ask for one of {' and '.join(given)}, not for {len(given)} at once.")
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise UsageError(f"Quality runs from 0 to 100, not to {self.quality:g}.")


@dataclass(frozen=True)
class Encoded:
    """A file and what is known of it. table_bits: what the tables alone charge for the payload."""

    data: bytes
    position: int
    table_bits: float
    payload_bytes: int


def choose_mode(bundle: Bundle, effort: int | None = None, mode: str | None = None) -> str:
    """The mode of an effort, the mode asked for, or else the bundle's own.

    Raises:
        UsageError: both are asked for, no such effort, or the bundle lacks the mode.
    """
    if effort is not None:
        if mode is not None:
            raise UsageError(f"Ask for effort {effort} or for mode {mode}, not for both.")
        if effort not in MODE_OF_EFFORT:
            raise UsageError(f"Efforts run from 1 to {max(MODE_OF_EFFORT)}, not to {effort}.")
        mode = MODE_OF_EFFORT[effort]
    mode = mode or bundle.manifest.encoding.mode
    bundle.check_mode(mode)
    return mode


@lru_cache(maxsize=4)
def networks_of(bundle: Bundle, threads: int) -> Networks:
    """The networks of a bundle, kept so that a second picture does not load them again."""
    return load_networks(bundle, threads)


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def encode_picture(
    picture: Picture, rate: Rate, bundle: Bundle, *, mode: str | None = None, threads: int | None = None
) -> Encoded:
    """A picture as a .stair file. ``mode``: by default the bundle's own.

    Raises:
        LimitExceeded: more pixels than a decoder accepts by default.
        TargetOutOfReach: no rate position meets the target.
        UsageError: a quality or position outside its range, or a mode that the bundle lacks.
    """
    height, width = picture.pixels.shape[:2]
    if height * width > MAX_PIXELS:
        raise LimitExceeded(
            f"The picture has {width}x{height} = {width * height} pixels; at most {MAX_PIXELS} can be "
            "encoded."
        )
    mode = choose_mode(bundle, mode=mode)
    coder = TileCoder(bundle, networks_of(bundle, threads or usable_cores()), mode)
    picture = replace(picture, pixels=fill_hidden(picture.pixels, picture.alpha))
    analysed = coder.analyse(picture.rgb)

    @cache
    def attempt(position: int) -> tuple[CodedTile, bytes]:
        tile = coder.code(analysed, position)
        header = Header(
            bundle.fingerprint,
            width,
            height,
            Colour.GREY if picture.is_grey else Colour.RGB,
            Mode[mode.upper()],
            position,
        )
        alpha = None if picture.alpha is None else picture.alpha.tobytes()
        return tile, write_stream(Stream(header, (tile.payload,), alpha, picture.metadata))

    def psnr(position: int) -> float:
        pixels = coder.synthesise(attempt(position)[0].latents, analysed.geometry, position)
        return _psnr(pixels, picture)

    position = _choose(rate, bundle, width * height, lambda p: len(attempt(p)[1]), psnr)
    tile, data = attempt(position)
    return Encoded(data, position, tile.table_bits, len(tile.payload))


def decode_picture(
    data: bytes,
    bundle: Bundle | None = None,
    *,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """The picture of a .stair file. ``bundle`` overrides the search by fingerprint.

    Raises:
        StreamError: the data cannot be read.
        BundleError: its bundle is missing or damaged.
    """
    stream = read_stream(data, max_pixels=max_pixels)
    header = stream.header
    coder = _coder_for(header, bundle, threads)
    geometry = Geometry(header.width, header.height)
    symbols = coder.read_symbols(stream.tiles[0], geometry, header.position)
    pixels = coder.synthesise(coder.reconstruct(symbols, header.position), geometry, header.position)
    alpha = None
    if stream.alpha is not None:
        alpha = np.frombuffer(stream.alpha, np.uint8).reshape(header.height, header.width)
    if header.colour is Colour.GREY:
        pixels = np.rint(pixels.mean(axis=2)).astype(np.uint8)
    return Picture(pixels, alpha, stream.metadata)


def read_symbols(data: bytes, bundle: Bundle | None = None, *, threads: int | None = None) -> Symbols:
    """The symbols of a .stair file: what must be the same on every machine."""
    stream = read_stream(data)
    coder = _coder_for(stream.header, bundle, threads)
    geometry = Geometry(stream.header.width, stream.header.height)
    return coder.read_symbols(stream.tiles[0], geometry, stream.header.position)


def _coder_for(header: Header, bundle: Bundle | None, threads: int | None) -> TileCoder:
    bundle = bundle or find_bundle(header.fingerprint)
    if bundle.fingerprint != header.fingerprint:
        raise UsageError(
            f"The stream was made with bundle {header.fingerprint.hex()}, not with {bundle.name} "
            f"({bundle.fingerprint.hex()}); leave --model away or name the right one."
        )
    if header.position > bundle.last_position:
        raise CorruptStream(
            f"Rate position {header.position} is beyond the bundle's last, {bundle.last_position}."
        )
    mode = header.mode.name.lower()
    bundle.check_mode(mode)
    return TileCoder(bundle, networks_of(bundle, threads or usable_cores()), mode)


def _choose(
    rate: Rate,
    bundle: Bundle,
    pixels: int,
    size: Callable[[int], int],
    psnr: Callable[[int], float],
) -> int:
    last = bundle.last_position
    if rate.position is not None:
        if not 0 <= rate.position <= last:
            raise UsageError(f"Rate positions run from 0 to {last}, not to {rate.position}.")
        return rate.position
    if rate.target_size is not None:
        return largest_within(size, rate.target_size, last)
    if rate.target_bpp is not None:
        return largest_within(size, int(rate.target_bpp * pixels / 8), last)
    if rate.target_psnr is not None:
        return smallest_reaching(psnr, rate.target_psnr, last)
    quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
    return round(quality / 100 * last)


def _psnr(pixels: npt.NDArray[np.uint8], picture: Picture) -> float:
    """Of what can be seen: pixels under full transparency do not count."""
    squares = np.square(pixels.astype(np.float64) - picture.rgb)
    if picture.alpha is not None:
        squares = squares[picture.alpha > 0]
    error = squares.mean() if squares.size else 0.0
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
