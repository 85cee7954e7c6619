"""Metadata that Pillow leaves in files: in the boxes of JPEG 2000, in the resources of Photoshop."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import fields, replace

from PIL import Image

from softstair.stream import Metadata

from .exif import bare_exif

_HEAD, _COLOUR, _UUID = b"jp2h", b"colr", b"uuid"
_ICC_METHODS = (2, 3)  # restricted and any
_KINDS = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    b"JpgTiffExif->JP2": "exif",
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "iptc",
}
_RESOURCES = {1028: "iptc", 1039: "icc", 1058: "exif", 1060: "xmp"}


def with_boxes(metadata: Metadata, image: Image.Image, data: bytes) -> Metadata:
    """Metadata with what a file holds of it beside that."""
    if image.format == "JPEG2000":
        found = _of_jpeg_2000(data)
    elif image.format == "PSD":
        found = {_RESOURCES[code]: content for code, _, content in image.resources if code in _RESOURCES}  # type: ignore[attr-defined]
    else:
        return metadata
    if "exif" in found:
        found["exif"] = bare_exif(found["exif"])
    missing = {field.name for field in fields(metadata) if getattr(metadata, field.name) is None}
    return replace(metadata, **{name: found[name] for name in missing & found.keys() if found[name]})


def _of_jpeg_2000(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for kind, content in _boxes(data):
        if kind == _UUID and content[:16] in _KINDS:
            found.setdefault(_KINDS[content[:16]], content[16:])
        if kind == _HEAD:
            for inner, colour in _boxes(content):
                if inner == _COLOUR and len(colour) > 3 and colour[0] in _ICC_METHODS:
                    found.setdefault("icc", colour[3:])
    return found


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if length == 0:
            length = len(data) - at
        if length < head:
            return
        yield kind, data[at + head : at + length]
        at += length
