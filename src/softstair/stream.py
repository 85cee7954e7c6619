"""The .stair format: bytes to a frozen dataclass and back. Knows no network.

Written is version 2; version 1 is read as well. docs/format/stream.md is the specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from softstair._core import MOST_SMOOTHING
from softstair.errors import (
    CorruptStream,
    LimitExceeded,
    NotAStairFile,
    StreamError,
    TruncatedStream,
    UnsupportedStream,
)
from softstair.exact import MAX_SIDE as MAX_EXACT_SIDE
from softstair.exact import pack_samples, unpack_samples
from softstair.mode import BY_WIRE, POSITIONS_PER_LAYER, Mode
from softstair.tiles import MAX_LAYOUT, ONE_TILE, TileGrid

MAGIC = b"\xa5STR"
VERSION = 2  # that is written
NO_BUNDLE = bytes(8)  # fingerprint of a stream without learned tiles
MAX_SIDE = 65536
MAX_PIXELS = 16384 * 16384  # default limit of a decoder
MAX_METADATA = 16 << 20  # bytes of all metadata of a stream, inflated
_DEFLATED_MOST = 1032  # bytes that one of a deflated block can stand for
_NEVER = 1 << 62  # an offset beyond all files
Buffer = bytes | bytearray | memoryview
_CRC = struct.Struct("<I")


class Colour(IntEnum):
    """Colour of the decoded picture."""

    RGB = 0
    GREY = 1


class _Flag(IntFlag):
    ALPHA = 1
    METADATA = 2
    EXACT_TILES = 4
    PACK = 8
    PROGRESSIVE = 16
    EXACT_ALPHA = 32
    REDUCED = 64
    SMOOTHED = 128


_READ = sum(_Flag)  # an int: ~ of flags keeps to them
_LAYERED = 6  # number of a mode: rdoq, in layers
MOST_LAYERS = 4
_FLAGS_OF_1 = 0x0F  # alpha, and one for each of the first kinds of metadata
_KINDS = ("icc", "exif", "xmp", "iptc")  # of metadata, by their number
_SMALL = "small"  # a small picture, whose kind is behind theirs


@dataclass(frozen=True)
class Metadata:
    """What a picture carries beside its pixels, verbatim. iptc: the IIM records."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None


@dataclass(frozen=True)
class Header:
    """Everything a reader needs to know before it decodes.

    fingerprint: of the bundle. pack: of the pack that changed it, if one did. layers: how many the file was
    made with; the rate position is that of the first. smoothing: of what is learned, in grey levels; 0: none.
    """

    fingerprint: bytes
    width: int
    height: int
    colour: Colour
    mode: Mode
    position: int  # rate position
    layout: int = ONE_TILE  # of the tiles
    pack: bytes | None = None
    layers: int = 1
    smoothing: int = 0

    @property
    def needs(self) -> bytes:
        """The fingerprint of what decodes it: the pack's, whose sums are in it, or the bundle's."""
        return self.pack or self.fingerprint

    @property
    def grid(self) -> TileGrid:
        """The tiles of the picture."""
        return TileGrid(self.height, self.width, self.layout)


@dataclass(frozen=True)
class Stream:
    """A whole stream. tiles: payloads in raster order.

    alpha: uint8 plane, height * width bytes, row by row. exact: of which tiles the payload is an exact one.
    cuts: in progressive order, how many bytes of each payload are its first part; those of all tiles come
    before what is left of any. is_reduced: exact payloads are of the picture in fewer colours. layer_ends: in
    layers, where each ends in every payload; payloads of a file that was cut lack the last ones. small: a
    stream of the picture at 1/32.
    """

    header: Header
    tiles: tuple[bytes, ...]
    alpha: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    exact: frozenset[int] = frozenset()
    cuts: tuple[int, ...] | None = None
    is_reduced: bool = False
    layer_ends: tuple[tuple[int, ...], ...] | None = None
    small: bytes | None = None


@dataclass(frozen=True)
class Summary:
    """What a stream says without its pixels. packed: metadata by name, deflated, beside the small picture."""

    header: Header
    has_alpha: bool
    packed: tuple[tuple[str, bytes], ...]

    @cached_property
    def metadata(self) -> Metadata:
        """Inflated when it is asked for; what is damaged or too large is left out."""
        found: dict[str, bytes] = {}
        with suppress(StreamError):
            for name, content in _inflated(self.packed):
                found[name] = content
        return Metadata(**found)


