"""The best file of a peer that is not larger than another codec's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from softstair.errors import TargetOutOfReach

from .codecs import Peer, Pixels

_KEPT = 16  # files of one picture; about two searches


@dataclass(frozen=True)
class Fitted:
    """A file. quality: the value of the peer's knob. seconds: that encoding it took, alone."""

    data: bytes
    quality: float
    seconds: float


class Fitter:
    """Fits one peer to sizes of one picture, uint8 (H, W, 3); what was coded before is remembered."""

    def __init__(self, peer: Peer, pixels: Pixels) -> None:
        self.peer, self._pixels = peer, pixels
        self._sizes: dict[float, int] = {}
        self._files: dict[float, Fitted] = {}

    def below(self, limit: int, check: Callable[[], None] = lambda: None) -> Fitted:
        """The largest file of at most ``limit`` bytes.

        Args:
            check: called before every encoding; raises to end the search.

        Raises:
            TargetOutOfReach: even the smallest file is larger.
        """
        ladder = self.peer.ladder
        low, high = 0, len(ladder)  # rungs below low fit, those from high on do not
        while low < high:
            middle = (low + high) // 2
            check()
            if self._size(ladder[middle]) <= limit:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            smallest = self._size(ladder[0])
            raise TargetOutOfReach(f"It cannot be as small as {limit} bytes; its smallest has {smallest}.")
        return self._file(ladder[low - 1])

    def _size(self, quality: float) -> int:
        if quality not in self._sizes:
            self._sizes[quality] = len(self._file(quality).data)
        return self._sizes[quality]

    def _file(self, quality: float) -> Fitted:
        if quality not in self._files:
            start = perf_counter()
            data = self.peer.encode(self._pixels, quality)
            self._files[quality] = Fitted(data, quality, perf_counter() - start)
            if len(self._files) > _KEPT:
                del self._files[next(iter(self._files))]
        return self._files[quality]
