"""What belongs to pixels: ICC, EXIF, XMP and IPTC, out of Pillow images and back into them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PIL import ExifTags, Image

from softstair.stream import Metadata

from . import png
from . import xmp as packets
from .exif import PREFIX, bare_exif, of_a_part
from .jpeg import Segments, iptc_of
from .picture import Note

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
_IPTC_TAG, _PHOTOSHOP_TAG, _IPTC_RESOURCE = 33723, 34377, 0x0404
KINDS = frozenset({"exif", "xmp", "icc", "iptc"})


def metadata_of(image: Image.Image) -> tuple[Metadata, tuple[Note, ...]]:
    """Metadata of a loaded image, verbatim where it holds them as bytes, and what is to be said of them."""
    info, notes = image.info, []
    raw = png.raw_profiles(info)
    xmp, is_whole = as_bytes(info.get("xmp")), True
    if xmp is not None and (segments := applied_segments(image)).found:
        merged, is_whole = segments.xmp()
        xmp = merged or xmp
    xmp = xmp or raw.get("xmp") or png.xmp_as_text(info)
    if not is_whole:
        notes.append(
            Note("extended XMP not kept", "Its extended XMP is damaged or too large and is not kept.")
        )
    if xmp is not None and packets.announces_more(xmp):
        xmp = packets.without_announcements(xmp)
        if xmp is None:
            text = "Its XMP tells of other pictures in the file, cannot be mended, and is not kept."
            notes.append(Note("XMP not kept", text))
    metadata = Metadata(
        icc=as_bytes(info.get("icc_profile")) or raw.get("icc"),
        exif=_exif(image),
        xmp=xmp,
        iptc=_iptc(image) or raw.get("iptc"),
    )
    return metadata, tuple(notes)


def applied_segments(image: Image.Image) -> Segments:
    """The segments of an image that Pillow read from a JPEG file."""
    found = getattr(image, "applist", ())
    return Segments(tuple((0xE0 + int(kind[3:]), data) for kind, data in found if kind[:3] == "APP"), 0)


def fitting(metadata: Metadata, *, grey: bool) -> tuple[Metadata, tuple[Note, ...]]:
    """Metadata without a profile that describes another colour space than the pixels'."""
    space = (metadata.icc or b"")[16:20]
    if space not in (_FOREIGN_TO_GREY if grey else _FOREIGN_TO_RGB):
        return metadata, ()
    usual = (
        b"sRGB" in (metadata.icc or b"").replace(b"\0", b"") or space == b"CMYK"
    )  # whose pixels went through it
    text = "Its colour profile is for other colours than its pixels have and is not kept."
    return replace(metadata, icc=None), () if usual else (Note("profile not kept", text),)


def for_a_part(metadata: Metadata, width: int, height: int) -> Metadata:
    """Metadata of a part of a picture, or of a smaller one: no thumbnails of the whole, the new size."""
    exif, xmp = metadata.exif, metadata.xmp
    return replace(
        metadata,
        exif=None if exif is None else of_a_part(exif, width, height),
        xmp=None if xmp is None else packets.without_thumbnails(xmp),
    )


def to_info(metadata: Metadata) -> dict[str, Any]:
    """Metadata as in the ``info`` of a Pillow image."""
    named = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    info: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if metadata.exif is not None:
        info["exif"] = PREFIX + bare_exif(metadata.exif)
    if metadata.iptc is not None:
        info["photoshop"] = {_IPTC_RESOURCE: metadata.iptc}
    return info


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
    """EXIF as ``info`` has it, or as ``getexif()`` has it if that was changed since it was read.

    What was taken out of ``info`` is not there any more, although Pillow still has it parsed.
    """
    read = as_bytes(image.info.get("exif"))
    try:
        if image.format == "TIFF" and read is None:
            # Its info is never empty, so that an empty one was emptied.
            chosen = as_bytes(_telling(image.getexif())) if image.info else None
        else:
            changed = _changed(image)
            chosen = as_bytes(changed) if changed is not None else read
            if chosen is None and changed is None:
                chosen = png.raw_profiles(image.info).get("exif")
    except Exception:  # garbage that Pillow cannot parse is kept as it is
        chosen = read
    return None if chosen is None else bare_exif(chosen) or None


def _changed(image: Image.Image) -> Image.Exif | None:
    """What ``getexif()`` holds if someone changed it since Pillow parsed it."""
    parsed = image._exif
    if parsed is None or not parsed._loaded:
        return None
    before = Image.Exif()
    if parsed._loaded_exif:
        before.load(parsed._loaded_exif)
    if ExifTags.Base.Orientation not in before and _is_not_own(image, parsed):
        before[ExifTags.Base.Orientation] = parsed.get(ExifTags.Base.Orientation)
    return None if as_bytes(parsed) == as_bytes(before) else parsed


def _is_not_own(image: Image.Image, parsed: Image.Exif) -> bool:
    """True if an orientation may be one that Pillow took from XMP, which may be gone by now."""
    if parsed._loaded_exif and "exif" not in image.info:
        return ExifTags.Base.Orientation in parsed
    untouched: dict[str, Any] = {
        key: image.info[key] for key in ("xmp", "XML:com.adobe.xmp") if key in image.info
    }
    found = _with_info(untouched).getexif().get(ExifTags.Base.Orientation)
    return found is not None and found == parsed.get(ExifTags.Base.Orientation)


def _iptc(image: Image.Image) -> bytes | None:
    """IPTC-IIM of an image from JPEG, TIFF or a .stair file."""
    resources = image.info.get("photoshop")
    if isinstance(resources, dict):
        found = resources.get(_IPTC_RESOURCE)
        return found if isinstance(found, bytes) and found else None
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" and image.info else None
    for tag in (_IPTC_TAG, _PHOTOSHOP_TAG) if tags else ():
        content = _tag_bytes(tags, tag)
        if content and tag == _PHOTOSHOP_TAG:
            content = iptc_of(content)
        if content:
            return content.rstrip(b"\0") if content.startswith(b"\x1c") else content
    return None


def _tag_bytes(tags: Any, tag: int) -> bytes | None:
    """A tag as bytes; writers also put bytes into longs."""
    value = tags.get(tag)
    if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        order = "little" if tags.prefix == b"II" else "big"
        return b"".join((item & 0xFFFFFFFF).to_bytes(4, order) for item in value)
    if isinstance(value, tuple) and value and isinstance(value[0], bytes):
        value = value[0]
    return value if isinstance(value, bytes) else None


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
