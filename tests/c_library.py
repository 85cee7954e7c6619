"""The C library through ctypes: what ``softstair.h`` declares."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "core"  # of `make core-tests`
LIBRARY = BUILD / "libsoftstair.so"

OK, USAGE, NOT_A_STAIR_FILE, UNSUPPORTED, TRUNCATED, CORRUPT, LIMIT = 0, 2, 3, 4, 5, 6, 7
INVALID_BUNDLE, WRONG_BUNDLE, STOPPED = 8, 9, 11
ICC, EXIF, XMP, IPTC = range(4)


def golden_stream(name: str) -> bytes:
    """A stream of version 1."""
    return (ROOT / "tests" / "golden" / "v1" / f"{name}.stair").read_bytes()


_Progress = ctypes.CFUNCTYPE(c_int, c_void_p, ctypes.c_double)


class Options(ctypes.Structure):
    _fields_ = (
        *((name, c_uint32) for name in ("left", "top", "width", "height", "divisor", "channels")),
        ("max_pixels", c_uint64),
        ("max_memory", c_uint64),
        ("allow_partial", c_uint32),
        ("progress", _Progress),
        ("context", c_void_p),
    )


class _Picture(ctypes.Structure):
    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("channels", c_uint32),
        ("incomplete", c_uint32),
        ("pixels", POINTER(c_uint8)),
    )


class Info(ctypes.Structure):
    _fields_ = (
        *(
            (name, c_uint32)
            for name in (
                "width",
                "height",
                "colour",
                "has_alpha",
                "version",
                "mode",
                "rate_position",
                "tiles",
                "exact_tiles",
            )
        ),
        ("fingerprint", c_uint8 * 8),
    )


class Failure(Exception):
    """A call that did not return STAIR_OK."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Library:
    """Each call raises Failure with the library's code and text."""

    handle: ctypes.CDLL

    @classmethod
    def load(cls, path: Path = LIBRARY) -> Library:
        handle = ctypes.CDLL(str(path))
        handle.stair_error_text.restype = c_char_p
        handle.stair_default_options.restype = Options
        handle.stair_bundle_fingerprint.restype = POINTER(c_uint8)
        handle.stair_bundle_fingerprint.argtypes = [c_void_p]
        handle.stair_bundle_free.argtypes = [c_void_p]
        handle.stair_bundle_free.restype = None
        handle.stair_bundle_open.argtypes = [c_char_p, c_size_t, POINTER(c_void_p)]
        handle.stair_info.argtypes = [c_char_p, c_size_t, POINTER(Info)]
        handle.stair_metadata.argtypes = [
            c_char_p,
            c_size_t,
            c_int,
            POINTER(POINTER(c_uint8)),
            POINTER(c_size_t),
        ]
        handle.stair_block_free.argtypes = [POINTER(c_uint8)]
        handle.stair_block_free.restype = None
        handle.stair_decode.argtypes = [
            c_void_p,
            c_char_p,
            c_size_t,
            POINTER(Options),
            POINTER(_Picture),
        ]
        handle.stair_free.argtypes = [POINTER(_Picture)]
        handle.stair_free.restype = None
        handle.stair_symbol_hash.argtypes = [c_void_p, c_char_p, c_size_t, c_uint8 * 32]
        return cls(handle)

    def _check(self, code: int) -> None:
        if code != OK:
            raise Failure(code, self.handle.stair_error_text().decode())

    def open_bundle(self, data: bytes) -> c_void_p:
        bundle = c_void_p()
        self._check(self.handle.stair_bundle_open(data, len(data), byref(bundle)))
        return bundle

    def free_bundle(self, bundle: c_void_p) -> None:
        self.handle.stair_bundle_free(bundle)

    def fingerprint(self, bundle: c_void_p) -> bytes:
        return bytes(self.handle.stair_bundle_fingerprint(bundle)[:8])

    def info(self, data: bytes) -> Info:
        info = Info()
        self._check(self.handle.stair_info(data, len(data), byref(info)))
        return info

    def metadata(self, data: bytes, kind: int) -> bytes | None:
        block, size = POINTER(c_uint8)(), c_size_t()
        self._check(self.handle.stair_metadata(data, len(data), kind, byref(block), byref(size)))
        if not block:
            return None
        content = bytes(block[: size.value])
        self.handle.stair_block_free(block)
        return content

    def options(self, **changes: object) -> Options:
        options: Options = self.handle.stair_default_options()
        for name, value in changes.items():
            setattr(options, name, _Progress(value) if name == "progress" else value)
        return options

    def decode(self, bundle: c_void_p | None, data: bytes, **changes: object) -> npt.NDArray[np.uint8]:
        """(H, W, channels); grey without alpha is (H, W)."""
        return self._decode(bundle, data, changes)[0]

    def decode_partial(
        self, bundle: c_void_p | None, data: bytes, **changes: object
    ) -> tuple[npt.NDArray[np.uint8], str | None]:
        """What there is of a picture, and the sentence on what is missing."""
        return self._decode(bundle, data, {"allow_partial": 1, **changes})

    def _decode(
        self, bundle: c_void_p | None, data: bytes, changes: dict[str, object]
    ) -> tuple[npt.NDArray[np.uint8], str | None]:
        options, picture = self.options(**changes), _Picture()
        self._check(self.handle.stair_decode(bundle, data, len(data), byref(options), byref(picture)))
        damage = self.handle.stair_error_text().decode() if picture.incomplete else None
        shape = (picture.height, picture.width, picture.channels)
        pixels = np.ctypeslib.as_array(picture.pixels, shape).copy()
        self.handle.stair_free(byref(picture))
        return pixels[..., 0] if shape[2] == 1 else pixels, damage

    def symbol_hash(self, bundle: c_void_p, data: bytes) -> str:
        digest = (c_uint8 * 32)()
        self._check(self.handle.stair_symbol_hash(bundle, data, len(data), digest))
        return bytes(digest).hex()
