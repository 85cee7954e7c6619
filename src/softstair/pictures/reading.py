"""Pictures out of files and Pillow images."""

from __future__ import annotations

import re
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from softstair import _core
from softstair.errors import LimitExceeded, UnreadablePicture, UsageError, ran_out_of_memory

from . import jpeg, png, tiff
from .boxes import with_boxes
from .formats import open_image, reason_of
from .metadata import applied_segments, fitting, for_a_part, metadata_of
from .picture import Note, Picture
from .tones import (
    GREY_MODES,
    Reduced,
    Samples,
    low_bytes,
    open_for_samples,
    reduce,
    samples_of,
)

_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError)
# Bytes that a pixel takes in Pillow, and beside that in the decoder of a format while it runs.
_UNSCALED = {b"BZERO": 0.0, b"BSCALE": 1.0}
_PILLOW_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "PA": 4, "I;16": 2, "I;16L": 2, "I;16B": 2}
_DECODER_BYTES = {"WEBP": 17, "AVIF": 8, "HEIF": 8, "JPEG2000": 16, "JXL": 16, "GIF": 4, "TIFF": 1}
_PROGRESSIVE_BYTES = 6
_PROCESS = 60_000_000  # interpreter and libraries
_FRAMES = {
    **dict.fromkeys(("GIF", "WEBP", "PNG", "AVIF", "JXL", "FLI"), "frames"),
    **dict.fromkeys(("TIFF", "DCX"), "pages"),
}
_AVIF_COLOUR = b"colrnclx"
# How files say that a second picture makes one of higher dynamic range of the first.
_ISO_BASE = (b"tmap", b"hdrgainmap")
_GAIN_MAPS = {"AVIF": _ISO_BASE, "HEIF": _ISO_BASE, "JXL": (b"jhgm",)}
_FILM = re.compile(rb"\0\0\0[\x10-\x40]ftyp|MotionPhoto_Data")
_FILM_TEXT = "The film that follows the picture in its file is not kept."
_GAIN_MAP_TEXT = "The gain map that follows the picture in its file, for HDR displays, is not kept."
_FURTHER_TEXT = "Another picture that follows the picture in its file is not kept."


