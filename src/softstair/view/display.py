"""Pixels as files that a browser shows as they are: lossless, upright, with their colour profile."""

from __future__ import annotations

import base64
import io
from typing import Any

from softstair.pictures import Picture, strip, to_pil

_WEBP_SIDE = 16383


def upright(picture: Picture) -> Picture:
    """The picture as it is meant to be seen: turned as its metadata says, with its profile alone."""
    return strip(picture, frozenset({"exif", "xmp"}))


def as_png(picture: Picture) -> bytes:
    """A PNG that is quick to write; it goes no further than this machine."""
    return _save(picture, "PNG", compress_level=1)


def as_data_url(picture: Picture) -> str:
    """A small lossless file in base64: WebP, or PNG where a side is too long for it."""
    if max(picture.pixels.shape[:2]) > _WEBP_SIDE:
        return _url("png", _save(picture, "PNG"))
    return _url("webp", _save(picture, "WEBP", lossless=True, quality=50, method=3, exact=False))


def _save(picture: Picture, kind: str, **options: Any) -> bytes:
    image = to_pil(upright(picture))
    if "icc_profile" in image.info:
        options["icc_profile"] = image.info["icc_profile"]
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
