"""What is said of a picture's files, in names and values."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from softstair.pictures import Picture
from softstair.stream import MAX_SIDE, NO_BUNDLE, StreamReader, measure_parts

Facts = tuple[tuple[str, str], ...]


def facts_of_photo(picture: Picture, data: bytes) -> Facts:
    """Of a photograph that could be opened."""
    with Image.open(BytesIO(data)) as image:
        kind = image.format or "picture"
    return (("Original", f"{kind}, {_whole(len(data))} bytes"), *_extras(picture))


def facts_of_stair(data: bytes, picture: Picture) -> Facts:
    """Of a .stair file that could be opened."""
    reader = StreamReader(data, max_pixels=MAX_SIDE * MAX_SIDE)
    parts = measure_parts(reader)
    return (
        (".stair file", f"{_whole(len(data))} bytes"),
        *_learned(reader),
        ("Pixels", f"{_whole(parts.tiles)} bytes"),
        *((("Transparency", f"{_whole(parts.alpha)} bytes"),) if parts.alpha else ()),
        *((("Metadata", f"{_whole(parts.metadata)} bytes"),) if parts.metadata else ()),
        *_extras(picture),
    )


def _learned(reader: StreamReader) -> Facts:
    header = reader.header
    if header.fingerprint == NO_BUNDLE:
        return (("Exact", "every pixel"),)
    return (
        ("Rate position", str(reader.shown_position)),
        ("Mode", str(header.mode)),
        *((("Layers", f"{reader.layers} of {header.layers}"),) if header.layers > 1 else ()),
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
