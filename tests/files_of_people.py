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
    samples: npt.NDArray,
    photometric: int = 1,
    kind: int = 1,
    tags: tuple = (),
    bits: int | None = None,
    *,
    order: str = "<",
    planar: int = 1,
    deflated: bool = False,
) -> bytes:
    """Pixels (H, W) or (H, W, samples). kind: 1 unsigned, 2 signed, 3 float. tags: number, type, value."""
    height, width, count = samples.shape if samples.ndim == 3 else (*samples.shape, 1)
    depth = bits or 8 * samples.dtype.itemsize
    ordered = samples.astype(samples.dtype.newbyteorder(order))
    planes = np.moveaxis(ordered, -1, 0) if planar == 2 and samples.ndim == 3 else [ordered]
    strips = [np.ascontiguousarray(plane).tobytes() for plane in planes]
    strips = [zlib.compress(strip) if deflated else strip for strip in strips]
    entries = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [depth] * count),
        (259, 3, [8 if deflated else 1]),
    ]
    entries += [(262, 3, [photometric]), (273, 4, [0] * len(strips)), (277, 3, [count]), (278, 4, [height])]
    entries += [(279, 4, list(map(len, strips))), (284, 3, [planar]), (339, 3, [kind] * count)]
    entries += [(tag, form, [value] if isinstance(value, int) else value) for tag, form, value in tags]
    entries.sort(key=lambda entry: entry[0])
    start = 8 + 2 + 12 * len(entries) + 4
    packed: list[tuple[int, int, int, bytes]] = []
    for tag, form, value in entries:
        numbers = (
            b"" if isinstance(value, bytes) else struct.pack(f"{order}{len(value)}{'xxxHI'[form]}", *value)
        )
        packed.append((tag, form, len(value), value if isinstance(value, bytes) else numbers))
    place = start + sum(len(content) + len(content) % 2 for *_, content in packed if len(content) > 4)
    offsets = [place + sum(map(len, strips[:at])) for at in range(len(strips))]
    head, extra = b"", b""
    for tag, form, number, packed_value in packed:
        content = struct.pack(f"{order}{number}I", *offsets) if tag == 273 else packed_value
        head += struct.pack(f"{order}HHI", tag, form, number)
        if len(content) > 4:
            head += struct.pack(f"{order}I", start + len(extra))
            extra += content + bytes(len(content) % 2)
        else:
            head += content.ljust(4, b"\0")
    signature = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return signature + struct.pack(f"{order}H", len(entries)) + head + bytes(4) + extra + b"".join(strips)


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


def jpeg_2000(side: int, *boxes: tuple[bytes, bytes], profile: bytes | None = None) -> bytes:
    """boxes: kinds and contents, before the pixels."""
    buffer = io.BytesIO()
    Image.fromarray(photograph(side, side)).save(buffer, "JPEG2000")
    data = buffer.getvalue()
    if profile is not None:
        colour = data.index(b"colr") - 4
        (length,) = struct.unpack_from(">I", data, colour)
        head = data.index(b"jp2h") - 4
        box = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
        (whole,) = struct.unpack_from(">I", data, head)
        whole += len(box) - length
        data = (
            data[:head] + struct.pack(">I", whole) + data[head + 4 : colour] + box + data[colour + length :]
        )
    at = data.index(b"jp2c") - 4
    added = b"".join(struct.pack(">I4s", 8 + len(content), kind) + content for kind, content in boxes)
    return data[:at] + added + data[at:]
