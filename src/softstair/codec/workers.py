"""Networks and coders of a picture, and the tiles that they work on side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TypeVar

from softstair.bundle import Bundle
from softstair.engine import Engine, choose_engine, load_networks
from softstair.engine.checked import CheckedNetworks
from softstair.mode import Mode

from .receptive_field import analysis_field, synthesis_field
from .tile import TileCoder

Item = TypeVar("Item")
Result = TypeVar("Result")


def networks_of(bundle: Bundle, threads: int, mode: Mode | None = None) -> CheckedNetworks:
    """The networks of a bundle, kept so that a second picture does not load them again.

    mode: whose synthesis is wanted; modes that share all networks share what is kept.
    """
    return _networks(bundle, threads, choose_engine(), mode if mode in bundle.own_syntheses else None)


@lru_cache(maxsize=8)  # a bundle and its packs take turns at every picture
def _networks(bundle: Bundle, threads: int, engine: Engine, mode: Mode | None) -> CheckedNetworks:
    return load_networks(bundle, threads, engine, mode)


@lru_cache(maxsize=4)
def _analysis_field(bundle: Bundle, threads: int) -> int:
    return analysis_field(networks_of(bundle, threads).unchecked)


@lru_cache(maxsize=4)
def _synthesis_field(bundle: Bundle, threads: int, mode: Mode) -> int:
    networks = networks_of(bundle, threads, mode).unchecked
    return synthesis_field(networks, bundle.channels, bundle.points)


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Who works on a picture: all threads on one part of it, or a few on each of several.

    Entropy coding is serial within a tile, and of a transform some steps are.

    count, windows: how many tiles and windows are worked on at once.
    """

    def __init__(
        self, bundle: Bundle, mode: Mode, threads: int, count: int, layers: int = 1, windows: int = 1
    ) -> None:
        def coder(at_once: int, *, parallel: bool = False) -> TileCoder:
            networks = networks_of(bundle, max(1, threads // at_once), mode)
            return TileCoder(bundle, networks, mode, parallel=parallel, layers=layers)

        self.whole = coder(1)
        self._of_tile, self._of_window = coder(count, parallel=threads // count > 1), coder(windows)
        self._bundle, self._threads, self._mode, self.count = bundle, threads, mode, count
        self._windows = windows

    def analysis_field(self) -> int:
        """The receptive field of the bundle's analysis, in cells on every side."""
        return _analysis_field(self._bundle, self._threads)

    def synthesis_field(self, smoothing: int) -> int:
        """The receptive field of the bundle's synthesis, in cells on every side.

        A smoothing sees two pixels more. Of those the synthesis makes all but the last ten-thousandth of a
        grey level without the next cell.
        """
        field = _synthesis_field(self._bundle, max(1, self._threads // self._windows), self._mode)
        return max(field, smoothing > 0)

    def map(self, work: Callable[[TileCoder, Item], Result], tiles: Sequence[Item]) -> Iterator[Result]:
        """Results in order, several tiles at a time."""
        return _at_once(partial(work, self._of_tile), tiles, self.count)

    def map_windows(
        self, work: Callable[[TileCoder, Item], Result], windows: Sequence[Item]
    ) -> Iterator[Result]:
        """The same of windows."""
        return _at_once(partial(work, self._of_window), windows, self._windows)


def _at_once(work: Callable[[Item], Result], items: Sequence[Item], count: int) -> Iterator[Result]:
    if count == 1 or len(items) == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(work, items)
