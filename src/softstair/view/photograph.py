"""A photograph through Softstair at any rate, and through peers at the same size.

What is coded are the pixels alone, without metadata and transparency: formats keep these in ways
that say nothing of how well they code pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from time import perf_counter

import numpy as np

from softstair.bundle import Bundle
from softstair.codec import PictureEncoder, Rate, choose_mode, decode_picture
from softstair.errors import TargetOutOfReach
from softstair.peers import Fitter, Pixels, find_peers, installed_peers
from softstair.pictures import Picture, fill_hidden

from .sources import open_photo
from .views import ORIGINAL, OWN, Check, Choice, Figures, Makers, View

_LABELS = {"jpeg-420": "JPEG", "webp": "WebP", "avif-420": "AVIF", "jxl-e7": "JPEG XL"}
_STRIPE = 256  # rows at a time


@dataclass(frozen=True)
class _File:
    position: int
    data: bytes
    knob: str
    seconds: float


class Photograph:
    """A photograph, decoded; analysed when it is first coded, and only once.

    Args:
        threads: of Softstair's networks; peers have one.

    Raises:
        SoftstairError: it cannot be read, or is too large.
    """

    def __init__(self, data: bytes, name: str, bundle: Bundle, threads: int) -> None:
        self.picture = open_photo(data, name)
        self._file_bytes, self._bundle, self._threads = len(data), bundle, threads
        self._bare = Picture(fill_hidden(self.picture.pixels, self.picture.alpha))
        self._rgb = self._bare.rgb
        self._latest: _File | None = None

    def makers(self) -> Makers:
        """Its views: the original, Softstair, the peers that are installed."""
        own = Choice(OWN, "Softstair", f"{self._bundle.name}, {choose_mode(self._bundle)}")
        found: Makers = {ORIGINAL: (Choice(ORIGINAL, "Original"), self._original), OWN: (own, self._own)}
        installed = {peer.name for peer in installed_peers()}
        for peer in find_peers(name for name in _LABELS if name in installed):
            choice = Choice(peer.name, _LABELS[peer.name], peer.settings)
            found[peer.name] = choice, partial(self._peer, Fitter(peer, self._rgb))
        return found

    def position_for(self, rate: Rate) -> int:
        """The rate position that is asked for, or that meets a target.

        Raises:
            TargetOutOfReach: none does.
        """
        return self._encoder[0].position_for(rate)

    def psnr(self, pixels: Pixels) -> float | None:
        """Of pixels (H, W, 3), in dB, over what can be seen; None if nothing differs."""
        squares, count = 0, 0
        for row in range(0, len(pixels), _STRIPE):
            stripe = slice(row, row + _STRIPE)
            difference = self._rgb[stripe].astype(np.int32) - pixels[stripe]
            if self.picture.alpha is not None:
                difference = difference[self.picture.alpha[stripe] > 0]
            squares += int(np.square(difference).sum(dtype=np.int64))
            count += difference.size
        return None if squares == 0 else float(10 * np.log10(255**2 * count / squares))

    def _original(self, _position: int, _check: Check) -> View:
        return View(Figures(ORIGINAL, None, "", self._file_bytes, self._bpp(self._file_bytes)), self.picture)

    def _own(self, position: int, _check: Check) -> View:
        def decode(data: bytes) -> Pixels:
            return decode_picture(data, self._bundle, threads=self._threads).rgb

        return self._view(OWN, self._encode(position), decode)

    def _peer(self, fitter: Fitter, position: int, check: Check) -> View:
        peer, limit = fitter.peer, len(self._encode(position).data)
        try:
            fitted = fitter.below(limit, check)
        except TargetOutOfReach as error:
            raise TargetOutOfReach(f"{_LABELS[peer.name]}: {error}") from error
        check()
        knob = f"{'distance' if peer.name.startswith('jxl') else 'quality'} {fitted.quality:g}"
        file = _File(position, fitted.data, knob, fitted.seconds)
        return self._view(peer.name, file, peer.decode)

    @cached_property
    def _encoder(self) -> tuple[PictureEncoder, float]:
        """With the seconds of the analysis, which every file needs."""
        encoder = PictureEncoder(self._bare, self._bundle, threads=self._threads)
        start = perf_counter()
        encoder.analyse()
        return encoder, perf_counter() - start

    def _encode(self, position: int) -> _File:
        """Every peer asks for the file at the position that the page is at: the latest is kept."""
        if self._latest is None or self._latest.position != position:
            encoder, analysis_seconds = self._encoder
            start = perf_counter()
            data = encoder.encode(position).data
            seconds = analysis_seconds + perf_counter() - start
            self._latest = _File(position, data, f"rate position {position}", seconds)
        return self._latest

    def _view(self, codec: str, file: _File, decode: Callable[[bytes], Pixels]) -> View:
        start = perf_counter()
        pixels = decode(file.data)
        milliseconds = 1e3 * file.seconds, 1e3 * (perf_counter() - start)
        size = len(file.data)
        figures = Figures(
            codec, file.position, file.knob, size, self._bpp(size), self.psnr(pixels), *milliseconds
        )
        kept = self.picture.metadata
        if self.picture.is_grey:
            kept = replace(kept, icc=None)  # a profile of grey does not fit to RGB
        return View(figures, Picture(pixels, self.picture.alpha, kept))

    def _bpp(self, size: int) -> float:
        return 8 * size / self._rgb[..., 0].size
