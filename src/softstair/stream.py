"""The .stair format: bytes to a frozen dataclass and back. Knows no network.

docs/format/stream.md is the specification.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Protocol

import numpy as np

from softstair.errors import (
    CorruptStream,
    LimitExceeded,
    NotAStairFile,
    StreamError,
    TruncatedStream,
    UnsupportedStream,
)

MAGIC = b"\xa5STR"
VERSION = 1
MAX_SIDE = 65536
MAX_PIXELS = 8192 * 8192  # default limit of a decoder
MAX_METADATA = 64 << 20  # bytes of one metadata block, inflated
_CRC = struct.Struct("<I")


class Colour(IntEnum):
    """Colour of the decoded picture."""

    RGB = 0
    GREY = 1


class Mode(IntEnum):
    """How symbols were chosen and are coded."""

    SCALAR = 0
    RDOQ = 1
    TCQ4 = 2
    TCQ8 = 3
    TCQ16 = 4
    TCQ32 = 5


class _Flag(IntFlag):
    ALPHA = 1
    ICC = 2
    EXIF = 4
    XMP = 8


_METADATA = (("icc", _Flag.ICC), ("exif", _Flag.EXIF), ("xmp", _Flag.XMP))


@dataclass(frozen=True)
class Metadata:
    """What a picture carries beside its pixels, verbatim."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None


@dataclass(frozen=True)
class Header:
    """Everything a reader needs to know before it decodes."""

    fingerprint: bytes
    width: int
    height: int
    colour: Colour
    mode: Mode
    position: int  # rate position


@dataclass(frozen=True)
class Stream:
    """A whole stream. tiles: entropy-coded payloads in raster order; now always one.

    alpha: uint8 plane, height * width bytes, row by row.
    """

    header: Header
    tiles: tuple[bytes, ...]
    alpha: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)


@dataclass(frozen=True)
class Summary:
    """What a stream says without its pixels."""

    header: Header
    has_alpha: bool
    metadata: Metadata


