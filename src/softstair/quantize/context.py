"""Context networks, which a bundle may have: what symbols that were read say of those after them.

Integers alone; they run in the C++ core, and docs/format/context.md says how.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from softstair import _core

from .phases import PHASES
from .tables import TableSet

BLOCK = 16  # latents of a place that are read without knowing each other
NEAR = ((0, -2), (-2, 0), (-2, -2), (-2, 2))  # places of the same phase and group, rows and columns away
AROUND = ((0, -1), (-1, 0), (-1, -1), (-1, 1))  # neighbours of z, of which all channels count
OWN = (*AROUND, (0, -2), (-2, 0))  # and those of which only the channel itself does
HYPER_ROWS, MEAN_PARTS = 28, 8  # scales of z, and parts of a step that means lie at
FIRST_SCALE = 14  # row 0 of z has the scale 2 ** (-FIRST_SCALE / 4)
MEAN_PLACES = (4, 6)  # of the surprises of a channel: running means over some 2**4 and 2**6 places
SURPRISE_BITS, MEAN_BITS, WEIGHT_BITS, ROW_BITS = 7, 12, 12, 8  # of the network of a place
UNIT_BITS, SIGN_BITS, LARGEST_SIGN = 13, 7, 2  # of that of signs: half steps in units of their row
GROWTH_BITS, GROWING = 8, 9  # of a lean, with the magnitude of a level up to this one
HYPER_BITS, HIDDEN_BITS, HEAD_BITS = 12, 6, 9  # of that of z; its outputs are in 2**-15

Tensors = dict[str, npt.NDArray[Any]]


def reading_order(group: int) -> npt.NDArray[np.intp]:
    """The channels of a group in the order in which they are read at a place."""
    return np.arange(group).reshape(BLOCK, group // BLOCK).T.ravel()


@dataclass(frozen=True)
class PlaceContext:
    """What latents of a place say of others of the same phase there.

    weight: int16 (4, G, G), by group, output, input. near: int16 (4, 4, 6, G), by phase, group, ``NEAR`` and
    ``MEAN_PLACES``. expected, gain, bias: int16, of every table row.
    """

    weight: npt.NDArray[np.int16]
    near: npt.NDArray[np.int16]
    expected: npt.NDArray[np.int16]
    gain: npt.NDArray[np.int16]
    bias: npt.NDArray[np.int16]

    def build(self, *, simd: bool = True) -> _core.PlaceNetwork:
        """The network of the C++ core, with or without vector kernels; both give the same integers.

        Raises ValueError if anything is misshapen or too large.
        """
        return _core.PlaceNetwork(self.weight, self.near, self.expected, self.gain, self.bias, simd=simd)


@dataclass(frozen=True)
class SignContext:
    """What signs of latents of a place say of those of others of the same phase there.

    weight: int16 (4, G, G), by group, input, output. near: int16 (4, 4, 4, G), by phase, group and ``NEAR``.
    Channels of both are in the order of reading (``reading_order``). gain, unit, growth: int16, of every
    table row. skew: int16, of every lean, in 1/256.
    """

    weight: npt.NDArray[np.int16]
    near: npt.NDArray[np.int16]
    gain: npt.NDArray[np.int16]
    unit: npt.NDArray[np.int16]
    growth: npt.NDArray[np.int16]
    skew: npt.NDArray[np.int16]

    def build(self, *, simd: bool = True) -> _core.SignNetwork:
        """The network of the C++ core, with or without vector kernels; both give the same integers.

        Raises ValueError if anything is misshapen or too large.
        """
        return _core.SignNetwork(
            self.weight, self.near, self.gain, self.unit, self.growth, self.skew, simd=simd
        )


@dataclass(frozen=True)
class HyperContext:
    """Mean and scale of every z from what was read before.

    live: int32 (n,), the channels of z that it tells of; others keep their tables. around: int16
    (hidden, 4, n), of ``AROUND``. before: int16 (hidden, n). head: int16 (n, 2, hidden). own: int16
    (n, 2, 6), of ``OWN``. rate: int32 (points, hidden + 2 n). tables: a row for every scale and part of
    a step.
    """

    live: npt.NDArray[np.int32]
    around: npt.NDArray[np.int16]
    before: npt.NDArray[np.int16]
    head: npt.NDArray[np.int16]
    own: npt.NDArray[np.int16]
    rate: npt.NDArray[np.int32]
    tables: TableSet

    def build(self, channels: int, *, simd: bool = True) -> _core.HyperNetwork:
        """The same as of the others. channels: of z."""
        return _core.HyperNetwork(
            channels, self.live, self.around, self.before, self.head, self.own, self.tables.core, simd=simd
        )


@dataclass(frozen=True)
class Context:
    """The context networks that there are. signs: only beside place."""

    place: PlaceContext | None = None
    hyper: HyperContext | None = None
    signs: SignContext | None = None

    def build(
        self, channels: int, *, simd: bool
    ) -> tuple[_core.PlaceNetwork | None, _core.HyperNetwork | None, _core.SignNetwork | None]:
        """The networks of the C++ core that there are. channels: of z."""
        return (
            None if self.place is None else self.place.build(simd=simd),
            None if self.hyper is None else self.hyper.build(channels, simd=simd),
            None if self.signs is None else self.signs.build(simd=simd),
        )


_PLACE = {
    "place.weight": ("int16", 3),
    "place.near": ("int16", 4),
    "place.expected": ("int16", 1),
    "place.gain": ("int16", 1),
    "place.bias": ("int16", 1),
}
_SIGNS = {
    "sign.weight": ("int16", 3),
    "sign.near": ("int16", 4),
    "sign.gain": ("int16", 1),
    "sign.unit": ("int16", 1),
    "sign.growth": ("int16", 1),
    "sign.skew": ("int16", 1),
}
_HYPER = {
    "hyper.live": ("int32", 1),
    "hyper.around": ("int16", 3),
    "hyper.before": ("int16", 2),
    "hyper.head": ("int16", 3),
    "hyper.own": ("int16", 3),
    "hyper.rate": ("int32", 2),
}
_HYPER_TABLES = {
    "hyper.cdf": ("uint16", 1),
    "hyper.offsets": ("int32", 1),
}


def to_tensors(context: Context) -> Tensors:
    """The tensors of the entry ``context.safetensors``."""
    tensors: Tensors = {}
    if context.place is not None:
        tensors |= _fields(context.place, _PLACE)
    if context.signs is not None:
        tensors |= _fields(context.signs, _SIGNS)
    if context.hyper is not None:
        tensors |= _fields(context.hyper, _HYPER) | _fields(context.hyper.tables, _HYPER_TABLES)
    return tensors


def _fields(of: object, names: Iterable[str]) -> Tensors:
    return {name: getattr(of, name.partition(".")[2]) for name in names}


def from_tensors(tensors: Mapping[str, npt.NDArray[Any]]) -> Context:
    """The networks of an entry.

    Raises:
        ValueError: it holds other tensors, or none.
    """
    tensors = _of_today(tensors)
    found = {name: (str(value.dtype), value.ndim) for name, value in tensors.items()}
    has_place, has_hyper = "place.weight" in found, "hyper.live" in found
    has_signs = has_place and "sign.weight" in found
    expected = (
        (_PLACE if has_place else {})
        | (_SIGNS if has_signs else {})
        | (_HYPER | _HYPER_TABLES if has_hyper else {})
    )
    if not expected or found != expected:
        raise ValueError("it does not hold what it should")
    place = PlaceContext(*(tensors[name] for name in _PLACE)) if has_place else None
    signs = SignContext(*(tensors[name] for name in _SIGNS)) if has_signs else None
    hyper = None
    if has_hyper:
        tables = TableSet(*(tensors[name] for name in _HYPER_TABLES))
        live, around, before, head, own, rate = (tensors[name] for name in _HYPER)
        hyper = HyperContext(live, around, before, head, own, rate, tables)
    return Context(place, hyper, signs)


def _of_today(tensors: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
    """The tensors as bundles have them today; older ones see the same in all phases, and whole half steps."""
    result = dict(tensors)
    near, gain = tensors.get("place.near"), tensors.get("sign.gain")
    if near is not None and near.ndim == 3:
        means = ((0, 0), (0, len(MEAN_PLACES)), (0, 0))
        padded = np.pad(near, means)
        result["place.near"] = np.ascontiguousarray(np.broadcast_to(padded, (PHASES, *padded.shape)))
    if gain is not None and not {"sign.unit", "sign.growth"} & tensors.keys():
        result["sign.unit"] = np.full(gain.shape, 1 << UNIT_BITS, np.int16)
        result["sign.growth"] = np.zeros(gain.shape, np.int16)
    return result