class Source(Protocol):
    """Bytes, or what can be cut like them."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Buffer: ...


@dataclass(frozen=True)
class Parts:
    """Where the bytes of a stream go. layers: of a file in layers, those of each; part of the tiles.

    small: the small picture; not part of the metadata.
    """

    header: int
    tiles: int
    alpha: int
    metadata: int
    layers: tuple[int, ...] = ()
    small: int = 0


@dataclass(frozen=True)
class Extras:
    """Alpha and metadata, packed once for streams of many rates. flags: of the header."""

    flags: int
    packed: bytes


@dataclass(frozen=True)
class ExactPayload:
    """What a tile holds that is coded exactly.

    learned: the payload of the pixels that are not, or nothing if all are. image: VP8L; alpha is 0
    where the learned pixels show.
    """

    learned: bytes
    image: bytes

    def pack(self) -> bytes:
        """Its bytes in the stream."""
        return _varint(len(self.learned)) + self.learned + self.image


def read_exact_payload(payload: bytes, index: int) -> ExactPayload:
    """The parts of the exact payload of a tile.

    Raises:
        CorruptStream: the learned part is longer than the payload.
    """
    cursor, name = _Cursor(payload), f"learned part of tile {index}"
    try:
        return ExactPayload(cursor.take(cursor.varint(name), name), payload[cursor.offset :])
    except TruncatedStream as error:
        raise CorruptStream(f"The {name} is longer than its payload of {len(payload)} bytes.") from error


def pack_extras(
    alpha: bytes | None, metadata: Metadata, grid: TileGrid, small: bytes | None = None
) -> Extras:
    """Compress what follows the tiles. alpha, small: as in ``Stream``. grid: the tiles of the picture.

    Raises:
        LimitExceeded: more metadata than a reader takes.
    """
    flags, packed = 0, bytearray()
    if alpha is not None:
        flags |= _Flag.ALPHA
        deflated, exact = _deflated_block(_differences(alpha, grid.width)), _exact_alpha(alpha, grid)
        if exact is not None and len(exact) < len(deflated):
            flags |= _Flag.EXACT_ALPHA
        packed += exact if exact is not None and flags & _Flag.EXACT_ALPHA else deflated
    found, content = _pack_metadata(metadata, small)
    return Extras(flags | found, bytes(packed) + content)


def _pack_metadata(metadata: Metadata, small: bytes | None) -> tuple[int, bytes]:
    """The flag, if there is any or a small picture, and the bytes."""
    kept = [(kind, getattr(metadata, name)) for kind, name in enumerate(_KINDS)]
    kept = [(kind, content) for kind, content in kept if content is not None]
    if (total := sum(len(content) for _, content in kept)) > MAX_METADATA:
        raise LimitExceeded(
            f"The metadata has {total} bytes, more than the {MAX_METADATA} that a .stair file holds; leave "
            "some of it out with --strip."
        )
    blocks = [bytes([kind]) + _deflated_block(content, bytes([kind])) for kind, content in kept]
    if small is not None:
        kind = bytes([len(_KINDS)])
        blocks.append(kind + _checked_block(small, kind))
    if not blocks:
        return 0, b""
    return int(_Flag.METADATA), _varint(len(blocks)) + b"".join(blocks)


def join_stream(
    header: Header,
    tiles: Sequence[bytes],
    extras: Extras,
    exact: frozenset[int] = frozenset(),
    cuts: Sequence[int] | None = None,
    *,
    is_reduced: bool = False,
    layer_ends: Sequence[tuple[int, ...]] | None = None,
) -> bytes:
    """Serialise a stream from its parts; tiles in raster order, the rest as in ``Stream``."""
    head = bytearray(MAGIC)
    flags = extras.flags | (_Flag.EXACT_TILES if exact else 0) | (_Flag.PACK if header.pack else 0)
    flags |= (_Flag.PROGRESSIVE if cuts is not None else 0) | (_Flag.REDUCED if is_reduced else 0)
    flags |= _Flag.SMOOTHED if header.smoothing else 0
    head += bytes([VERSION]) + _varint(flags)
    head += header.fingerprint + (header.pack or b"")
    head += _varint(header.width) + _varint(header.height)
    head += bytes([header.colour, header.mode.wire if layer_ends is None else _LAYERED, header.position])
    head += b"" if layer_ends is None else bytes([header.layers])
    head += bytes([header.smoothing]) if header.smoothing else b""
    head += _varint(header.layout)
    if layer_ends is not None:
        ends = [(0, *of_tile) for of_tile in layer_ends]
    elif cuts is not None:
        ends = [(0, cut, len(tile)) for tile, cut in zip(tiles, cuts, strict=True)]
    else:
        ends = [(0, len(tile)) for tile in tiles]
    for of_tile in ends:
        head += b"".join(_varint(end - start) for start, end in pairwise(of_tile))
    if exact:
        head += sum(1 << index for index in exact).to_bytes(-(-len(tiles) // 8), "little")
    head_crc = zlib.crc32(head)
    pieces = [bytes(head)]
    for part in range(max(map(len, ends), default=1) - 1):
        for tile, of_tile in zip(tiles, ends, strict=True):
            start, end = of_tile[part : part + 2]
            if len(tile) >= end:
                pieces += [tile[start:end], _CRC.pack(zlib.crc32(tile[start:end], head_crc))]
        if layer_ends is not None and part == 0:
            pieces.append(extras.packed)
    return b"".join(pieces if layer_ends is not None else [*pieces, extras.packed])


def write_stream(stream: Stream) -> bytes:
    """Serialise a stream."""
    extras = pack_extras(stream.alpha, stream.metadata, stream.header.grid, stream.small)
    return join_stream(
        stream.header,
        stream.tiles,
        extras,
        stream.exact,
        stream.cuts,
        is_reduced=stream.is_reduced,
        layer_ends=stream.layer_ends,
    )


def with_metadata(data: Buffer, metadata: Metadata, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """The same stream with other metadata: payloads, alpha and the small picture stay as they are.

    Raises:
        StreamError: one of its children, as for ``read_stream``, or more metadata than a reader takes.
    """
    reader = StreamReader(data, max_pixels=max_pixels)
    tiles = [reader.tile(index) for index in range(reader.grid.count)]
    _, old = reader.extras()
    if metadata == old:
        return bytes(data)
    flags, packed = _pack_metadata(metadata, reader.beside()[1])
    flags |= _Flag.ALPHA if reader.has_alpha else 0
    flags |= _Flag.EXACT_ALPHA if reader.has_exact_alpha else 0
    parts = reader.parts()
    start = reader.extras_start
    alpha = bytes(data[start : start + parts.alpha])
    extras = Extras(flags, alpha + packed)
    return join_stream(
        reader.header,
        tiles,
        extras,
        reader.exact,
        reader.cuts,
        is_reduced=reader.is_reduced,
        layer_ends=reader.layer_ends,
    )


class StreamReader:
    """A stream of which the header and the index were read; tiles are, when they are asked for.

    exact: tiles whose payload is an exact one. layers: how many are there as a whole, at least 1.

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
        self.header, self._kind = cursor.header()
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
        self._layered = self.header.layers > 1
        self._progressive = _Flag.PROGRESSIVE in self._kind.flags
        parts = self.header.layers if self._layered else 1 + self._progressive  # of a payload
        self._lengths = [[cursor.varint("tile index") for _ in range(parts)] for _ in range(count)]
        self.exact = cursor.exact_tiles(count) if _Flag.EXACT_TILES in self._kind.flags else frozenset()
        self._head_crc = zlib.crc32(self._data[: cursor.offset])
        stored = [lengths[part] + _CRC.size for part in range(parts) for lengths in self._lengths]
        if self._layered:  # alpha and metadata come after the first layer
            self.extras_start = cursor.offset + sum(stored[:count])
            self._offsets = list(accumulate(stored[:count], initial=cursor.offset))
            self._offsets[-1:] = accumulate(stored[count:], initial=self._extras_end())
        else:
            self._offsets = list(accumulate(stored, initial=cursor.offset))
            self.extras_start = self._offsets[-1]
        self.layers = max(1, sum(end <= len(self._data) for end in self.layer_boundaries))

    @property
    def has_alpha(self) -> bool:
        return _Flag.ALPHA in self._kind.flags

    @property
    def has_exact_alpha(self) -> bool:
        """True if alpha is coded like exact tiles."""
        return _Flag.EXACT_ALPHA in self._kind.flags

    @property
    def is_reduced(self) -> bool:
        """True if exact payloads are of the picture in fewer colours."""
        return _Flag.REDUCED in self._kind.flags

    @property
    def ends(self) -> Sequence[int]:
        """Where tiles end, with their checksums, in bytes; in layers, tiles of the first one."""
        if self._layered:
            return [*self._offsets[1 : self.grid.count], self.extras_start]
        return self._offsets[-self.grid.count :]

    @property
    def layer_boundaries(self) -> Sequence[int]:
        """Where the file may be cut and is whole, with fewer layers: in bytes, after each."""
        return self._offsets[self.grid.count :: self.grid.count] if self._layered else []

    @property
    def layer_ends(self) -> tuple[tuple[int, ...], ...] | None:
        """As in ``Stream``."""
        return tuple(tuple(accumulate(of_tile)) for of_tile in self._lengths) if self._layered else None

    @property
    def shown_position(self) -> int:
        """The rate position of the last layer that is there."""
        return self.header.position + POSITIONS_PER_LAYER * (self.layers - 1)

    @property
    def first_ends(self) -> Sequence[int]:
        """Where first parts of tiles end, with their checksums, in bytes; none but in progressive order."""
        return self._offsets[1 : self.grid.count + 1] if self._progressive else []

    @property
    def cuts(self) -> tuple[int, ...] | None:
        """As in ``Stream``."""
        return tuple(first for first, _ in self._lengths) if self._progressive else None

    def tile(self, index: int) -> bytes:
        """The payload of a tile, checked; ``exact`` says of which kind it is.

        Raises:
            TruncatedStream: the data ends before the tile does.
            CorruptStream: its checksum fails.
        """
        parts = self.layers if self._layered else len(self._lengths[index])
        return b"".join(self._part(index, part) for part in range(parts))

    def beginning(self, index: int) -> bytes:
        """What is there of a tile that the data ends in, or nothing. No checksum covers its last part.

        In layers, of the first one.

        Raises:
            CorruptStream: the checksum of a part that is whole fails.
        """
        found = b""
        lengths = self._lengths[index][:1] if self._layered else self._lengths[index]
        for part, length in enumerate(lengths):
            start = self._offsets[part * self.grid.count + index]
            if start + length + _CRC.size > len(self._data):
                return found + bytes(self._data[start : start + length])
            found += self._part(index, part)
        return b""  # all of it is there

    def _part(self, index: int, part: int) -> bytes:
        """A part of the payload of a tile, checked."""
        name = f"tile {index}"
        cursor = _Cursor(self._data, self._offsets[part * self.grid.count + index])
        payload = cursor.take(self._lengths[index][part], name)
        cursor.check(zlib.crc32(payload, self._head_crc), name)
        return payload

    def extras(self) -> tuple[bytes | None, Metadata]:
        """The alpha plane and the metadata, checked, as in ``Stream``.

        Raises:
            StreamError: truncated or corrupt, too large, or something follows it.
        """
        cursor = _Cursor(self._data, self.extras_start)
        alpha = self._read_alpha(cursor) if self.has_alpha else None
        return alpha, self._read_metadata(cursor)

    def beside(self) -> tuple[Metadata, bytes | None]:
        """Metadata and the small picture, as in ``Stream``; alpha is checked, and not unpacked.

        Raises:
            StreamError: as for ``extras``.
        """
        found = self._packed_metadata(self._behind_alpha())
        return Metadata(**dict(_inflated(found))), dict(found).get(_SMALL)

    def check_layers(self) -> None:
        """Whether the file ends with a layer, if it has one that is whole.

        Raises:
            TruncatedStream: it ends within another.
            CorruptStream: something follows the last.
        """
        boundaries = self.layer_boundaries
        if not boundaries or len(self._data) < boundaries[0] or len(self._data) in boundaries:
            return
        if len(self._data) > (end := boundaries[-1]):
            raise CorruptStream(f"{len(self._data) - end} bytes follow the end of the stream at byte {end}.")
        raise TruncatedStream(
            f"The file ends at byte {len(self._data)}, within layer {self.layers + 1} of "
            f"{self.header.layers}; softstair truncate --layers {self.layers} leaves what is complete."
        )

    def parts(self) -> Parts:
        """Where the bytes go; checksums of alpha and metadata are checked for it, and nothing inflated.

        Raises:
            StreamError: truncated or corrupt.
        """
        first, end = self._offsets[0], self.extras_start
        cursor = self._behind_alpha()
        alpha_end = cursor.offset
        content = dict(self._packed_metadata(cursor)).get(_SMALL)
        small = 0 if content is None else 1 + len(_checked_block(content))
        others = [after - before for before, after in pairwise(self.layer_boundaries[: self.layers])]
        layers = (end - first, *others) if self._layered else ()
        tiles = end - first + sum(others)
        return Parts(first, tiles, alpha_end - end, cursor.offset - alpha_end - small, layers, small)

    def _behind_alpha(self) -> _Cursor:
        """Where metadata starts; alpha is checked on the way."""
        cursor = _Cursor(self._data, self.extras_start)
        for _ in range(self._alpha_blocks):
            cursor.checked("alpha")
        return cursor

    def most_metadata(self) -> int:
        """Bytes that the metadata takes at most once it is inflated; 0 where it is damaged."""
        try:
            parts = self.parts()
        except StreamError:
            return 0
        return min(MAX_METADATA, _DEFLATED_MOST * parts.metadata)

    def _extras_end(self) -> int:
        """Where alpha and metadata end; beyond all bytes if these end before."""
        cursor = _Cursor(self._data, self.extras_start)
        try:
            cursor.skip_extras(self._kind, self._alpha_blocks)
        except TruncatedStream:
            return _NEVER
        return cursor.offset if cursor.offset <= len(self._data) else _NEVER

    @property
    def _alpha_blocks(self) -> int:
        return self._kind.alpha_blocks(self.grid.count)

    def _read_alpha(self, cursor: _Cursor) -> bytes:
        height, width = self.header.height, self.header.width
        if not self.has_exact_alpha:
            differences = cursor.block("alpha", height * width)
            if len(differences) != height * width:
                raise CorruptStream(
                    f"The alpha plane has {len(differences)} samples where {height * width} were expected."
                )
            return np.cumsum(_rows(differences, width), axis=0, dtype=np.uint8).tobytes()
        # All checksums before the plane is allocated.
        parts = [cursor.checked(f"alpha of tile {index}") for index in range(self.grid.count)]
        plane = np.empty((height, width), np.uint8)
        for index, part in enumerate(parts):
            box = self.grid.box(index)
            samples = unpack_samples(part, box.rows, box.columns, f"alpha of tile {index}")
            plane[box.slices] = samples[..., 1]
        return plane.tobytes()

    def _read_metadata(self, cursor: _Cursor) -> Metadata:
        return Metadata(**dict(_inflated(self._packed_metadata(cursor))))

    def _packed_metadata(self, cursor: _Cursor) -> list[tuple[str, bytes]]:
        packed = list(cursor.metadata(self._kind))
        if cursor.left and not self._layered:
            raise CorruptStream(f"{cursor.left} bytes follow the end of the stream at byte {cursor.offset}.")
        return packed


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
    header, kind = cursor.header()
    found: list[tuple[str, bytes]] = []
    with suppress(StreamError):
        count = header.grid.count
        parts = max(header.layers, 1 + (_Flag.PROGRESSIVE in kind.flags))
        lengths = [cursor.varint("tile index") for _ in range(parts * count)]
        if _Flag.EXACT_TILES in kind.flags:
            cursor.exact_tiles(count)
        if header.layers > 1:
            lengths = lengths[::parts]  # the first layer's
        cursor.skip(sum(lengths) + len(lengths) * _CRC.size)
        cursor.skip_alpha(kind.alpha_blocks(count))
        found.extend(cursor.metadata(kind))
    return Summary(header, _Flag.ALPHA in kind.flags, tuple(found))


