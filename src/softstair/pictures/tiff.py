"""What Pillow reads wrong of TIFF files, or would not read: planes, byte orders, previews.

A file is changed in memory, and its pixels are still Pillow's to decode. Planes (PlanarConfiguration 2)
that lie one after the other are read one by one, as pages of grey, and put together as the usual kind.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from .picture import Note

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
_STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _SUB_IFDS, _FORMAT = 322, 323, 324, 325, 330, 339
_JPEG_TABLES, _DNG = 347, 50706
_SHORT, _LONG = 3, 4
_YCBCR = 6
_PLACED = {_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES}
_OF_A_PLANE = {
    *(_WIDTH, _HEIGHT, _COMPRESSION, _FILL_ORDER, _ROWS, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _JPEG_TABLES)
}
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
# libtiff hands out samples in the machine's own order; of these Pillow expects the file's.
_NATIVE = {
    **dict.fromkeys(("F;32F", "F;32BF"), "F;32NF"),
    **dict.fromkeys(("I;16S", "I;16BS"), "I;16NS"),
    **dict.fromkeys(("I;32S", "I;32BS"), "I;32NS"),
}
_CR2, _PROFILE = b"CR", 34675

Numbers: TypeAlias = Sequence[int]
Opener: TypeAlias = Callable[[bytes], Image.Image]


def is_raw_photograph(image: Image.Image, data: bytes) -> bool:
    """True for the files of cameras that are TIFF with a small preview where others have the picture."""
    if image.format != "TIFF":
        return False
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    is_preview = bool(_number(tags.get(_SUBFILE)) & 1)
    return _DNG in tags or data[8:10] == _CR2 or (is_preview and _SUB_IFDS in tags)


def preview_notes(image: Image.Image) -> tuple[Note, ...]:
    """What there is to say of a page that is a smaller version of another one."""
    tags: Any = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is None or not _number(tags.get(_SUBFILE)) & 1:
        return ()
    text = "Its first page is a smaller version of another one, which --page N takes."
    return (Note("smaller version taken", text),)


def forget_other_pages(image: Image.Image) -> None:
    """Pillow leaves the profile of an earlier page in ``info`` where the page it turned to has none."""
    if image.format == "TIFF" and _PROFILE not in image.tag_v2:  # type: ignore[attr-defined]
        image.info.pop("icc_profile", None)


def in_native_order(image: Image.Image) -> None:
    """Mend how an image that is not loaded will be read by libtiff."""
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(_NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:]))
        if tile.codec_name == "libtiff"
        else tile
        for tile in image.tile  # type: ignore[attr-defined]
    ]


def is_in_planes(image: Image.Image) -> bool:
    return image.format == "TIFF" and _number(image.tag_v2.get(_PLANAR)) == 2  # type: ignore[attr-defined]


def without_planes(data: bytes, page: int, opened: Opener) -> bytes | None:
    """A TIFF file with one page, whose samples lie side by side.

    Args:
        page: that is taken, from 0.
        opened: opens a file with one page of grey.

    Returns:
        The file; None for what is Pillow's to try.

    Raises:
        OSError, ValueError: as Pillow does of damaged files.
    """
    found = _Page.find(data, page)
    if found is None or found.number(_PHOTOMETRIC) == _YCBCR:
        return None
    count = found.number(_SAMPLES) or 1
    if count == 1:
        return found.alone(set(found.entries), {_PLANAR: (1,)})
    return _interleaved(found, count, opened)


@dataclass(frozen=True)
class _Page:
    """A page of a TIFF file. entries: by tag, where each begins in the file."""

    data: bytes
    order: str
    entries: dict[int, int]

    @staticmethod
    def find(data: bytes, page: int) -> _Page | None:
        """A page, from 0; None if the file is damaged, or a BigTIFF."""
        order = _ORDERS.get(data[:4])
        if order is None:
            return None
        at = 4
        for _ in range(page + 1):
            if at + 4 > len(data):
                return None
            (start,) = struct.unpack_from(f"{order}I", data, at)
            if not 8 <= start <= len(data) - 2:
                return None
            (count,) = struct.unpack_from(f"{order}H", data, start)
            at = start + 2 + 12 * count
        if at > len(data):
            return None
        places = range(start + 2, at, 12)
        return _Page(
            data, order, {struct.unpack_from(f"{order}H", data, place)[0]: place for place in places}
        )

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Shorts or longs; nothing for anything else."""
        if tag not in self.entries:
            return ()
        kind, count = struct.unpack_from(f"{self.order}HI", self.data, self.entries[tag] + 2)
        letter = {_SHORT: "H", _LONG: "I"}.get(kind)
        if letter is None:
            return ()
        form, at = f"{self.order}{count}{letter}", self.entries[tag] + 8
        if struct.calcsize(form) > 4:
            (at,) = struct.unpack_from(f"{self.order}I", self.data, at)
        return struct.unpack_from(form, self.data, at) if at + struct.calcsize(form) <= len(self.data) else ()

    def number(self, tag: int) -> int:
        return next(iter(self.numbers(tag)), 0)

    def alone(self, kept: set[int], made: dict[int, Numbers], more: bytes = b"") -> bytes:
        """The file with ``more`` and one page at its end, and a head that knows of no other.

        kept: tags that stay as they are. made: others.
        """
        data = self.data + bytes(len(self.data) % 2) + more
        data += bytes(len(data) % 2)
        start, beside = len(data), b""
        tags = sorted((kept & self.entries.keys() - made.keys()) | made.keys())
        behind = start + 2 + 12 * len(tags) + 4
        entries = []
        for tag in tags:
            if tag not in made:
                entries.append(self.data[self.entries[tag] : self.entries[tag] + 12])
                continue
            content = struct.pack(f"{self.order}{len(made[tag])}I", *made[tag])
            field = content
            if len(content) > 4:
                field = struct.pack(f"{self.order}I", behind + len(beside))
                beside += content
            entries.append(struct.pack(f"{self.order}HHI", tag, _LONG, len(made[tag])) + field)
        page = struct.pack(f"{self.order}H", len(tags)) + b"".join(entries) + bytes(4)
        return data[:4] + struct.pack(f"{self.order}I", start) + data[8:] + page + beside