def picture_from(image: Any) -> Picture:
    """A picture from a PIL image or a uint8 array (H, W), (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4).

    Raises:
        UnreadablePicture: the file of a PIL image is damaged.
        UsageError: another type, dtype or shape, or no pixels.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise UsageError(f"The image has no pixels: it is of {image.width}x{image.height}.")
        try:
            return _from_pil(image)
        except _DAMAGED as error:
            if ran_out_of_memory(error):
                raise
            raise UnreadablePicture(f"The image cannot be decoded: {reason_of(error)}.") from error
    if isinstance(image, str | bytes | PurePath):
        raise UsageError(
            f"Of {type(image).__name__} no picture is made; open the file with PIL.Image.open and pass that."
        )
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise UsageError(f"Pixels must be uint8, not {array.dtype}; scale them to 0..255 and convert.")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or array.size == 0:
        raise UsageError(f"Pixels must have shape (H, W) or (H, W, 1 to 4), not {np.shape(image)}.")
    channels = array.shape[2]
    alpha = np.ascontiguousarray(array[..., -1]) if channels in (2, 4) else None
    colour = array[..., 0] if channels < 3 else array[..., :3]
    return Picture(np.ascontiguousarray(colour), alpha)


def read_picture(
    data: bytes, name: str, *, page: int | None = None, max_memory: int | None = None
) -> Picture:
    """Decode a PNG, JPEG, WebP, TIFF or whatever else Pillow reads.

    Args:
        name: for messages.
        page: of several pages or frames, from 1; by default the first, and a note says so.
        max_memory: bytes that the process may take for it, about; no limit by default.

    Raises:
        UnreadablePicture: not a picture, or damaged.
        LimitExceeded: too many pixels, or more memory than allowed.
        UsageError: there is no such page.
    """
    with ExitStack() as stack:
        image = stack.enter_context(open_image(data, name))
        try:
            if tiff.is_raw_photograph(image, data):
                raise UnreadablePicture(
                    f"{name} is a camera raw file, of which only a preview can be read; develop it first."
                )
            if image.format == "FITS" and _is_scaled(data):
                raise UnreadablePicture(
                    f"{name} is FITS whose numbers are to be scaled (BZERO, BSCALE), which is not read; "
                    "save it as TIFF or PNG first."
                )
            notes = _turn_to_page(image, page, name)
            if max_memory is not None:
                _check_memory(image, len(data), max_memory, name)
            if tiff.is_in_planes(image):
                opened = partial(open_image, name=name)
                if (mended := tiff.without_planes(data, (page or 1) - 1, opened)) is not None:
                    data, page = mended, None
                    image = stack.enter_context(open_image(data, name))
            samples = samples_of(image)
            open_for_samples(image, samples, twice=samples.is_16_bit_colour)
            image.load()
            low = _low_bytes_again(data, name, page, samples) if samples.is_16_bit_colour else None
            picture = _taken(image, samples, low)
        except MemoryError:
            raise
        except (UsageError, LimitExceeded):
            raise
        except (*_DAMAGED, Image.DecompressionBombError) as error:
            raise UnreadablePicture(f"{name} cannot be decoded: {reason_of(error)}.") from error
        picture, unfit = _with_boxes(picture, image, data)
        picture, more = _with_told_colours(picture, image, data)
        notes += (*unfit, *more, *_what_else(image, data))
    return replace(picture, notes=(*notes, *picture.notes))


def count_pages(data: bytes, name: str) -> int:
    """How many pages or frames a file has.

    Raises:
        UnreadablePicture: not a picture, or damaged.
        LimitExceeded: too many pixels.
    """
    with open_image(data, name) as image:
        return _pages(image)


def _from_pil(image: Image.Image) -> Picture:
    samples = samples_of(image)
    if getattr(image, "tile", None):
        open_for_samples(image, samples)
        image.load()  # PNG and others know transparency and metadata only then
        samples = replace(samples, hidden=samples_of(image).hidden or samples.hidden)
    picture = _taken(image, samples, None)
    picture = replace(picture, notes=(*_left_in_file(image), *picture.notes))
    if image.format is None:  # cut out, turned or scaled by someone: what shows the whole goes
        height, width = picture.pixels.shape[:2]
        picture = replace(picture, metadata=for_a_part(picture.metadata, width, height))
    return picture


def _taken(image: Image.Image, samples: Samples, low: Any) -> Picture:
    reduced: Reduced = reduce(image, samples, low)
    metadata, notes = metadata_of(image)
    metadata, more = fitting(metadata, grey=reduced.colour.ndim == 2)
    return Picture(reduced.colour, reduced.alpha, metadata, (*reduced.notes, *notes, *more))


def _turn_to_page(image: Image.Image, page: int | None, name: str) -> tuple[Note, ...]:
    count = _pages(image)
    if page is not None:
        if not 1 <= page <= count:
            pages = f"{count} pages" if count > 1 else "one page"
            raise UsageError(f"{name} has {pages}, so there is no page {page}.")
        image.seek(page - 1)
        tiff.forget_other_pages(image)
        return ()
    what = _FRAMES.get(image.format or "", "pictures")
    if count == 1 or image.format == "MPO":
        return ()
    text = (
        f"Only the first of its {count} {what} is taken; --page N takes another one, --page all all of them."
    )
    return (Note(f"more {what} left out", text), *tiff.preview_notes(image))


def _is_scaled(data: bytes) -> bool:
    """Whether a FITS file scales its numbers, which Pillow takes as they are."""
    for at in range(0, len(data), 80):
        card = data[at : at + 80]
        if card.startswith(b"END"):
            return False
        key, _, value = card.partition(b"=")
        if (plain := _UNSCALED.get(key.strip())) is not None:
            try:
                if float(value.split(b"/")[0]) != plain:
                    return True
            except ValueError:
                return True
    return False


def _pages(image: Image.Image) -> int:
    if image.format not in {*_FRAMES, "MPO", "HEIF"}:
        return 1
    return int(getattr(image, "n_frames", 1))


def _low_bytes_again(data: bytes, name: str, page: int | None, samples: Samples) -> Any:
    with open_image(data, name) as again:
        if page is not None:
            again.seek(page - 1)
        return low_bytes(again, samples)


def _check_memory(image: Image.Image, size: int, max_memory: int, name: str) -> None:
    """Refuse before anything large is allocated what cannot be read within a limit."""
    pixels = image.width * image.height
    pillow = _PILLOW_BYTES.get(image.mode, 4)
    kept = (1 if image.mode in GREY_MODES else 3) + (1 if "A" in image.mode else 0)
    beside = _DECODER_BYTES.get(image.format or "", 0)
    if image.info.get("progressive") or image.info.get("progression"):
        beside += _PROGRESSIVE_BYTES
    if image.mode in ("I", "F"):
        kept += 8
    if tiff.is_in_planes(image):
        beside += 4 * pillow
    needed = _PROCESS + size + pixels * (pillow + max(kept, beside))
    if needed > max_memory:
        raise LimitExceeded(
            f"{name} has {image.width}x{image.height} pixels, and reading it needs about "
            f"{needed / 1e6:.0f} MB of memory, more than the limit of {max_memory / 1e6:.0f} MB; raise "
            "--max-memory."
        )


def _with_boxes(picture: Picture, image: Image.Image, data: bytes) -> tuple[Picture, tuple[Note, ...]]:
    metadata, notes = fitting(with_boxes(picture.metadata, image, data), grey=picture.is_grey)
    return replace(picture, metadata=metadata), notes


def _with_told_colours(picture: Picture, image: Image.Image, data: bytes) -> tuple[Picture, tuple[Note, ...]]:
    """A profile of the colours that a file tells by numbers alone."""
    told = png.Colour()
    if image.format == "PNG":
        told = png.colour_of(data, grey=picture.is_grey)
    elif image.format in ("AVIF", "HEIF") and picture.metadata.icc is None:
        at = data.find(_AVIF_COLOUR, 0, 1 << 16)
        numbers = data[at + len(_AVIF_COLOUR) : at + len(_AVIF_COLOUR) + 4]
        if at >= 0 and len(numbers) == 4:
            told = png.coded_colour(numbers[1], numbers[3], grey=picture.is_grey)
    if told.profile is not None:
        picture = replace(picture, metadata=replace(picture.metadata, icc=told.profile))
    if not told.is_hdr:
        return picture, ()
    text = (
        "Its colours are those of an HDR display (PQ or HLG), which 8 bits do not keep: "
        "it will look different."
    )
    return picture, (Note("HDR colours not kept", text),)


def _what_else(image: Image.Image, data: bytes) -> tuple[Note, ...]:
    """What a file holds beside the picture that was taken, and a stream has no place for."""
    if image.format in _GAIN_MAPS and any(sign in data[: 1 << 16] for sign in _GAIN_MAPS[image.format]):
        text = "The gain map beside the picture in its file, for HDR displays, is not kept."
        return (Note("gain map not kept", text),)
    if image.format == "HEIF":
        extra = [key for key in ("depth_images", "aux") if image.info.get(key)]
        if extra:
            return (Note("further pictures not kept", "Its gain map or depth picture is not kept."),)
    if image.format == "PSD" and image.layers:  # type: ignore[attr-defined]
        return (Note("layers merged", "Its layers are merged into one picture; they are not kept."),)
    if image.format == "SGI" and data[3:4] == b"\2":
        return (Note("16 bits cut", "Of its 16 bits a sample the upper 8 are taken."),)
    if image.format == "ICO" and len(image.info.get("sizes", ())) > 1:
        return (Note("smaller sizes left out", "Only the largest of its pictures is taken."),)
    if image.format not in ("JPEG", "MPO"):
        return ()
    return (*_damage(data), *_behind(data))


def _damage(data: bytes) -> tuple[Note, ...]:
    """What libjpeg would warn of, were it asked: it fills what is damaged, and nobody hears of it."""
    if not _core.jpeg_is_damaged(data):
        return ()
    text = "It is damaged: a part of its pixels is missing or wrong, and was filled as viewers fill it."
    return (Note("damaged", text),)


def _behind(data: bytes) -> tuple[Note, ...]:
    """Films and pictures that follow the picture in its file."""
    segments = jpeg.read_segments(data)
    rest = jpeg.rest_of(data, segments)
    film = (Note("film not kept", _FILM_TEXT),) if _FILM.search(rest) else ()
    if segments.has_gain_map:
        return (*film, Note("gain map not kept", _GAIN_MAP_TEXT))
    if not film and b"\xff\xd8\xff" in rest:
        return (Note("further pictures not kept", _FURTHER_TEXT),)
    return film


def _left_in_file(image: Image.Image) -> tuple[Note, ...]:
    """What an image's file has beside the picture, as far as an image tells; nothing of later frames."""
    with suppress(Exception):  # a file that is closed or damaged says nothing
        if image.format in ("JPEG", "MPO") and applied_segments(image).has_gain_map:
            return (Note("gain map not kept", _GAIN_MAP_TEXT),)
        if (count := _pages(image)) > 1 and image.tell() == 0:
            what = _FRAMES.get(image.format or "", "pictures")
            text = f"Only the first of its {count} {what} is taken; seek() turns to another one."
            return (Note(f"more {what} left out", text),)
    return ()