def read_stream(data: Buffer, *, max_pixels: int = MAX_PIXELS) -> Stream:
    """Parse a stream; every length and checksum is verified.

    Raises:
        StreamError: one of its children, as for the methods of ``StreamReader``.
    """
    reader = StreamReader(data, max_pixels=max_pixels)
    tiles = tuple(reader.tile(index) for index in range(reader.grid.count))
    alpha, metadata = reader.extras()
    reader.check_layers()
    return Stream(
        reader.header,
        tiles,
        alpha,
        metadata,
        reader.exact,
        reader.cuts,
        reader.is_reduced,
        reader.layer_ends,
        reader.beside()[1],
    )


def measure_parts(reader: StreamReader) -> Parts:
    """Bytes by part, for ``info``; checks what ``read_stream`` checks, and inflates nothing."""
    for index in range(reader.grid.count):
        reader.tile(index)
    reader.check_layers()
    return reader.parts()


@dataclass(frozen=True)
class _Kind:
    """What version and flags say. bare: without a word on what they are, the kinds of metadata."""

    version: int
    flags: _Flag
    bare: tuple[int, ...] | None

    def alpha_blocks(self, tiles: int) -> int:
        """In how many pieces alpha is."""
        if _Flag.ALPHA not in self.flags:
            return 0
        return tiles if _Flag.EXACT_ALPHA in self.flags else 1


