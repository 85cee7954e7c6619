"""What is said of a picture's files, in names and values."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from softstair.pictures import Picture
from softstair.stream import NO_BUNDLE, Header, measure_parts, read_header

Facts = tuple[tuple[str, str], ...]


def facts_of_photo(picture: Picture, data: bytes) -> Facts:
    """Of a photograph that could be opened."""
    with Image.open(BytesIO(data)) as image:
        kind = image.format or "picture"
    return (("Original", f"{kind}, {_whole(len(data))} bytes"), *_extras(picture))


def facts_of_stair(data: bytes, picture: Picture) -> Facts:
    """Of a .stair file that could be opened."""
    header, parts = read_header(data), measure_parts(data)
    return (
        (".stair file", f"{_whole(len(data))} bytes"),
        *_learned(header),
        ("Pixels", f"{_whole(parts.tiles)} bytes"),
        *((("Transparency", f"{_whole(parts.alpha)} bytes"),) if parts.alpha else ()),
        *((("Metadata", f"{_whole(parts.metadata)} bytes"),) if parts.metadata else ()),
        *_extras(picture),
    )


def _learned(header: Header) -> Facts:
    if header.fingerprint == NO_BUNDLE:
        return (("Exact", "every pixel"),)
    return (
        ("Rate position", str(header.position)),
        ("Mode", str(header.mode)),
        ("Bundle", header.fingerprint.hex()),
        *(() if header.pack is None else (("Pack", header.pack.hex()),)),
    )


def _extras(picture: Picture) -> Facts:
    metadata = picture.metadata
    kept = {"ICC": metadata.icc, "EXIF": metadata.exif, "XMP": metadata.xmp}
    names = [name for name, value in kept.items() if value is not None]
    if picture.is_grey:
        names.insert(0, "grey")
    if picture.alpha is not None:
        names.insert(0, "transparency")
    return (("With", ", ".join(names)),) if names else ()


def _whole(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")
