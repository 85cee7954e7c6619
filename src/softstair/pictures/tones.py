"""Samples of any depth to 8 bits.

More than 8 bits are rounded: a sample s of a full scale f becomes round(255 s / f). What a file
says of its samples and Pillow's mode does not (12 bits in 16, white as 0, no sign) is read from the
tile that Pillow has yet to load.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from softstair import stopping

from .picture import Note, Pixels
from .tiff import in_native_order

GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
_STRIPE = 1 << 21  # pixels converted at a time, so that a large picture is not held three times
_DARK = 16  # of a range of more than 8 bits, a picture that uses less than this part looks black
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339
# Pillow's raw modes of 16 bits take the high byte; these take the low one of the same samples.
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_COLOURS_OF_16 = ("RGB;16", "RGBX;16", "RGBA;16", "RGBa;16")


@dataclass(frozen=True)
class Samples:
    """What an image says of its samples before it is loaded, beside its mode.

    raw: Pillow's raw mode of what the file holds, or nothing. full: sample that is white, or None
    for the usual one of the mode. white_is_zero: white is 0 and black is ``full``. is_signed: of 8,
    16 or 32 bits. hidden: the sample, or three, that stand for transparent, on the scale of the pixels.
    """

    raw: str = ""
    full: int | None = None
    white_is_zero: bool = False
    is_signed: bool = True
    hidden: int | tuple[int, ...] | None = None

    @property
    def is_16_bit_colour(self) -> bool:
        """True if Pillow's RGB of it is the high byte of what there is."""
        return self.raw[:-1] in _COLOURS_OF_16 and self.raw[-1] in _OTHER_BYTE

    @property
    def is_premultiplied(self) -> bool:
        """True of 16-bit colour that was multiplied by its alpha."""
        return self.is_16_bit_colour and self.raw.startswith("RGBa")

    @property
    def is_16_bit_grey_alpha(self) -> bool:
        return self.raw == "LA;16B"


@dataclass(frozen=True)
class Reduced:
    """8-bit samples. colour: (H, W) or (H, W, 3). alpha: (H, W) or None."""

    colour: Pixels
    alpha: Pixels | None = None
    notes: tuple[Note, ...] = field(default=())


def samples_of(image: Image.Image) -> Samples:
    """What an image says of its samples; asked before ``load``, which forgets the most of it."""
    raw = _raw_mode(image)
    hidden = image.info.get("transparency")
    if isinstance(hidden, int) and raw in ("L;2", "L;4"):
        hidden = hidden * 255 // ((1 << int(raw[-1])) - 1)  # Pillow scales the pixels alone
    if not isinstance(hidden, int | tuple):
        hidden = None
    if image.format != "TIFF":
        return Samples(raw, hidden=hidden)
    tags = getattr(image, "tag_v2", {})
    bits, is_signed = _first(tags, _BITS), _first(tags, _SAMPLE_FORMAT) != 1
    full = {
        ("I;16", False): (1 << 12) - 1 if bits == 12 else None,
        ("I", False): (1 << 32) - 1 if bits == 32 else None,
        ("I", True): (1 << 15) - 1 if bits == 16 else None,
        ("L", True): (1 << 7) - 1 if bits == 8 else None,
    }.get((image.mode, is_signed))
    # Of these two Pillow does not turn white and black around.
    white_is_zero = tags.get(_PHOTOMETRIC) == 0 and image.mode in ("I;16", "I;16B", "I", "F")
    return Samples(raw, full, white_is_zero, is_signed, hidden)


def open_for_samples(image: Image.Image, samples: Samples, *, twice: bool = False) -> None:
    """Let an image that is not loaded keep both bytes of grey with alpha of 16 bits, and all that is right.

    twice: ``low_bytes`` will be read, too, so that colour stays multiplied by its alpha until then.
    """
    if image.format == "TIFF":
        in_native_order(image)
    if samples.is_16_bit_grey_alpha:
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]  # type: ignore[attr-defined]
    if twice and samples.is_premultiplied:
        raw = _as_it_is(samples.raw)
        image.tile = [_with_raw_mode(tile, raw) or tile for tile in image.tile]  # type: ignore[attr-defined]


def low_bytes(image: Image.Image, samples: Samples) -> Pixels | None:
    """The low bytes of an image of 16-bit colour, (H, W, 3 or 4), from a second copy of it, not loaded."""
    other = f"{_as_it_is(samples.raw)[:-1]}{_OTHER_BYTE[samples.raw[-1]]}"
    tiles = [_with_raw_mode(tile, other) for tile in image.tile]  # type: ignore[attr-defined]
    if any(tile is None for tile in tiles):
        return None
    image.tile = tiles  # type: ignore[attr-defined]
    image.load()
    return as_array(image, image.mode)