class _Cursor:
    """Reads forward and never passes the end."""

    def __init__(self, data: Source, offset: int = 0) -> None:
        self._data = data
        self.offset = offset

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self.offset)

    def header(self) -> tuple[Header, _Kind]:
        start = bytes(self._data[: len(MAGIC)])
        if start != MAGIC[: len(start)] or not start:
            raise NotAStairFile(
                f"The data does not start like a .stair file: expected {MAGIC.hex()}, found "
                f"{start.hex() or 'nothing'}."
            )
        self.take(len(MAGIC), "magic")
        kind = self.kind()
        fingerprint = self.take(8, "fingerprint")
        pack = self.take(8, "fingerprint of the pack") if _Flag.PACK in kind.flags else None
        if pack is not None and NO_BUNDLE in (fingerprint, pack):
            raise CorruptStream("The stream has a pack, but no bundle that it changes.")
        width, height = self.side("width"), self.side("height")
        colour, mode, position = self.take(3, "colour, mode and rate position")
        if colour not in list(Colour):
            raise UnsupportedStream(f"The stream has unknown colour {colour}; update this release.")
        layers = 1
        if mode == _LAYERED and kind.version == VERSION:
            mode, layers = Mode.RDOQ.wire, self.layers(kind)
        if mode not in BY_WIRE or (mode > _LAYERED and kind.version < VERSION):
            raise UnsupportedStream(f"The stream has unknown mode {mode}; update this release.")
        smoothing = self.smoothing(fingerprint) if _Flag.SMOOTHED in kind.flags else 0
        layout = self.varint("tile layout")
        if layout > MAX_LAYOUT:
            raise UnsupportedStream(f"The stream has unknown tile layout {layout}; update this release.")
        return Header(
            fingerprint,
            width,
            height,
            Colour(colour),
            BY_WIRE[mode],
            position,
            layout,
            pack,
            layers,
            smoothing,
        ), kind

    def smoothing(self, fingerprint: bytes) -> int:
        """Of what is learned, in grey levels."""
        (smoothing,) = self.take(1, "smoothing")
        if smoothing > MOST_SMOOTHING:
            raise UnsupportedStream(f"The stream has unknown smoothing {smoothing}; update this release.")
        if smoothing == 0 or fingerprint == NO_BUNDLE:
            raise CorruptStream("The stream says that it is smoothed, but nothing of it is.")
        return smoothing

    def layers(self, kind: _Kind) -> int:
        """How many a layered stream was made with."""
        (layers,) = self.take(1, "number of layers")
        if not 2 <= layers <= MOST_LAYERS:
            raise UnsupportedStream(f"The stream has {layers} layers; update this release.")
        if kind.flags & (_Flag.EXACT_TILES | _Flag.PROGRESSIVE):
            raise CorruptStream("The stream is in layers and has another order or exact tiles, too.")
        return layers

    def skip_extras(self, kind: _Kind, alpha_blocks: int) -> None:
        """Pass over alpha and metadata, unchecked."""
        self.skip_alpha(alpha_blocks)
        for place in range(self.varint("count of metadata") if kind.bare is None else len(kind.bare)):
            if kind.bare is None:
                self.take(1, f"kind of metadata {place}")
            self.skip(self.varint("length of metadata") + _CRC.size)

    def skip_alpha(self, blocks: int) -> None:
        for _ in range(blocks):
            self.skip(self.varint("length of alpha") + _CRC.size)

    def kind(self) -> _Kind:
        (version,) = self.take(1, "version")
        if version == 1:
            (flags,) = self.take(1, "flags")
            if flags & ~_FLAGS_OF_1:
                raise UnsupportedStream(f"The stream has unknown flags {flags:#04x}; update this release.")
            bare = tuple(kind for kind in range(3) if flags >> 1 + kind & 1)
            return _Kind(1, _Flag(flags & _Flag.ALPHA), bare)
        if version != VERSION:
            raise UnsupportedStream(
                f"The stream has version {version}, this release reads 1 and {VERSION}; update it."
            )
        flags = self.varint("flags")
        if flags & ~_READ:
            raise UnsupportedStream(f"The stream has unknown flags {flags:#04x}; update this release.")
        if flags & _Flag.EXACT_ALPHA and not flags & _Flag.ALPHA:
            raise CorruptStream(f"The flags {flags:#04x} say how alpha is coded, but there is none.")
        if flags & _Flag.REDUCED and not flags & _Flag.EXACT_TILES:
            raise CorruptStream(f"The flags {flags:#04x} say what exact tiles are of, but there are none.")
        return _Kind(VERSION, _Flag(flags), None if flags & _Flag.METADATA else ())

    def exact_tiles(self, count: int) -> frozenset[int]:
        """The bitmap of tiles with an exact payload."""
        bits = int.from_bytes(self.take(-(-count // 8), "bitmap of exact tiles"), "little")
        if bits >> count:
            raise CorruptStream(f"The bitmap of exact tiles before byte {self.offset} has more than {count}.")
        return frozenset(index for index in range(count) if bits >> index & 1)

    def metadata(self, kind: _Kind) -> Iterator[tuple[str, bytes]]:
        """Names and contents of what is known of it, all but the small picture deflated."""
        seen: set[int] = set()
        for place in range(self.varint("count of metadata") if kind.bare is None else len(kind.bare)):
            said = self.take(1, "kind of metadata") if kind.bare is None else b""
            number = said[0] if kind.bare is None else kind.bare[place]
            if number in seen:
                raise CorruptStream(f"The stream has metadata of kind {number} twice.")
            seen.add(number)
            if number < len(_KINDS):
                yield _KINDS[number], self.checked(_KINDS[number].upper(), said)
            elif number == len(_KINDS):
                yield _SMALL, self.checked("small picture", said)
            else:
                self.checked(f"metadata of kind {number}", said)

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

    def checked(self, name: str, said: bytes = b"") -> bytes:
        """Bytes behind their length and before their checksum, which covers what was ``said`` of them."""
        piece = self.take(self.varint(f"length of {name}"), name)
        self.check(zlib.crc32(piece, zlib.crc32(said)), name)
        return piece

    def block(self, name: str, limit: int) -> bytes:
        """A deflated block with its length and checksum; inflated to ``limit`` bytes at most."""
        return _inflate(self.checked(name), name, limit)


def _inflated(packed: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Metadata by name, inflated to ``MAX_METADATA`` bytes in all."""
    left = MAX_METADATA
    for name, deflated in packed:
        if name == _SMALL:
            continue
        content = _inflate(deflated, name.upper(), left)
        left -= len(content)
        yield name, content


def _inflate(deflated: bytes, name: str, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(deflated, limit + 1)
    except zlib.error as error:
        raise CorruptStream(f"The {name} cannot be inflated: {error}.") from error
    if len(content) > limit:
        raise LimitExceeded(f"The {name} inflates to more than the {limit} bytes that are left for it.")
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


def _checked_block(content: bytes, said: bytes = b"") -> bytes:
    return _varint(len(content)) + content + _CRC.pack(zlib.crc32(content, zlib.crc32(said)))


def _deflated_block(content: bytes, said: bytes = b"") -> bytes:
    return _checked_block(zlib.compress(content, 9), said)


def _rows(plane: bytes, width: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(plane, np.uint8).reshape(-1, width)


def _differences(alpha: bytes, width: int) -> bytes:
    """To the row above, modulo 256: what deflates well."""
    return np.diff(_rows(alpha, width), axis=0, prepend=np.zeros((1, width), np.uint8)).tobytes()


def _exact_alpha(alpha: bytes, grid: TileGrid) -> bytes | None:
    """Alpha as a picture a tile; None where a tile is too large for that."""
    if max(grid.largest.rows, grid.largest.columns) > MAX_EXACT_SIDE:
        return None
    plane = _rows(alpha, grid.width)
    boxes = (grid.box(index) for index in range(grid.count))
    return b"".join(_checked_block(pack_samples(plane[box.slices])) for box in boxes)
