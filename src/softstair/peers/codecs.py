"""Codecs that people have, run for real in this process.

All of them take 8-bit RGB pixels without metadata and return whole files. Threads are fixed to one
where the library lets us, as AVIF's bytes depend on their number.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import AvifImagePlugin, Image

Pixels = npt.NDArray[np.uint8]  # (H, W, 3), RGB

CHOSEN_CELLS = 32  # pixels; of codecs that choose the sizes of their blocks
# Steps of 5 %: JPEG 2000 by the compression ratio, JPEG XL by the distance, which ends at 25.
_RATIOS = tuple(round(1000 * 0.95**step, 2) for step in range(120))
_DISTANCES = tuple(round(25 * 0.95**step, 3) for step in range(110))


class Codec(Protocol):
    """A codec that can be measured. Must be picklable to be run by more than one job.

    name: unique in a run. settings, version: what else decides the bytes, for people to read.
    qualities: the values of its own knob to be measured. threads: that it is given. cells: pixels
    a side of the blocks that it works in, 32 where it chooses their size; None if it has none.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def qualities(self) -> tuple[float, ...]: ...
    @property
    def threads(self) -> int: ...
    @property
    def cells(self) -> int | None: ...

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """A whole file of pixels, uint8 (H, W, 3)."""

    def decode(self, data: bytes) -> Pixels:
        """Pixels of a file, uint8 (H, W, 3)."""


class Peer(Codec, Protocol):
    """A codec of others. ladder: values of its knob from the smallest file to the largest."""

    @property
    def ladder(self) -> Sequence[float]: ...


@dataclass(frozen=True)
class _Described:
    """What every peer says of itself, as in ``Codec``."""

    name: str
    settings: str
    version: str
    qualities: tuple[float, ...]


@dataclass(frozen=True)
class PillowPeer(_Described):
    """A format that Pillow writes. options: as for ``Image.save``; knob: the option of quality."""

    format: str
    options: tuple[tuple[str, Any], ...]
    threads: int = 1
    cells: int | None = None

    @property
    def ladder(self) -> Sequence[float]:
        return _RATIOS if self.format == "JPEG2000" else range(101)

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """A whole file; quality 0 to 100, for JPEG 2000 the compression ratio."""
        knob: dict[str, Any] = {"quality": int(quality)}
        if self.format == "JPEG2000":
            knob = {"quality_mode": "rates", "quality_layers": [quality]}
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, self.format, **dict(self.options), **knob)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        with _one_thread(AvifImagePlugin, "DEFAULT_MAX_THREADS"):
            image = Image.open(io.BytesIO(data), formats=[self.format])
            return np.asarray(image.convert("RGB"))


@dataclass(frozen=True)
class JpegXlPeer(_Described):
    """JPEG XL by imagecodecs; the knob is libjxl's distance."""

    effort: int
    threads: int = 1
    cells: int | None = CHOSEN_CELLS

    @property
    def ladder(self) -> Sequence[float]:
        return _DISTANCES

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """A whole file; quality is the distance, smaller for better pictures."""
        imagecodecs = import_module("imagecodecs")
        return bytes(
            imagecodecs.jpegxl_encode(
                pixels, distance=quality, effort=self.effort, lossless=False, numthreads=self.threads
            )
        )

    def decode(self, data: bytes) -> Pixels:
        return np.asarray(import_module("imagecodecs").jpegxl_decode(data, numthreads=self.threads))


@dataclass(frozen=True)
class HeicPeer(_Described):
    """HEIC by pillow-heif, that is x265 and libde265."""

    subsampling: str
    threads: int = 1
    cells: int | None = CHOSEN_CELLS

    @property
    def ladder(self) -> Sequence[float]:
        return range(101)

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """A whole file; quality 0 to 100."""
        buffer = io.BytesIO()
        height, width, _ = pixels.shape
        import_module("pillow_heif").encode(
            "RGB",
            (width, height),
            pixels.tobytes(),
            buffer,
            quality=int(quality),
            subsampling=self.subsampling,
            enc_params={"x265:pools": str(self.threads)},
        )
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        pillow_heif = import_module("pillow_heif")
        with _one_thread(pillow_heif.options, "DECODE_THREADS"):
            image = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True).to_pillow()
        return np.asarray(image.convert("RGB"))


@contextmanager
def _one_thread(module: ModuleType, option: str) -> Iterator[None]:
    """Both libraries take the number of decoder threads from a global alone."""
    before = getattr(module, option)
    setattr(module, option, 1)
    try:
        yield
    finally:
        setattr(module, option, before)
