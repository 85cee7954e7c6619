"""Samples coded without loss: a bare VP8L bitstream (RFC 9649, section 3), as inside a lossless WebP.

Pillow codes and decodes it; around it only its size is read here, before anything is allocated.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image

from softstair import stopping
from softstair.errors import CorruptStream

MAX_SIDE = 16383  # pixels of a side, of the format
_SIGNATURE = 0x2F
_HEADER = struct.Struct("<BI")
_NO_MEMORY = {"encoding error 1", "encoding error 2"}  # how Pillow says what libwebp says of memory
_RIFF = struct.Struct("<4sI4s4sI")
_CHUNK = b"VP8L"

Samples = npt.NDArray[np.uint8]


def pack_samples(samples: Samples, *, method: int = 4, quality: int = 90) -> bytes:
    """Code samples without loss.

    Args:
        samples: uint8 (H, W), (H, W, 3), or (H, W, 4) with an alpha of 0 or 255 last; sides up to 16383.
        method, quality: what time buys, as libwebp counts: 0 to 6 and 0 to 100. With 6 and 100 files
            are 2 % smaller and take many times as long.
    """
    stopping.check()  # before what may take seconds
    buffer = io.BytesIO()
    try:
        Image.fromarray(samples).save(buffer, "WEBP", lossless=True, method=method, quality=quality)
    except ValueError as error:
        if str(error) in _NO_MEMORY:
            raise MemoryError(str(error)) from error
        raise
    return _only_chunk(buffer.getvalue())


def unpack_samples(data: bytes, rows: int, columns: int, name: str) -> Samples:
    """Samples of a bare VP8L bitstream: uint8 (rows, columns, 4), red, green, blue, alpha.

    Raises:
        CorruptStream: it has another size, or cannot be decoded. ``name`` is for the message.
    """
    width, height = _size(data, name)
    if (height, width) != (rows, columns):
        raise CorruptStream(f"The {name} has {width}x{height} pixels where {columns}x{rows} were expected.")
    padded = data + b"\0" * (len(data) % 2)
    header = _RIFF.pack(b"RIFF", 12 + len(padded), b"WEBP", _CHUNK, len(data))
    try:
        with Image.open(io.BytesIO(header + padded), formats=["WEBP"]) as image:
            image.load()
            samples: Samples = np.array(image if image.mode == "RGBA" else image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptStream(f"The {name} cannot be decoded: {error}.") from error
    if samples.shape != (rows, columns, 4):
        raise CorruptStream(f"The {name} cannot be decoded.")
    return samples


def _size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height that the bitstream itself declares: 14 bits each, less one."""
    if len(data) < _HEADER.size:
        raise CorruptStream(f"The {name} has {len(data)} bytes, too few for an exact payload.")
    signature, packed = _HEADER.unpack_from(data)
    if signature != _SIGNATURE or packed >> 29:
        raise CorruptStream(f"The {name} does not start like VP8L: found {data[:5].hex()}.")
    return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1


def _only_chunk(webp: bytes) -> bytes:
    """The VP8L chunk of a WebP file as libwebp writes it: the first, or behind an extended header."""
    offset = 12
    while webp[offset : offset + 4] != _CHUNK:
        (length,) = struct.unpack_from("<I", webp, offset + 4)
        offset += 8 + length + length % 2
    (length,) = struct.unpack_from("<I", webp, offset + 4)
    return webp[offset + 8 : offset + 8 + length]
