"""Pictures into files."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, PngImagePlugin

from softstair.errors import LimitExceeded, UsageError
from softstair.stream import Metadata

from . import jpeg, png
from .exif import of_a_part
from .metadata import orientation, to_info
from .picture import Note, Picture, turned

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".webp": "WEBP"}
_LARGEST_SIDES = {"PNG": 1 << 31, "JPEG": 65500, "WEBP": 16383}
# Bytes of memory that a pixel takes while it is written, beside the picture itself: measured.
_WRITER_BYTES = {"PNG": 6, "JPEG": 6, "WEBP": 44}
_PROCESS = 180_000_000
_LARGEST_EXIF = 65533 - 6
_NO_MEMORY = {"encoding error 1", "encoding error 2"}  # how Pillow says what libwebp says of memory
_STRIPE = 1 << 21
_DEFLATED_TEXT = 500_000  # Pillow's reader takes no longer ones


@dataclass(frozen=True)
class Written:
    """A file, and what of the picture it has no place for."""

    data: bytes
    notes: tuple[Note, ...] = ()


def check_writable(suffix: str, width: int, height: int, max_memory: int | None = None) -> None:
    """Refuse before a picture is decoded what could not be written.

    Raises:
        UsageError: another suffix, or too large for the format.
        LimitExceeded: writing takes more memory than allowed.
    """
    kind = _kind(suffix)
    if max(width, height) > _LARGEST_SIDES[kind]:
        raise UsageError(
            f"{kind} holds at most {_LARGEST_SIDES[kind]} pixels a side, and the picture has "
            f"{width}x{height}; write PNG."
        )
    needed = _PROCESS + width * height * (3 + _WRITER_BYTES[kind])
    if max_memory is not None and needed > max_memory:
        raise LimitExceeded(
            f"Writing {width}x{height} pixels as {kind} needs about {needed / 1e6:.0f} MB of memory, more "
            f"than the limit of {max_memory / 1e6:.0f} MB; raise --max-memory"
            f"{', or write PNG' * (kind == 'WEBP')}."
        )


def write_picture(picture: Picture, suffix: str) -> bytes:
    """Encode as PNG, JPEG (quality 95, no subsampling, alpha dropped) or WebP (lossless).

    Raises:
        UsageError: another suffix, or too large for the format.
    """
    return write_and_tell(picture, suffix).data


def write_and_tell(picture: Picture, suffix: str) -> Written:
    """``write_picture``, with what the format has no place for."""
    kind = _kind(suffix)
    height, width = picture.pixels.shape[:2]
    check_writable(suffix, width, height)
    notes: list[Note] = []
    if kind == "JPEG":
        if picture.alpha is not None and picture.alpha.min() < 255:
            text = "JPEG has no place for its transparency, which is not kept; PNG and WebP keep it."
            notes.append(Note("transparency not kept", text))
        picture = replace(_with_short_exif(picture, notes), alpha=None)
    metadata = picture.metadata
    options: dict[str, Any] = {
        "PNG": {"compress_level": 4},
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True, "quality": 40},
    }[kind]
    options |= to_info(metadata if kind == "WEBP" else replace(metadata, xmp=None))
    options.pop("photoshop", None)
    if kind == "PNG":
        options["pnginfo"] = _png_text(metadata)
    if kind == "WEBP" and metadata.iptc is not None:
        notes.append(Note("IPTC not kept", "WebP has no place for its IPTC caption, which is not kept."))
    buffer = io.BytesIO()
    try:
        _image(picture).save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        if str(error) in _NO_MEMORY:
            raise MemoryError(str(error)) from error
        reason = str(error).rstrip(".")
        raise UsageError(f"The picture cannot be written as {kind}: {reason}.") from error
    data = buffer.getvalue()
    if kind == "JPEG":
        data = _with_segments(data, metadata, notes)
    return Written(data, tuple(notes))


def to_pil(picture: Picture) -> Image.Image:
    """A PIL image of mode L, LA, RGB or RGBA with the metadata in its ``info``."""
    image = _image(picture)
    image.info.update(to_info(picture.metadata))
    return image


def _kind(suffix: str) -> str:
    kind = FORMATS.get(suffix.lower())
    if kind is None:
        raise UsageError(f"Pictures can be written as {', '.join(FORMATS)}, not as {suffix or 'no suffix'}.")
    return kind


def _image(picture: Picture) -> Image.Image:
    """Row by row, so that a large picture is not held three times."""
    height, width = picture.pixels.shape[:2]
    mode = ("L" if picture.is_grey else "RGB") + ("" if picture.alpha is None else "A")
    step = max(1, _STRIPE // width)
    if step >= height:
        return Image.fromarray(picture.array)
    image = Image.new(mode, (width, height))
    for top in range(0, height, step):
        alpha = None if picture.alpha is None else picture.alpha[top : top + step]
        part = Picture(picture.pixels[top : top + step], alpha)
        image.paste(Image.fromarray(part.array), (0, top))
    return image


def _png_text(metadata: Metadata) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if metadata.xmp is not None:
        # Five zeros: not deflated, no language, no translation.
        info.add(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + metadata.xmp)
    if metadata.iptc is not None:
        text = png.raw_profile(metadata.iptc)
        info.add_text("Raw profile type iptc", text, zip=len(text) < _DEFLATED_TEXT)
    return info


def _with_short_exif(picture: Picture, notes: list[Note]) -> Picture:
    """EXIF that fits into a JPEG's one segment: without its thumbnail, or else not at all."""
    metadata = picture.metadata
    if metadata.exif is None or len(metadata.exif) <= _LARGEST_EXIF:
        return picture
    height, width = picture.pixels.shape[:2]
    shorter = of_a_part(metadata.exif, width, height)
    if len(shorter) <= _LARGEST_EXIF:
        notes.append(
            Note("thumbnail not kept", "Its EXIF is too large for JPEG; the thumbnail in it is left out.")
        )
        return replace(picture, metadata=replace(metadata, exif=shorter))
    text = "Its EXIF is too large for JPEG and is not kept; PNG and WebP keep it."
    notes.append(Note("EXIF not kept", text))
    return strip(picture, frozenset({"exif"}))


def _with_segments(data: bytes, metadata: Metadata, notes: list[Note]) -> bytes:
    whole = jpeg.with_segments(data, metadata.xmp, metadata.iptc)
    if whole is not None:
        return whole
    for name in ("xmp", "iptc"):
        added = jpeg.with_segments(data, **{"xmp": None, "iptc": None, name: getattr(metadata, name)})
        if added is None:
            text = f"Its {name.upper()} has no room in a JPEG and is not kept; PNG keeps it."
            notes.append(Note(f"{name.upper()} not kept", text))
        else:
            data = added
    return data


def strip(picture: Picture, kinds: frozenset[str]) -> Picture:
    """A picture without some of its metadata: any of icc, exif, xmp, iptc.

    Where the orientation goes with them, the pixels are turned, so that it looks as before.
    """
    kept = replace(picture.metadata, **dict.fromkeys(kinds))
    before = orientation(picture.metadata)
    if orientation(kept) == before:
        return replace(picture, metadata=kept)
    alpha = None if picture.alpha is None else turned(picture.alpha, before)
    return replace(picture, pixels=turned(picture.pixels, before), alpha=alpha, metadata=kept)