def reduce(image: Image.Image, samples: Samples, low: Pixels | None = None) -> Reduced:
    """Grey or RGB of 8 bits from a loaded image.

    Args:
        samples: what the image said before.
        low: its ``low_bytes``, if it is of 16-bit colour.
    """
    if samples.is_16_bit_grey_alpha:
        return _grey_alpha_16(image)
    if low is not None:
        return _colour_16(image, low, samples)
    if image.mode.startswith("I") or (image.mode == "L" and samples.full is not None):
        return _integers(image, samples)
    if image.mode == "F":
        return _floats(image, samples)
    if isinstance(samples.hidden, int) and image.mode == "L":
        grey = as_array(image, "L")
        return Reduced(grey, np.where(grey == samples.hidden, np.uint8(0), np.uint8(255)))
    if image.mode in GREY_MODES:
        return _split(as_array(image, "LA" if image.has_transparency_data else "L"))
    through = _profile_transform(image) if image.mode == "CMYK" else None
    reduced = _split(as_array(image, "RGBA" if image.has_transparency_data else "RGB", through))
    return _grey_again(reduced, image)


def as_array(
    image: Image.Image, mode: str, through: Callable[[Image.Image], Image.Image] | None = None
) -> npt.NDArray[Any]:
    """Samples of a loaded image in a mode, (H, W) or (H, W, C), without a second copy of it whole."""
    result: npt.NDArray[Any] | None = None
    for rows, part in _stripes(image):
        stopping.check()
        part = part if through is None else through(part)
        array = np.asarray(part if part.mode == mode else part.convert(mode))
        if result is None:
            result = np.empty((image.height, *array.shape[1:]), array.dtype)
        result[rows] = array
    assert result is not None  # an image has a row
    return result


