"""Formats of pictures: which files are taken for pictures, and how Pillow is made to open them.

Pillow opens what it knows, but for formats that are programs (EPS), films, or need another
program. Its own limit on pixels is not asked: ours is checked on the size that the file states.
"""

from __future__ import annotations

import io
import struct
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from threading import Lock

from PIL import Image

from softstair.errors import LimitExceeded, UnreadablePicture
from softstair.stream import MAGIC, MAX_PIXELS, MAX_SIDE

_NOT_PICTURES = {"EPS", "MPEG", "WMF", "BUFR", "GRIB", "HDF5", "IPTC", "STAIR"}
# Formats whose files nothing else begins like.
_SURE = {"PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "AVIF", "JPEG2000", "PSD"}
_UNABLE = (SyntaxError, IndexError, TypeError, KeyError, struct.error)
_SUFFIXES_OF = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo"),
    "WebP, AVIF": (".webp", ".avif", ".avifs"),
    "TIFF": (".tif", ".tiff"),
    "GIF, BMP": (".gif", ".bmp", ".dib"),
    "JPEG 2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PNM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "icons": (".ico", ".cur", ".icns"),
    "other": (
        *(".tga", ".icb", ".vda", ".vst", ".pcx", ".dcx", ".psd", ".qoi", ".sgi", ".bw", ".rgb", ".rgba"),
        *(".ras", ".xbm", ".xpm", ".dds", ".fits", ".fit", ".msp", ".im", ".pcd", ".blp", ".fli", ".flc"),
        ".pxr",
    ),
}
_SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES_OF.values() for suffix in suffixes)
# Formats that Pillow opens with another package, by suffix: its module, and what people call it.
_HEIF, _JPEG_XL = ("pillow_heif", "HEIC"), ("pillow_jxl", "JPEG XL")
_PLUGINS = dict.fromkeys((".heic", ".heif", ".hif", ".heics", ".heifs"), _HEIF) | {".jxl": _JPEG_XL}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_JXL_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_EXTRA = "pip install 'softstair[formats]'"
_lock = Lock()


@cache
def source_suffixes() -> frozenset[str]:
    """Suffixes, in small letters, of files in a folder that are encoded."""
    return _SUFFIXES | {suffix for suffix, plugin in _PLUGINS.items() if _is_installed(plugin)}


@cache
def missing_suffixes() -> dict[str, str]:
    """Suffixes of pictures that are not encoded, and why."""
    return {suffix: f"needs {_EXTRA}" for suffix, plugin in _PLUGINS.items() if not _is_installed(plugin)}


def is_picture_name(suffix: str) -> bool:
    """True if a name with this suffix promises a picture that is no .stair file."""
    return suffix.lower() in _SUFFIXES or suffix.lower() in _PLUGINS


def open_image(data: bytes, name: str) -> Image.Image:
    """The image of a file, its size known and its pixels not yet decoded; ``name`` is for messages.

    Raises:
        UnreadablePicture: not a picture, or one that needs another package.
        LimitExceeded: it states more pixels than can be encoded.
    """
    if data.startswith(MAGIC):
        raise UnreadablePicture(f"{name} is a .stair file already; softstair decode brings its picture back.")
    if not data:
        raise UnreadablePicture(f"{name} is empty.")
    _load_plugin(data, name)
    for initialise in (Image.preinit, Image.init):
        with _lock:
            initialise()
        image = _by_any_plugin(data, name)
        if image is not None:
            check_size(image.width, image.height, name)
            return image
    raise UnreadablePicture(f"{name} is not a picture in a format that can be read.")


def check_size(width: int, height: int, name: str) -> None:
    """Refuse a picture that no stream holds, or no decoder opens by default.

    Raises:
        LimitExceeded: too many pixels a side, or in all.
    """
    if max(width, height) > MAX_SIDE:
        raise LimitExceeded(
            f"{name} has {width}x{height} pixels; at most {MAX_SIDE} a side can be encoded; cut it up."
        )
    if width * height > MAX_PIXELS:
        raise LimitExceeded(
            f"{name} has {width}x{height} = {width * height} pixels; at most {MAX_PIXELS} can be encoded; "
            "cut it into parts or scale it down."
        )


def _by_any_plugin(data: bytes, name: str) -> Image.Image | None:
    found = ""
    for kind in list(Image.ID):
        if kind in _NOT_PICTURES:
            continue
        factory, accept = Image.OPEN[kind]
        try:
            if accept is None or accept(data[:16]) is True:
                image: Image.Image = factory(io.BytesIO(data), "")
                return image
        except _UNABLE as error:
            if kind in _SURE:
                found = (
                    f"{name} is {kind} and cannot be read ({reason_of(error)}): it is damaged, or of a rare "
                    "kind that another program may save with 8 or 16 bits a sample."
                )
            continue
        except (OSError, ValueError, OverflowError, EOFError) as error:
            raise UnreadablePicture(f"{name} cannot be decoded: {reason_of(error)}.") from error
    if found:
        raise UnreadablePicture(found)
    return None


def reason_of(error: Exception) -> str:
    """Why a file cannot be decoded, to be put into a sentence."""
    return str(error).rstrip(".") or type(error).__name__


def _load_plugin(data: bytes, name: str) -> None:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and b"avif" not in data[8:64]:
        plugin = _HEIF
    elif data.startswith(_JXL_STARTS):
        plugin = _JPEG_XL
    else:
        return
    module, spoken = plugin
    if not _is_installed(plugin):
        raise UnreadablePicture(f"{name} is {spoken}, which needs another package: {_EXTRA}.")
    with _lock:
        loaded = import_module(module)  # pillow_jxl registers itself
        if plugin is _HEIF:
            loaded.register_heif_opener()


def _is_installed(plugin: tuple[str, str]) -> bool:
    return find_spec(plugin[0]) is not None
