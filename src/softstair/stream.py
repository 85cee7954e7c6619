"""The .stair format: bytes to a frozen dataclass and back. Knows no network.

docs/format/stream.md is the specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from itertools import accumulate
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
from softstair.tiles import MAX_LAYOUT, ONE_TILE, TileGrid

MAGIC = b"\xa5STR"
VERSION = 1
MAX_SIDE = 65536
MAX_PIXELS = 16384 * 16384  # default limit of a decoder
MAX_METADATA = 64 << 20  # bytes of one metadata block, inflated
Buffer = bytes | bytearray | memoryview
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
    layout: int = ONE_TILE  # of the tiles

    @property
    def grid(self) -> TileGrid:
        """The tiles of the picture."""
        return TileGrid(self.height, self.width, self.layout)


@dataclass(frozen=True)
class Stream:
    """A whole stream. tiles: entropy-coded payloads in raster order.

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

    def __getitem__(self, part: slice, /) -> Buffer: ...


@dataclass(frozen=True)
class Parts:
    """Where the bytes of a stream go."""

    header: int
    tiles: int
    alpha: int
    metadata: int


@dataclass(frozen=True)
class Extras:
    """Alpha and metadata, packed once for streams of many rates. flags: of the header."""

    flags: int
    packed: bytes


def pack_extras(alpha: bytes | None, metadata: Metadata, width: int) -> Extras:
    """Deflate what follows the tiles. alpha: as in ``Stream``, of a picture ``width`` pixels wide."""
    blocks = {
        _Flag.ALPHA: _pack_alpha(alpha, width),
        _Flag.ICC: metadata.icc,
        _Flag.EXIF: metadata.exif,
        _Flag.XMP: metadata.xmp,
    }
    flags, packed = 0, bytearray()
    for flag, content in blocks.items():
        if content is not None:
            deflated = zlib.compress(content, 9)
            packed += _varint(len(deflated)) + deflated + _CRC.pack(zlib.crc32(deflated))
            flags |= flag
    return Extras(flags, bytes(packed))


def join_stream(header: Header, tiles: Sequence[bytes], extras: Extras) -> bytes:
    """Serialise a stream from its parts; tiles in raster order."""
    head = bytearray(MAGIC)
    head += bytes([VERSION, extras.flags])
    head += header.fingerprint
    head += _varint(header.width) + _varint(header.height)
    head += bytes([header.colour, header.mode, header.position])
    head += _varint(header.layout)
    for tile in tiles:
        head += _varint(len(tile))
    head_crc = zlib.crc32(head)
    pieces = [bytes(head)]
    for tile in tiles:
        pieces += [tile, _CRC.pack(zlib.crc32(tile, head_crc))]
    return b"".join([*pieces, extras.packed])


def write_stream(stream: Stream) -> bytes:
    """Serialise a stream."""
    extras = pack_extras(stream.alpha, stream.metadata, stream.header.width)
    return join_stream(stream.header, stream.tiles, extras)


class StreamReader:
    """A stream of which the header and the index were read; tiles are, when they are asked for.

    Raises:
        NotAStairFile: wrong magic.
        UnsupportedStream: unknown version, flag, colour, mode or tile layout.
        TruncatedStream: the data ends inside the header or the index.
        CorruptStream: the header contradicts itself.
        LimitExceeded: more than ``max_pixels`` pixels.
    """

    def __init__(self, data: Buffer, *, max_pixels: int = MAX_PIXELS) -> None:
        self._data = memoryview(data)
        cursor = _Cursor(self._data)
        self.header, self._flags = cursor.header()
        pixels = self.header.width * self.header.height
        if pixels > max_pixels:
            raise LimitExceeded(
                f"The picture has {self.header.width}x{self.header.height} = {pixels} pixels, more than the "
                f"limit of {max_pixels}; raise the limit if you trust the file."
            )
        self.grid = self.header.grid
        count = self.grid.count
        if count > cursor.left:  # an entry has at least a byte
            raise TruncatedStream(
                f"The tile index at byte {cursor.offset} has {count} entries, {cursor.left} bytes are left; "
                "the file is not complete."
            )
        self._lengths = [cursor.varint("tile index") for _ in range(count)]
        self._head_crc = zlib.crc32(self._data[: cursor.offset])
        stored = (length + _CRC.size for length in self._lengths)
        self._offsets = list(accumulate(stored, initial=cursor.offset))

    @property
    def has_alpha(self) -> bool:
        return bool(self._flags & _Flag.ALPHA)

    def tile(self, index: int) -> bytes:
        """The payload of a tile, checked.

        Raises:
            TruncatedStream: the data ends before the tile does.
            CorruptStream: its checksum fails.
        """
        name = f"tile {index}"
        cursor = _Cursor(self._data, self._offsets[index])
        payload = cursor.take(self._lengths[index], name)
        cursor.check(zlib.crc32(payload, self._head_crc), name)
        return payload

    def extras(self) -> tuple[bytes | None, Metadata]:
        """The alpha plane and the metadata, checked, as in ``Stream``.

        Raises:
            StreamError: truncated or corrupt, too large, or something follows it.
        """
        cursor = _Cursor(self._data, self._offsets[-1])
        alpha = self._read_alpha(cursor)
        metadata = self._read_metadata(cursor)
        return None if alpha is None else _unpack_alpha(alpha, self.header.width), metadata

    def parts(self) -> Parts:
        """Where the bytes go; alpha and metadata are checked for it.

        Raises:
            StreamError: truncated or corrupt.
        """
        first, end = self._offsets[0], self._offsets[-1]
        cursor = _Cursor(self._data, end)
        self._read_alpha(cursor)
        alpha_end = cursor.offset
        self._read_metadata(cursor)
        return Parts(first, end - first, alpha_end - end, cursor.offset - alpha_end)

    def _read_alpha(self, cursor: _Cursor) -> bytes | None:
        if not self.has_alpha:
            return None
        samples = self.header.width * self.header.height
        alpha = cursor.block("alpha", samples)
        if len(alpha) != samples:
            raise CorruptStream(f"The alpha plane has {len(alpha)} samples where {samples} were expected.")
        return alpha

    def _read_metadata(self, cursor: _Cursor) -> Metadata:
        metadata = Metadata(
            **{
                name: cursor.block(name.upper(), MAX_METADATA) if self._flags & flag else None
                for name, flag in _METADATA
            }
        )
        if cursor.left:
            raise CorruptStream(f"{cursor.left} bytes follow the end of the stream at byte {cursor.offset}.")
        return metadata