def _stripes(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    height = max(1, _STRIPE // image.width)
    if height >= image.height:
        yield slice(0, image.height), image
        return
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None) or ()
    for tile in tiles:
        args = tile[3] if len(tile) > 3 else None
        raw = args[0] if isinstance(args, tuple) and args else args
        return raw if isinstance(raw, str) else ""
    return ""


def _first(tags: Any, tag: int) -> Any:
    """The first value of a TIFF tag; 1 is the default of those that are asked for."""
    value = tags.get(tag, 1)
    return value[0] if isinstance(value, tuple) and value else value


def _with_raw_mode(tile: Any, raw: str) -> Any:
    args = tile[3]
    if isinstance(args, str):
        return tile._replace(args=raw)
    if isinstance(args, tuple) and args and isinstance(args[0], str):
        return tile._replace(args=(raw, *args[1:]))
    return None


def _as_it_is(raw: str) -> str:
    """A raw mode whose colours are not divided by their alpha."""
    return raw.replace("RGBa", "RGBA")


def _split(array: Pixels) -> Reduced:
    if array.ndim == 2 or array.shape[2] == 3:
        return Reduced(array)
    colour = array[..., 0] if array.shape[2] == 2 else array[..., :3]
    return Reduced(np.ascontiguousarray(colour), np.ascontiguousarray(array[..., -1]))


def _rounded(values: npt.NDArray[Any], full: int) -> Pixels:
    """Integers in 0..full to 0..255, to the nearest."""
    wide = values.astype(np.uint64)
    return ((510 * wide + full) // (2 * full)).astype(np.uint8)


def _grey_alpha_16(image: Image.Image) -> Reduced:
    """Pillow has read high and low bytes of both as four channels."""
    four = as_array(image, "RGBA").astype(np.uint16)
    grey, alpha = (_rounded(four[..., at] << 8 | four[..., at + 1], 65535) for at in (0, 2))
    most = int((four[..., 0] << 8 | four[..., 1]).max())
    return Reduced(grey, alpha, _remarks(0, most, 65535))


def _colour_16(image: Image.Image, low: Pixels, samples: Samples) -> Reduced:
    high = as_array(image, image.mode)
    eight, most = np.empty_like(high), 0
    visible = None
    if isinstance(samples.hidden, tuple) and image.mode == "RGB":
        visible = np.empty(high.shape[:2], np.uint8)
    for rows in _rows(high.shape):
        values: npt.NDArray[Any] = high[rows].astype(np.uint16) << 8 | low[rows]
        if visible is not None:
            hidden = np.asarray(samples.hidden, np.int64)
            visible[rows] = np.where((values == hidden).all(axis=2), np.uint8(0), np.uint8(255))
        if samples.is_premultiplied:
            values = _divided(values)
        eight[rows] = _rounded(values, 65535)
        most = max(most, int(values[..., :3].max()))
    reduced = Reduced(eight, visible) if visible is not None else _split(eight)
    return replace(reduced, notes=_remarks(0, most, 65535))


def _divided(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Colours (H, W, 4) that were multiplied by their alpha, as they were before."""
    wide, alpha = values.astype(np.uint64), values[..., 3:].astype(np.uint64)
    colours = np.minimum((2 * 65535 * wide + alpha) // np.maximum(2 * alpha, 1), 65535)
    return np.where([True, True, True, False], colours, wide).astype(np.uint16)


def _rows(shape: tuple[int, ...]) -> Iterator[slice]:
    height = max(1, _STRIPE // shape[1])
    return (slice(top, min(top + height, shape[0])) for top in range(0, shape[0], height))


def _integers(image: Image.Image, samples: Samples) -> Reduced:
    values = as_array(image, image.mode)
    if values.dtype == np.int32 and not samples.is_signed and samples.full is not None:
        values = values.view(np.uint32)
    if values.dtype == np.uint8:
        values = values.view(np.int8)
    full = samples.full or 65535
    grey = np.empty(values.shape, np.uint8)
    alpha = None if samples.hidden is None else np.empty(values.shape, np.uint8)
    for rows in _rows(values.shape):
        part = values[rows]
        if alpha is not None:
            alpha[rows] = np.where(part == samples.hidden, np.uint8(0), np.uint8(255))
        grey[rows] = _rounded(np.clip(part, 0, full), full)
    if samples.white_is_zero:
        grey = 255 - grey
    return Reduced(grey, alpha, _remarks(int(values.min()), int(values.max()), full))


def _remarks(least: int, most: int, full: int) -> tuple[Note, ...]:
    """What looks wrong where samples of more than 8 bits do not fill their range."""
    if least < 0 or most > full:
        return (
            Note(
                "samples clipped",
                f"Its samples run from {least} to {most}; what is outside the range of 0 to {full} "
                "is clipped.",
            ),
        )
    if 0 < most <= full // _DARK:
        return (
            Note(
                "nearly black",
                f"Its samples use only 0 to {most} of a range of {full}, so that it looks nearly black; "
                "scale them first if it should not.",
            ),
        )
    return ()


def _floats(image: Image.Image, samples: Samples) -> Reduced:
    """0 to 1 where all samples lie there, else 0 to 255, else 0 to 65535; what is outside is clipped."""
    values = as_array(image, "F")
    finite = np.isfinite(values)
    inside = values if finite.all() else values[finite]
    least, most = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    full = 1 if most <= 1 else 255 if most <= 255 else 65535
    grey = np.empty(values.shape, np.uint8)
    for rows in _rows(values.shape):
        part = np.nan_to_num(values[rows], nan=0.0, posinf=full, neginf=0.0)
        grey[rows] = np.rint(np.clip(part, 0, full) * np.float32(255 / full)).astype(np.uint8)
    if samples.white_is_zero:
        grey = 255 - grey
    outside = least < 0 or most > full or not finite.all()
    if full == 255 and not outside:
        return Reduced(grey)
    text = f"Its samples are floats from {least:g} to {most:g}; the range 0 to {full} is black to white"
    text += " and what is outside, or not a number, is clipped." if outside else "."
    return Reduced(grey, None, (Note("floats scaled", text),))


def _grey_again(reduced: Reduced, image: Image.Image) -> Reduced:
    """Grey with a grey profile that Pillow hands out as RGB becomes grey: the profile is for it."""
    profile = image.info.get("icc_profile")
    colour = reduced.colour
    if not isinstance(profile, bytes) or profile[16:20] != b"GRAY" or image.mode not in ("RGB", "RGBA"):
        return reduced
    if not all(np.array_equal(colour[..., 0], colour[..., at]) for at in (1, 2)):
        return reduced
    return Reduced(np.ascontiguousarray(colour[..., 0]), reduced.alpha)


def _profile_transform(image: Image.Image) -> Callable[[Image.Image], Image.Image] | None:
    """CMYK to sRGB by the image's own profile; None without a usable one: it is Pillow's to convert."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info.get("icc_profile") or b""))
        standard = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(profile, standard, "CMYK", "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError):
        return None
    return lambda part: ImageCms.applyTransform(part, transform) or part
