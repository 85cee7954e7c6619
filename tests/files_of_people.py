"""Files as cameras, scanners and other programs write them, byte by byte."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from .tiny import photograph

PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b"%s</rdf:RDF></x:xmpmeta>"
)
SOURCE = PACKET % (
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="archive 42"/>'
)
EXIF = b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x05\0\0\0\x1a\0\0\0\0\0\0\0Make\0\0"
IPTC = b"\x1c\x02\x78\0\x10A bridge at dawn\x1c\x02\x19\0\x06bridge"
RAMP = np.tile(np.linspace(0, 65535, 64), (32, 1))


def tiff(
    samples: npt.NDArray, photometric: int = 1, kind: int = 1, tags: tuple = (), bits: int | None = None
) -> bytes:
    """Uncompressed grey, little-endian. kind: 1 unsigned, 2 signed, 3 float. tags: bytes by number."""
    height, width = samples.shape
    data = samples.tobytes()
    depth = bits or 8 * samples.dtype.itemsize
    entries = [(256, 4, width), (257, 4, height), (258, 3, depth), (259, 3, 1), (262, 3, photometric)]
    entries += [(273, 4, None), (277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, kind), *tags]
    entries.sort(key=lambda entry: entry[0])
    head, extra = b"", b""
    start = 8 + 2 + 12 * len(entries) + 4
    place = start + sum(len(value) + len(value) % 2 for _, _, value in entries if isinstance(value, bytes))
    for tag, form, value in entries:
        if isinstance(value, bytes):
            head += struct.pack("<HHII", tag, form, len(value), start + len(extra))
            extra += value + bytes(len(value) % 2)
        else:
            value = place if value is None else value
            head += struct.pack("<HHI", tag, form, 1) + value.to_bytes(4, "little")
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + head + bytes(4) + extra + data


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(size: tuple[int, int], depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """rows: of all samples, packed, without filters."""
    width, height = size
    step = len(rows) // height
    filtered = b"".join(b"\0" + rows[at : at + step] for at in range(0, len(rows), step))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    more = b"".join(chunk(*one) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(filtered)) + chunk(b"IEND", b"")


def rgb_png(*chunks: tuple[bytes, bytes]) -> bytes:
    return png((40, 30), 8, 2, photograph(30, 40).tobytes(), *chunks)


def raw_profile(name: str, content: bytes, tail: bytes = b"") -> tuple[bytes, bytes]:
    """Metadata as ImageMagick and exiv2 put it into PNG."""
    digits = content.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\n{name}\n{len(content):8d}\n{lines}\n".encode() + tail
    return b"zTXt", b"Raw profile type " + name.encode() + b"\0\0" + zlib.compress(text)


def jpeg(*segments: tuple[int, bytes], tail: bytes = b"", side: int = 40) -> bytes:
    """segments: markers and contents, before all others."""
    buffer = io.BytesIO()
    Image.fromarray(photograph(side, side)).save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()
    added = b"".join(bytes([0xFF, m]) + struct.pack(">H", len(c) + 2) + c for m, c in segments)
    return data[:2] + added + data[2:] + tail


def xmp_segment(packet: bytes) -> tuple[int, bytes]:
    return 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet


def photoshop_segment(iptc: bytes) -> tuple[int, bytes]:
    return 0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(
        len(iptc) % 2
    )


def extended_xmp(extended: bytes, *, cut: int = 0) -> list[tuple[int, bytes]]:
    """Segments of a packet whose large part is in others. cut: bytes that are missing at the end."""
    guid = hashlib.md5(extended, usedforsecurity=False).hexdigest().upper().encode()
    main = PACKET % (
        b'<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
        b'xmpNote:HasExtendedXMP="' + guid + b'"/>'
    )
    name = b"http://ns.adobe.com/xmp/extension/\0" + guid
    parts = [
        (
            0xE1,
            name
            + struct.pack(">II", len(extended), at)
            + extended[at : min(at + 60000, len(extended) - cut)],
        )
        for at in range(0, len(extended), 60000)
    ]
    return [xmp_segment(main), *parts]


def depth_map(size: int) -> bytes:
    """A packet of some size, as portraits of telephones have it."""
    data = b"QUJD" * (size // 4)
    return PACKET % (
        b'<rdf:Description rdf:about="" xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" '
        b'GDepth:Data="' + data + b'"/>'
    )


def ultra_hdr() -> bytes:
    """A JPEG with a gain map behind it, announced in XMP and in an index of pictures."""
    gain = jpeg(side=16)
    packet = PACKET % (
        b'<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        b'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        b'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" '
        b'xmlns:dc="http://purl.org/dc/elements/1.1/" hdrgm:Version="1.0" dc:source="archive 42">'
        b'<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item '
        b'Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="%d"/></rdf:li></rdf:Seq>'
        b"</Container:Directory></rdf:Description>" % len(gain)
    )

    def index(first: int) -> tuple[int, bytes]:
        ifd = struct.pack(">H", 3) + struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
        ifd += struct.pack(">HHII", 0xB001, 4, 1, 2) + struct.pack(">HHIII", 0xB002, 7, 32, 50, 0)
        entries = struct.pack(">IIIHH", 0x030000, first, 0, 0, 0) + struct.pack(
            ">IIIHH", 0, len(gain), first, 0, 0
        )
        return 0xE2, b"MPF\0MM\0*" + struct.pack(">I", 8) + ifd + entries

    first = len(jpeg(xmp_segment(packet), index(0)))
    return jpeg(xmp_segment(packet), index(first), tail=gain)


def grey_profile() -> bytes:
    """The head of a grey ICC profile."""
    return struct.pack(">I4s", 132, b"lcms") + bytes(8) + b"GRAYXYZ " + bytes(108)


def exif_with_thumbnail(thumbnail: bytes) -> bytes:
    """EXIF of 40x40 pixels with a JPEG thumbnail in its second IFD."""
    first = struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 26) + struct.pack("<I", 56)
    sizes = struct.pack("<HHIHH", 0xA002, 3, 1, 40, 0) + struct.pack("<HHII", 0xA003, 4, 1, 40)
    inner = struct.pack("<H", 2) + sizes + struct.pack("<I", 0)
    second = struct.pack("<H", 2) + struct.pack("<HHII", 0x201, 4, 1, 86)
    second += struct.pack("<HHII", 0x202, 4, 1, len(thumbnail)) + struct.pack("<I", 0)
    return b"II*\0\x08\0\0\0" + first + inner + second + thumbnail
