"""What belongs to pixels: ICC, EXIF and XMP, out of Pillow images and back into them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PIL import ExifTags, Image

from softstair.stream import Metadata

# JPEG, and so Pillow, puts this before EXIF; a stream, like PNG and WebP, holds what follows it.
_EXIF_PREFIX = b"Exif\0\0"
# Where Pillow's getexif() looks: XMP can hold an orientation.
_EXIF_SOURCES = ("exif", "xmp", "XML:com.adobe.xmp")
# Colour spaces of ICC profiles that would be wrong beside pixels of another one.
_FOREIGN_TO_GREY = {b"RGB ", b"CMYK", b"Lab "}
_FOREIGN_TO_RGB = {b"GRAY", b"CMYK", b"Lab "}
# Tags of a TIFF that tell of the picture and not of the TIFF. Pillow has turned the pixels already.
_TELLING = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
}
_TELLING_IFDS = {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}


def metadata_of(image: Image.Image) -> Metadata:
    """ICC, EXIF and XMP of a loaded image, verbatim where it holds them as bytes."""
    info = image.info
    return Metadata(as_bytes(info.get("icc_profile")), _exif(image), as_bytes(info.get("xmp")))


def fitting(metadata: Metadata, *, grey: bool) -> Metadata:
    """Metadata without a profile that describes another colour space than the pixels'."""
    space = (metadata.icc or b"")[16:20]
    if space in (_FOREIGN_TO_GREY if grey else _FOREIGN_TO_RGB):
        return replace(metadata, icc=None)
    return metadata


def to_info(metadata: Metadata) -> dict[str, bytes]:
    """Metadata as in the ``info`` of a Pillow image, which is also what its writers take."""
    named = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    info = {key: value for key, value in named.items() if value is not None}
    if "exif" in info:
        info["exif"] = _EXIF_PREFIX + bare_exif(info["exif"])
    return info


def bare_exif(exif: bytes) -> bytes:
    """EXIF from its TIFF header on; writers are known that put the prefix twice."""
    return exif.removeprefix(_EXIF_PREFIX).removeprefix(_EXIF_PREFIX)


def orientation(metadata: Metadata) -> int:
    """How a viewer turns the pixels: 1 to 8 as EXIF counts, from EXIF or else from XMP."""
    try:
        value = _with_info(to_info(metadata)).getexif().get(ExifTags.Base.Orientation)
    except Exception:  # what Pillow's parser raises on garbage is not one class
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def as_bytes(value: Any) -> bytes | None:
    """What Pillow takes as bytes, text or an ``Exif``; None for nothing."""
    if isinstance(value, Image.Exif):
        value = value.tobytes() if value else None
    if isinstance(value, str):
        value = value.encode()
    return bytes(value) if value else None


def _exif(image: Image.Image) -> bytes | None:
    """EXIF as it was read, or as ``getexif()`` has it if that was changed since."""
    read = as_bytes(image.info.get("exif"))
    untouched = {key: image.info[key] for key in _EXIF_SOURCES if key in image.info}
    try:
        exif = image.getexif()
        if image.format == "TIFF" and read is None:
            exif = _telling(exif)
        now, then = as_bytes(exif), as_bytes(_with_info(untouched).getexif())
    except Exception:  # garbage that Pillow cannot parse is kept as it is
        now = then = None
    chosen = read if now == then else now
    return None if chosen is None else bare_exif(chosen)


def _telling(exif: Image.Exif) -> Image.Exif:
    telling = Image.Exif()
    for tag in _TELLING.intersection(exif):
        telling[tag] = exif[tag]
    for ifd in _TELLING_IFDS.intersection(exif):
        telling[ifd] = exif.get_ifd(ifd)
    return telling


def _with_info(info: dict[str, Any]) -> Image.Image:
    image = Image.new("1", (1, 1))
    image.info.update(info)
    return image
