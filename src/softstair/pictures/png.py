"""What PNG files hold beside pixels: colour told without a profile, metadata written as text."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import PngImagePlugin

from .exif import bare_exif
from .jpeg import iptc_of, resources_of
from .profile import PRIMARIES, SRGB_PRIMARIES, Chromaticities, Curve, make_profile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_IN_APP1 = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_AS_TEXT = "XML:com.adobe.xmp"
_RAW = "Raw profile type "
_SRGB_GAMMA = 45455  # 100000 / 2.2, which is how writers say sRGB
_NEAR = 2000  # of 100000: a gamma or a chromaticity that nobody could tell apart
_HDR_TRANSFERS = {16, 18}  # PQ, HLG
_GAMMA_OF_TRANSFER = {4: 2.2, 5: 2.8, 8: 1.0}
_SRGB_TRANSFERS = {1, 6, 13, 14, 15}  # BT.709 and its kin are shown as sRGB is


@dataclass(frozen=True)
class Colour:
    """profile: what says the same as the file's own chunks; None where that is sRGB, or nothing.
    is_hdr: the samples are of a brightness that no profile of 8 bits tells."""

    profile: bytes | None = None
    is_hdr: bool = False


def colour_of(data: bytes, *, grey: bool) -> Colour:
    """What cICP, or else gAMA and cHRM, say of the colours of a PNG file that has no iCCP and no sRGB."""
    chunks = dict(_leading_chunks(data))
    if (code := chunks.get(b"cICP", b"")) and len(code) >= 4:
        return coded_colour(code[0], code[1], grey=grey)
    if b"iCCP" in chunks or b"sRGB" in chunks:
        return Colour()
    gamma = int.from_bytes(chunks.get(b"gAMA", b"")[:4], "big")
    if not gamma:
        return Colour()
    primaries = _primaries(chunks.get(b"cHRM", b""))
    is_srgb = abs(gamma - _SRGB_GAMMA) < _NEAR
    if is_srgb and (grey or primaries == SRGB_PRIMARIES):
        return Colour()
    curve = Curve() if is_srgb else Curve(100000 / gamma)
    try:
        return Colour(make_profile("PNG", curve, None if grey else primaries))
    except ValueError:
        return Colour()


def xmp_as_text(info: Mapping[Any, Any]) -> bytes | None:
    """XMP that writers put into a chunk of plain text, not of UTF-8 as the format wants it."""
    text = info.get(_XMP_AS_TEXT)
    if isinstance(text, str) and not isinstance(text, PngImagePlugin.iTXt):
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            return text.encode()
    return None


def raw_profiles(info: Mapping[Any, Any]) -> dict[str, bytes]:
    """EXIF, XMP, IPTC and ICC that ImageMagick and others write as text, by the names of ``Metadata``."""
    found: dict[str, bytes] = {}
    for key, text in info.items():
        if not isinstance(key, str) or not key.startswith(_RAW) or not isinstance(text, str):
            continue
        content = _unhexed(text)
        kind = key.removeprefix(_RAW).strip().lower()
        if content.startswith(_XMP_IN_APP1):
            found["xmp"] = content.removeprefix(_XMP_IN_APP1)
        elif kind in ("exif", "app1"):
            found["exif"] = bare_exif(content)
        elif kind == "xmp":
            found["xmp"] = content
        elif kind in ("iptc", "8bim"):
            found["iptc"] = iptc_of(content) or (content if content.startswith(b"\x1c") else b"")
        elif kind in ("icc", "icm"):
            found["icc"] = content
    return {name: content for name, content in found.items() if content}


def raw_profile(iptc: bytes) -> str:
    """IPTC as the text of a chunk called "Raw profile type iptc"."""
    resources = resources_of(iptc)
    digits = resources.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\niptc\n{len(resources):8d}\n{lines}\n"


def _unhexed(text: str) -> bytes:
    """Of lines: nothing, a name, a length, hexadecimal digits, and whatever else."""
    match = re.match(r"\s*\S+\s+(\d{1,9})\s+([0-9a-fA-F\s]*)", text)
    if match is None:
        return b""
    digits = "".join(match[2].split())
    length = min(int(match[1]), len(digits) // 2)
    return bytes.fromhex(digits[: 2 * length])


def _leading_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Chunks before the pixels."""
    at = len(_SIGNATURE)
    while data.startswith(_SIGNATURE) and at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return
        yield kind, data[at + 8 : at + 8 + min(length, 64)]
        at += 12 + length


def coded_colour(primaries: int, transfer: int, *, grey: bool) -> Colour:
    """What two codes of ITU-T H.273 say: primaries and transfer."""
    if transfer in _HDR_TRANSFERS:
        return Colour(is_hdr=True)
    gamma = _GAMMA_OF_TRANSFER.get(transfer)
    if gamma is None and transfer not in _SRGB_TRANSFERS:
        return Colour()
    chosen = PRIMARIES.get(primaries, SRGB_PRIMARIES)
    if gamma is None and (grey or chosen == SRGB_PRIMARIES):
        return Colour()
    return Colour(make_profile("PNG", Curve(gamma), None if grey else chosen))


def _primaries(chunk: bytes) -> Chromaticities:
    if len(chunk) < 32:
        return SRGB_PRIMARIES
    values = struct.unpack_from(">8I", chunk)
    near = all(abs(v - round(100000 * s)) < _NEAR / 4 for v, s in zip(values, SRGB_PRIMARIES, strict=True))
    if near or not all(0 < value <= 100000 for value in values[1::2]):
        return SRGB_PRIMARIES
    return tuple(value / 100000 for value in values)