def _interleaved(page: _Page, count: int, opened: Opener) -> bytes | None:
    bits, formats = set(page.numbers(_BITS)), set(page.numbers(_FORMAT)) or {1}
    if len(bits) != 1 or len(formats) != 1 or bits - {8, 16, 32}:
        return None
    depth = bits.pop()
    kind = 3 if formats == {3} else 2 if depth == 32 else 1  # as Pillow keeps all bits of
    planes = [_plane(page, at, count, (depth, kind), opened) for at in range(count)]
    samples = np.stack(planes, axis=-1)
    raw = samples.astype(samples.dtype.newbyteorder("<" if page.order == "<" else ">")).tobytes()
    start = len(page.data) + len(page.data) % 2
    made: dict[int, Numbers] = {
        _COMPRESSION: (1,),
        _PLANAR: (1,),
        _ROWS: (len(samples),),
        _STRIPS: (start,),
        _STRIP_BYTES: (len(raw),),
    }
    dropped = {_TILES, _TILE_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _PREDICTOR, _JPEG_TABLES, _FILL_ORDER}
    return page.alone(page.entries.keys() - dropped, made, raw)


def _plane(page: _Page, at: int, count: int, samples: tuple[int, int], opened: Opener) -> npt.NDArray[Any]:
    """Samples of a plane, (H, W). samples: their bits and what they are."""
    depth, kind = samples
    made: dict[int, Numbers] = {_BITS: (depth,), _PHOTOMETRIC: (1,), _SAMPLES: (1,), _FORMAT: (kind,)}
    for tag in _PLACED & page.entries.keys():
        numbers = page.numbers(tag)
        share = len(numbers) // count
        made[tag] = numbers[at * share : (at + 1) * share]
    with opened(page.alone(_OF_A_PLANE, made)) as image:
        in_native_order(image)
        image.load()
        return np.array(image)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
