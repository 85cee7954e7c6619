"""Pictures: pixels with what belongs to them, and the rules for getting them in and out.

Sources of any Pillow mode become 8-bit RGB or grey: bilevel, grey and 16-bit grey become grey;
palettes, CMYK and everything else become RGB. Transparency becomes a plane of its own. ICC, EXIF
and XMP are kept verbatim, except a profile of other colours than the pixels have. Pixels are not
turned: the orientation stays where it is, in EXIF. docs/pictures.md has it all.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError

from softstair.errors import UnreadablePicture, UsageError
from softstair.stream import Metadata

from .metadata import as_bytes, bare_exif, fitting, metadata_of, orientation, to_info
from .transparent import fill_hidden

__all__ = [
    "FORMATS",
    "Picture",
    "as_bytes",
    "bare_exif",
    "fill_hidden",
    "picture_from",
    "read_picture",
    "strip",
    "to_info",
    "to_pil",
    "write_picture",
]

_GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
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
    if isinstance(image, Picture):
        return image
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
    options |= to_info(picture.metadata)
    if kind == "PNG" and picture.metadata.xmp is not None:
        # Pillow's writer has no option for it. Five zeros: not deflated, no language, no translation.
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + picture.metadata.xmp)
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise UsageError(f"The picture cannot be written as {kind}: {error}.") from error
    return buffer.getvalue()


def to_pil(picture: Picture) -> Image.Image:
    """A PIL image of mode L, LA, RGB or RGBA with the metadata in its ``info``."""
    image = Image.fromarray(picture.array)
    image.info.update(to_info(picture.metadata))
    return image


def strip(picture: Picture, kinds: frozenset[str]) -> Picture:
    """A picture without some of its metadata: any of icc, exif, xmp.

    Where the orientation goes with them, the pixels are turned, so that it looks as before.
    """
    kept = replace(picture.metadata, **dict.fromkeys(kinds))
    if orientation(kept) != orientation(picture.metadata):
        picture = _from_pil(ImageOps.exif_transpose(to_pil(picture)))
        kept = replace(picture.metadata, **dict.fromkeys(kinds))
    return replace(picture, metadata=kept)


def _from_pil(image: Image.Image) -> Picture:
    image.load()  # PNG and others know transparency and metadata only then
    if image.mode in _GREY_MODES:
        picture = _grey(image)
    else:
        mode = "RGBA" if image.has_transparency_data else "RGB"
        colours = _through_profile(image) if image.mode == "CMYK" else image
        # Pillow copies the pixels even where there is nothing to convert.
        picture = picture_from(np.asarray(colours if colours.mode == mode else colours.convert(mode)))
    return replace(picture, metadata=fitting(metadata_of(image), grey=picture.is_grey))


def _grey(image: Image.Image) -> Picture:
    """Integers of more than 8 bits count as 16 and give their high byte; float is clipped to 0..255."""
    if not image.mode.startswith("I"):
        return picture_from(np.asarray(image.convert("LA" if image.has_transparency_data else "L")))
    values = np.asarray(image).astype(np.int64)
    hidden = image.info.get("transparency")
    alpha = None if hidden is None else np.where(values == hidden, np.uint8(0), np.uint8(255))
    return Picture(np.clip(values >> 8, 0, 255).astype(np.uint8), alpha)


def _through_profile(image: Image.Image) -> Image.Image:
    """CMYK as sRGB by its own profile; without a usable one it is Pillow's to convert."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(as_bytes(image.info.get("icc_profile")) or b""))
        standard = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, profile, standard, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return converted or image