class Source(Protocol):
    """Bytes, or what can be cut like them."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Parts:
    """Where the bytes of a stream go."""

    header: int
    tiles: int
    alpha: int
    metadata: int


def write_stream(stream: Stream) -> bytes:
    """Serialise a stream."""
    header, metadata = stream.header, stream.metadata
    blocks = [
        (_Flag.ALPHA, _pack_alpha(stream.alpha, header.width)),
        (_Flag.ICC, metadata.icc),
        (_Flag.EXIF, metadata.exif),
        (_Flag.XMP, metadata.xmp),
    ]
    flags = sum(flag for flag, content in blocks if content is not None)
    head = bytearray(MAGIC)
    head += bytes([VERSION, flags])
    head += header.fingerprint
    head += _varint(header.width) + _varint(header.height)
    head += bytes([header.colour, header.mode, header.position])
    head += _varint(0)  # tile layout: one tile
    for tile in stream.tiles:
        head += _varint(len(tile))
    out = bytearray(head)
    head_crc = zlib.crc32(head)
    for tile in stream.tiles:
        out += tile + _CRC.pack(zlib.crc32(tile, head_crc))
    for _, content in blocks:
        if content is not None:
            deflated = zlib.compress(content, 9)
            out += _varint(len(deflated)) + deflated + _CRC.pack(zlib.crc32(deflated))
    return bytes(out)


def read_header(data: bytes) -> Header:
    """The header alone.

    Raises:
        StreamError: one of its children, as for ``read_stream``.
    """
    return _Reader(data).header()[0]


def read_summary(source: Source) -> Summary:
    """Header and metadata; payloads and alpha are passed over, unread and unchecked.

    Metadata that is cut off or damaged is left out: it is ``read_stream`` that judges a stream.

    Raises:
        StreamError: one of its children, for the header.
    """
    reader = _Reader(source)
    header, flags = reader.header()
    _check_layout(reader)
    found: dict[str, bytes] = {}
    with suppress(StreamError):
        reader.skip(reader.varint("tile index") + _CRC.size)
        if flags & _Flag.ALPHA:
            reader.skip(reader.varint("length of alpha") + _CRC.size)
        for name, flag in _METADATA:
            if flags & flag:
                found[name] = reader.block(name.upper(), MAX_METADATA)
    return Summary(header, bool(flags & _Flag.ALPHA), Metadata(**found))


def read_stream(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Stream:
    """Parse a stream; every length and checksum is verified.

    Raises:
        NotAStairFile: wrong magic.
        UnsupportedStream: unknown version, flag, colour, mode or tile layout.
        TruncatedStream: the data ends early.
        CorruptStream: a checksum fails, or the content contradicts itself.
        LimitExceeded: more than ``max_pixels`` pixels.
    """
    return _parse(data, max_pixels)[0]


def measure_parts(data: bytes) -> Parts:
    """Bytes by part, for ``info``. Raises what ``read_stream`` raises, but for limits."""
    return _parse(data, MAX_SIDE * MAX_SIDE)[1]


def _parse(data: bytes, max_pixels: int) -> tuple[Stream, Parts]:
    reader = _Reader(data)
    header, flags = reader.header()
    pixels = header.width * header.height
    if pixels > max_pixels:
        raise LimitExceeded(
            f"The picture has {header.width}x{header.height} = {pixels} pixels, more than the limit of "
            f"{max_pixels}; raise the limit if you trust the file."
        )
    _check_layout(reader)
    length = reader.varint("tile index")
    head_crc = zlib.crc32(data[: reader.offset])
    header_bytes = reader.offset
    tile = reader.take(length, "tile 0")
    reader.check(zlib.crc32(tile, head_crc), "tile 0")
    tile_end = reader.offset
    alpha = reader.block("alpha", pixels) if flags & _Flag.ALPHA else None
    if alpha is not None and len(alpha) != pixels:
        raise CorruptStream(f"The alpha plane has {len(alpha)} samples where {pixels} were expected.")
    alpha_end = reader.offset
    metadata = Metadata(
        **{
            name: reader.block(name.upper(), MAX_METADATA) if flags & flag else None
            for name, flag in _METADATA
        }
    )
    if reader.offset != len(data):
        raise CorruptStream(
            f"{len(data) - reader.offset} bytes follow the end of the stream at byte {reader.offset}."
        )
    plane = None if alpha is None else _unpack_alpha(alpha, header.width)
    parts = Parts(header_bytes, tile_end - header_bytes, alpha_end - tile_end, reader.offset - alpha_end)
    return Stream(header, (tile,), plane, metadata), parts


def _check_layout(reader: _Reader) -> None:
    if reader.varint("tile layout") != 0:
        raise UnsupportedStream("The stream is cut into tiles, which this release cannot read; update it.")


class _Reader:
    """A cursor that never passes the end."""

    def __init__(self, data: Source) -> None:
        self._data = data
        self.offset = 0

    def header(self) -> tuple[Header, int]:
        start = bytes(self._data[: len(MAGIC)])
        if start != MAGIC[: len(start)] or not start:
            raise NotAStairFile(
                f"The data does not start like a .stair file: expected {MAGIC.hex()}, found "
                f"{start.hex() or 'nothing'}."
            )
        self.take(len(MAGIC), "magic")
        version, flags = self.take(2, "version and flags")
        if version != VERSION:
            raise UnsupportedStream(
                f"The stream has version {version}, this release reads version {VERSION}; update it."
            )
        if flags & ~sum(_Flag):
            raise UnsupportedStream(f"The stream has unknown flags {flags:#04x}; update this release.")
        fingerprint = bytes(self.take(8, "fingerprint"))
        width, height = self.side("width"), self.side("height")
        colour, mode, position = self.take(3, "colour, mode and rate position")
        if colour not in list(Colour):
            raise UnsupportedStream(f"The stream has unknown colour {colour}; update this release.")
        if mode not in list(Mode):
            raise UnsupportedStream(f"The stream has unknown mode {mode}; update this release.")
        return Header(fingerprint, width, height, Colour(colour), Mode(mode), position), flags

    def side(self, name: str) -> int:
        value = self.varint(name)
        if value == 0:
            raise CorruptStream(f"The {name} is zero.")
        if value > MAX_SIDE:
            raise LimitExceeded(f"The {name} is {value}, more than the format's limit of {MAX_SIDE}.")
        return value

    def take(self, count: int, name: str) -> bytes:
        left = len(self._data) - self.offset
        if count > left:
            raise TruncatedStream(
                f"The {name} at byte {self.offset} needs {count} bytes, {left} are left; the file is "
                "not complete."
            )
        piece = self._data[self.offset : self.offset + count]
        self.offset += count
        return piece

    def skip(self, count: int) -> None:
        """Pass over bytes; what is read beyond the end is found missing then."""
        self.offset += count

    def varint(self, name: str) -> int:
        """An unsigned LEB128 of at most five bytes."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1, name)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise CorruptStream(f"The {name} before byte {self.offset} is longer than a number may be.")

    def check(self, found: int, name: str) -> None:
        (expected,) = _CRC.unpack(self.take(_CRC.size, f"checksum of {name}"))
        if expected != found:
            raise CorruptStream(
                f"The checksum of {name} is {found:08x} where {expected:08x} was expected; the file is "
                "damaged."
            )

    def block(self, name: str, limit: int) -> bytes:
        """A deflated block with its length and checksum; inflated to ``limit`` bytes at most."""
        deflated = self.take(self.varint(f"length of {name}"), name)
        self.check(zlib.crc32(deflated), name)
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(deflated, limit + 1)
        except zlib.error as error:
            raise CorruptStream(f"The {name} cannot be inflated: {error}.") from error
        if len(content) > limit:
            raise LimitExceeded(f"The {name} inflates to more than {limit} bytes.")
        if not inflater.eof or inflater.unused_data:
            raise CorruptStream(f"The {name} is not one whole deflated block.")
        return content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _pack_alpha(alpha: bytes | None, width: int) -> bytes | None:
    """Differences to the row above, modulo 256: what deflates well."""
    if alpha is None:
        return None
    rows = np.frombuffer(alpha, np.uint8).reshape(-1, width)
    return np.diff(rows, axis=0, prepend=np.zeros((1, width), np.uint8)).tobytes()


def _unpack_alpha(differences: bytes, width: int) -> bytes:
    rows = np.frombuffer(differences, np.uint8).reshape(-1, width)
    return np.cumsum(rows, axis=0, dtype=np.uint8).tobytes()
