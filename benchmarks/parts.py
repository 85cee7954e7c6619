"""Where the time of decoding goes: seconds of the processor in each part, of a run with one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from softstair import _core
from softstair.codec import means, tile
from softstair.engine.onnx_runtime import OnnxNetworks

SYMBOLS, BASE, PHASES = (
    "symbols of z and y",
    "mean network, what all phases share",
    "mean network, four phases",
)
PUT, SYNTHESIS, PIXELS = "putting y^ together", "synthesis", "rounding pixels"
HEAD, ICON, REST = "preview head", "icon network", "all else"
# What is called in each part; no one of them calls another.
_CALLS: tuple[tuple[str, Any, str], ...] = (
    (SYMBOLS, tile.TileCoder, "open_tile"),
    (SYMBOLS, tile.TileCoder, "read_phase"),
    (BASE, OnnxNetworks, "mean_base"),
    (PHASES, means.Means, "in_turn"),
    (PHASES, means.MeansInTurn, "expect"),
    (PUT, _core, "reconstruct_phase"),
    (PUT, _core, "reconstruct_places"),
    (SYNTHESIS, OnnxNetworks, "synthesis"),
    (PIXELS, _core, "to_pixels"),
    (HEAD, OnnxNetworks, "preview"),
    (ICON, OnnxNetworks, "icon"),
)


def parts_of(action: Callable[[], object]) -> dict[str, float]:
    """Seconds by part; their sum is all of it."""
    spent = dict.fromkeys([part for part, _, _ in _CALLS] + [REST], 0.0)
    with ExitStack() as stack:
        for part, owner, name in _CALLS:
            stack.enter_context(patch.object(owner, name, _timed(getattr(owner, name), spent, part)))
        with _adding(spent, REST):
            action()
    spent[REST] -= sum(seconds for part, seconds in spent.items() if part != REST)
    return spent


def shares(spent: dict[str, float]) -> dict[str, str]:
    """The same in percent of all of it; parts that took no time are left out."""
    whole = sum(spent.values())
    return {part: f"{100 * seconds / whole:.0f} %" for part, seconds in spent.items() if seconds}


def _timed(call: Callable[..., object], spent: dict[str, float], part: str) -> Callable[..., object]:
    def timed(*arguments: Any, **named: Any) -> object:
        with _adding(spent, part):
            return call(*arguments, **named)

    return timed


@contextmanager
def _adding(spent: dict[str, float], part: str) -> Iterator[None]:
    start = time.process_time()
    yield
    spent[part] += time.process_time() - start