def read_header(data: Buffer) -> Header:
    """The header alone.

    Raises:
        StreamError: one of its children, as for ``StreamReader``.
    """
    return _Cursor(memoryview(data)).header()[0]


def read_summary(source: Source) -> Summary:
    """Header and metadata; payloads and alpha are passed over, unread and unchecked.

    Metadata that is cut off or damaged is left out: it is ``read_stream`` that judges a stream.

    Raises:
        StreamError: one of its children, for the header.
    """
    cursor = _Cursor(source)
    header, flags = cursor.header()
    found: dict[str, bytes] = {}
    with suppress(StreamError):
        lengths = [cursor.varint("tile index") for _ in range(header.grid.count)]
        cursor.skip(sum(lengths) + len(lengths) * _CRC.size)
        if flags & _Flag.ALPHA:
            cursor.skip(cursor.varint("length of alpha") + _CRC.size)
        for name, flag in _METADATA:
            if flags & flag:
                found[name] = cursor.block(name.upper(), MAX_METADATA)
    return Summary(header, bool(flags & _Flag.ALPHA), Metadata(**found))


def read_stream(data: Buffer, *, max_pixels: int = MAX_PIXELS) -> Stream:
    """Parse a stream; every length and checksum is verified.

    Raises:
        StreamError: one of its children, as for the methods of ``StreamReader``.
    """
    reader = StreamReader(data, max_pixels=max_pixels)
    tiles = tuple(reader.tile(index) for index in range(reader.grid.count))
    return Stream(reader.header, tiles, *reader.extras())


def measure_parts(data: Buffer) -> Parts:
    """Bytes by part, for ``info``. Raises what ``read_stream`` raises, but for limits."""
    reader = StreamReader(data, max_pixels=MAX_SIDE * MAX_SIDE)
    for index in range(reader.grid.count):
        reader.tile(index)
    return reader.parts()


class _Cursor:
    """Reads forward and never passes the end."""

    def __init__(self, data: Source, offset: int = 0) -> None:
        self._data = data
        self.offset = offset

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self.offset)

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
        fingerprint = self.take(8, "fingerprint")
        width, height = self.side("width"), self.side("height")
        colour, mode, position = self.take(3, "colour, mode and rate position")
        if colour not in list(Colour):
            raise UnsupportedStream(f"The stream has unknown colour {colour}; update this release.")
        if mode not in list(Mode):
            raise UnsupportedStream(f"The stream has unknown mode {mode}; update this release.")
        layout = self.varint("tile layout")
        if layout > MAX_LAYOUT:
            raise UnsupportedStream(f"The stream has unknown tile layout {layout}; update this release.")
        return Header(fingerprint, width, height, Colour(colour), Mode(mode), position, layout), flags

    def side(self, name: str) -> int:
        value = self.varint(name)
        if value == 0:
            raise CorruptStream(f"The {name} is zero.")
        if value > MAX_SIDE:
            raise LimitExceeded(f"The {name} is {value}, more than the format's limit of {MAX_SIDE}.")
        return value

    def take(self, count: int, name: str) -> bytes:
        if count > self.left:
            raise TruncatedStream(
                f"The {name} at byte {self.offset} needs {count} bytes, {self.left} are left; the file is "
                "not complete."
            )
        piece = bytes(self._data[self.offset : self.offset + count])
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
