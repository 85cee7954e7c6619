"""Networks and coders of a picture, and the tiles that they work on side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
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
    """Who works on a picture: all threads on one window, or a few on each of several tiles.

    Transforms are large enough to keep all threads busy; entropy coding is serial within a tile.
    """

    def __init__(self, bundle: Bundle, mode: Mode, threads: int, count: int, layers: int = 1) -> None:
        each = max(1, threads // count)
        self.whole = TileCoder(bundle, networks_of(bundle, threads, mode), mode, layers=layers)
        networks = networks_of(bundle, each, mode)
        self._each = TileCoder(bundle, networks, mode, parallel=each > 1, layers=layers)
        self._bundle, self._threads, self._mode, self.count = bundle, threads, mode, count

    def analysis_field(self) -> int:
        """The receptive field of the bundle's analysis, in cells on every side."""
        return _analysis_field(self._bundle, self._threads)

    def synthesis_field(self) -> int:
        """The receptive field of the bundle's synthesis, in cells on every side."""
        return _synthesis_field(self._bundle, self._threads, self._mode)

    def map(self, work: Callable[[TileCoder, Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Results in order, several items at a time."""
        if self.count == 1 or len(items) == 1:
            yield from (work(self._each, item) for item in items)
            return
        with ThreadPoolExecutor(self.count) as pool:
            yield from pool.map(lambda item: work(self._each, item), items)
