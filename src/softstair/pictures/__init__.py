"""Pictures: pixels with what belongs to them, and the rules for getting them in and out.

Sources of any Pillow mode become 8-bit RGB or grey: bilevel, grey and 16-bit grey become grey;
palettes, CMYK and everything else become RGB. Transparency becomes a plane of its own. ICC, EXIF
and XMP are kept verbatim, except the profile of a source whose colours were converted.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from softstair.errors import UnreadablePicture, UsageError
from softstair.stream import Metadata

_GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
_CONVERTED = {"CMYK", "YCbCr", "LAB", "HSV"}
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@dataclass(frozen=True)
class Picture:
    """An 8-bit picture.

    pixels: uint8 (H, W, 3), or (H, W) for grey. alpha: uint8 (H, W) or None.
    """

    pixels: npt.NDArray[np.uint8]
    alpha: npt.NDArray[np.uint8] | None = None
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def is_grey(self) -> bool:
        return self.pixels.ndim == 2

    @property
    def rgb(self) -> npt.NDArray[np.uint8]:
        """Pixels as (H, W, 3)."""
        if self.is_grey:
            return np.repeat(self.pixels[..., None], 3, axis=2)
        return self.pixels

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """Pixels with alpha as a last channel where there is one."""
        if self.alpha is None:
            return self.pixels
        colour = self.pixels[..., None] if self.is_grey else self.pixels
        return np.concatenate([colour, self.alpha[..., None]], axis=2)


def picture_from(image: Any) -> Picture:
    """A picture from a PIL image or a uint8 array (H, W), (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4).

    Raises:
        UsageError: another type, dtype or shape, or no pixels.
    """
    if isinstance(image, Image.Image):
        return _from_pil(image)
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


def read_picture(data: bytes, name: str) -> Picture:
    """Decode a PNG, JPEG, WebP, TIFF or whatever else Pillow reads; ``name`` is for messages.

    Raises:
        UnreadablePicture: not a picture, damaged or too large.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _from_pil(image)
    except UnidentifiedImageError as error:
        raise UnreadablePicture(f"{name} is not a picture that can be read.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(f"{name} cannot be decoded: {error}.") from error


def write_picture(picture: Picture, suffix: str) -> bytes:
    """Encode as PNG, JPEG (quality 95, no subsampling, alpha dropped) or WebP (lossless).

    Raises:
        UsageError: another suffix, or too large for the format.
    """
    kind = FORMATS.get(suffix.lower())
    if kind is None:
        raise UsageError(f"Pictures can be written as {', '.join(FORMATS)}, not as {suffix or 'no suffix'}.")
    image = to_pil(picture if kind != "JPEG" else replace(picture, alpha=None))
    options: dict[str, Any] = {
        "PNG": {"compress_level": 4},
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True, "quality": 40},
    }[kind]
    metadata = picture.metadata
    named = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    options |= {key: value for key, value in named.items() if value is not None}
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise UsageError(f"The picture cannot be written as {kind}: {error}.") from error
    return buffer.getvalue()


def to_pil(picture: Picture) -> Image.Image:
    """A PIL image of mode L, LA, RGB or RGBA."""
    return Image.fromarray(picture.array)


def _from_pil(image: Image.Image) -> Picture:
    info = image.info
    metadata = Metadata(
        icc=None if image.mode in _CONVERTED else _bytes(info.get("icc_profile")),
        exif=_bytes(info.get("exif")) or _exif(image),
        xmp=_bytes(info.get("xmp")),
    )
    has_alpha = image.has_transparency_data
    if image.mode in _GREY_MODES:
        source = _eight_bit(image)
        source = source.convert("LA" if has_alpha else "L")
    else:
        source = image.convert("RGBA" if has_alpha else "RGB")
    return replace(picture_from(np.asarray(source)), metadata=metadata)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits: the high byte of 16; float is clipped to 0..255."""
    if image.mode.startswith("I"):
        high = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(np.clip(high, 0, 255).astype(np.uint8))
    return image


def _exif(image: Image.Image) -> bytes | None:
    """EXIF that Pillow holds parsed, as from TIFF."""
    if image.format == "TIFF":
        return None  # its tags describe the TIFF itself
    exif = image.getexif()
    return exif.tobytes() if exif else None


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    return bytes(value) if value else None
