"""EXIF as bytes: changed in place, so that what no parser understands (maker notes) stays right."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

# JPEG, and so Pillow, puts this before EXIF; a stream, like PNG and WebP, holds what follows it.
PREFIX = b"Exif\0\0"
_EXIF_IFD = 0x8769
_WIDTH, _HEIGHT = 0xA002, 0xA003
_JPEG, _JPEG_LENGTH, _STRIPS, _STRIP_LENGTHS = 0x0201, 0x0202, 0x0111, 0x0117
_SHORT, _LONG = 3, 4
_MOST_ENTRIES = 1024


@dataclass(frozen=True)
class _Entry:
    """An entry of an IFD. at: where it begins."""

    tag: int
    kind: int
    count: int
    at: int


def bare_exif(exif: bytes) -> bytes:
    """EXIF from its TIFF header on; writers are known that put the prefix twice."""
    return exif.removeprefix(PREFIX).removeprefix(PREFIX)


def of_a_part(exif: bytes, width: int, height: int) -> bytes:
    """EXIF for a part of its picture, or for a smaller one: without the thumbnail, with the new size."""
    tiff = _Tiff(exif)
    tiff.drop_thumbnail()
    for entry in tiff.entries(tiff.first):
        if entry.tag == _EXIF_IFD:
            for inner in tiff.entries(tiff.number(entry) or 0):
                if inner.tag in (_WIDTH, _HEIGHT):
                    tiff.set_number(inner, width if inner.tag == _WIDTH else height)
    return bytes(tiff.data)


class _Tiff:
    """The TIFF structure of EXIF. first: where its first IFD is; 0 if there is no structure."""

    def __init__(self, exif: bytes) -> None:
        self.data = bytearray(exif)
        self._order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]), "")
        self.first = self._u32(4) if self._order and len(exif) >= 8 else 0

    def entries(self, at: int) -> Iterator[_Entry]:
        """What there is of the IFD at a place; nothing for place 0."""
        if not 8 <= at <= len(self.data) - 2:
            return
        for number in range(min(self._u16(at), _MOST_ENTRIES)):
            place = at + 2 + 12 * number
            if place + 12 > len(self.data):
                return
            yield _Entry(self._u16(place), self._u16(place + 2), self._u32(place + 4), place)

    def number(self, entry: _Entry) -> int | None:
        """Its one value, if it is a short or a long."""
        if entry.count != 1:
            return None
        return {_SHORT: self._u16, _LONG: self._u32}.get(entry.kind, lambda _: None)(entry.at + 8)

    def set_number(self, entry: _Entry, value: int) -> None:
        if entry.count == 1 and entry.kind == _SHORT:
            struct.pack_into(f"{self._order}HH", self.data, entry.at + 8, min(value, 65535), 0)
        elif entry.count == 1 and entry.kind == _LONG:
            struct.pack_into(f"{self._order}I", self.data, entry.at + 8, value)

    def drop_thumbnail(self) -> None:
        """Unlink the second IFD, and clear it and the picture that it points to."""
        link = self.first + 2 + 12 * self._u16(self.first) if 8 <= self.first <= len(self.data) - 2 else 0
        if not link or link + 4 > len(self.data) or not (second := self._u32(link)):
            return
        entries = list(self.entries(second))
        struct.pack_into(f"{self._order}I", self.data, link, 0)
        places = {entry.tag: self.number(entry) for entry in entries}
        for start, length in ((_JPEG, _JPEG_LENGTH), (_STRIPS, _STRIP_LENGTHS)):
            self._clear(places.get(start) or 0, places.get(length) or 0)
        self._clear(second, 2 + 12 * len(entries) + 4)

    def _clear(self, start: int, length: int) -> None:
        """Zeros, or nothing where it is the end."""
        end = min(start + length, len(self.data))
        if start < 8 or end <= start:
            return
        if end == len(self.data):
            del self.data[start:]
        else:
            self.data[start:end] = bytes(end - start)

    def _u16(self, at: int) -> int:
        return int(struct.unpack_from(f"{self._order}H", self.data, at)[0])

    def _u32(self, at: int) -> int:
        return int(struct.unpack_from(f"{self._order}I", self.data, at)[0])
