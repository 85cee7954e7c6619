"""Segments of JPEG files that Pillow leaves out: extended XMP, IPTC, and what follows the picture."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from . import xmp as packets

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_RESOURCE = b"8BIM"
_IPTC_RESOURCE = 0x0404
_APP1, _APP2, _APP13 = 0xE1, 0xE2, 0xED
_SOS, _EOI, _TEM = 0xDA, 0xD9, 0x01
LARGEST_PACKET = 65502  # of XMP in a segment
_LARGEST_SEGMENT = 65533
_LARGEST_EXTENDED = 1 << 24
_CHUNK = 65000


@dataclass(frozen=True)
class Segments:
    """The segments before the pixels of a JPEG file: markers and contents. scan: where pixels begin."""

    found: tuple[tuple[int, bytes], ...]
    scan: int

    @property
    def has_gain_map(self) -> bool:
        """True if a second picture makes a picture of higher dynamic range of the first."""
        return any(
            content.startswith(_GAIN_MAP) if marker == _APP2 else b"hdr-gain-map" in content
            for marker, content in self.found
            if marker in (_APP1, _APP2)
        )

    def xmp(self) -> tuple[bytes | None, bool]:
        """The packet with what was moved to an extended one, and whether that is all of it."""
        main = next((c[len(_XMP) :] for m, c in self.found if m == _APP1 and c.startswith(_XMP)), None)
        if main is None or (guid := packets.extended_guid(main)) is None:
            return main, True
        extended = self._extended(guid.encode())
        if extended is not None and (whole := packets.merged(main, extended)) is not None:
            return whole, True
        return packets.merged(main, None) or main, False

    def _extended(self, guid: bytes) -> bytes | None:
        """The extended packet of a name, if all of its parts are there."""
        parts, total = {}, 0
        for marker, content in self.found:
            rest = content[len(_EXTENSION) :]
            if marker == _APP1 and content.startswith(_EXTENSION) and rest[:32] == guid and len(rest) > 40:
                total, offset = struct.unpack_from(">II", rest, 32)
                parts[offset] = rest[40:]
        if not 0 < total <= _LARGEST_EXTENDED:
            return None
        whole = b""
        for offset in sorted(parts):
            if offset != len(whole):
                return None
            whole += parts[offset]
        return whole if len(whole) == total else None


def read_segments(data: bytes) -> Segments:
    """What a JPEG file begins with; nothing of what is no JPEG file."""
    found, at = [], 2
    if data[:2] != b"\xff\xd8":
        return Segments((), 0)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (_SOS, _EOI):
            break
        if marker == _TEM or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        found.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + length
    return Segments(tuple(found), at)


def rest_of(data: bytes, segments: Segments) -> bytes:
    """What follows the end of the picture: other pictures, films."""
    at = segments.scan
    while 0 <= at < len(data) - 1:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return b""
        marker = data[at + 1]
        if marker == _EOI:
            return data[at + 2 :]
        if marker in (0x00, 0xFF) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
        elif at + 4 <= len(data):  # a table or a scan
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        else:
            return b""
    return b""


def iptc_of(resources: bytes) -> bytes | None:
    """IPTC-IIM out of Photoshop's image resources."""
    for kind, content in _resources(resources.removeprefix(_PHOTOSHOP)):
        if kind == _IPTC_RESOURCE:
            return content or None
    return None


def resources_of(iptc: bytes) -> bytes:
    """Photoshop's image resources that hold IPTC-IIM."""
    head = _RESOURCE + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc))
    return head + iptc + bytes(len(iptc) % 2)


def with_segments(data: bytes, xmp: bytes | None, iptc: bytes | None) -> bytes | None:
    """A JPEG file with XMP, extended where it must be, and IPTC behind the segments it begins with.

    Returns:
        None if one of them has no room.
    """
    segments: list[tuple[int, bytes]] = []
    if xmp is not None:
        if len(xmp) <= LARGEST_PACKET:
            segments.append((_APP1, _XMP + xmp))
        elif (pair := packets.split(xmp, LARGEST_PACKET)) is not None:
            segments += _extended_segments(*pair)
        else:
            return None
    if iptc is not None:
        content = _PHOTOSHOP + resources_of(iptc)
        if len(content) > _LARGEST_SEGMENT:
            return None
        segments.append((_APP13, content))
    added = b"".join(
        b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content
        for marker, content in segments
    )
    at = _after_leading(data)
    return data[:at] + added + data[at:]


def _extended_segments(packet: bytes, extended: bytes) -> Iterator[tuple[int, bytes]]:
    yield _APP1, _XMP + packet
    guid = (packets.extended_guid(packet) or "").encode()
    for offset in range(0, len(extended), _CHUNK):
        place = struct.pack(">II", len(extended), offset)
        yield _APP1, _EXTENSION + guid + place + extended[offset : offset + _CHUNK]


def _after_leading(data: bytes) -> int:
    """Where JFIF and EXIF, which come first, end."""
    at = 2
    while data[at : at + 1] == b"\xff" and (
        data[at + 1] == 0xE0 or (data[at + 1] == _APP1 and data[at + 4 : at + 10] == b"Exif\0\0")
    ):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def _resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while data[at : at + 4] == _RESOURCE and at + 7 <= len(data):
        (kind,) = struct.unpack_from(">H", data, at + 4)
        at += 6 + 1 + data[at + 6]
        at += at % 2
        if at + 4 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, at)
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length + length % 2
