"""The file itself: its entries, their checks, and what is read from them.

A bundle is opened read-only, and every entry is checked before it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from softstair.errors import BundleError, InvalidBundle, UsageError
from softstair.graphs import check_graph
from softstair.mode import Mode
from softstair.quantize.context import Context, from_tensors
from softstair.quantize.grids import LAYERS
from softstair.quantize.rates import interpolate
from softstair.quantize.scale_network import Layer, ScaleWeights
from softstair.quantize.setting import Coding, Integers, Setting
from softstair.quantize.staircase import Encoding, Staircase, check_thresholds
from softstair.quantize.tables import TableSet
from softstair.whole_file import write_whole

SCHEMA = 1
GRAPHS = ("analysis", "hyper_analysis", "mean_base", "mean", "synthesis")
# Entries that decide what a stream decodes to, in the order in which they are hashed.
_DECIDING = (
    "staircases.json",
    "scale.safetensors",
    "tables.safetensors",
    "mean_base.onnx",
    "mean.onnx",
    "synthesis.onnx",
)
_ENCODING = ("analysis.onnx", "hyper_analysis.onnx")  # a bundle for decoding alone lacks them
_ENTRIES = ("manifest.json", *_DECIDING, *_ENCODING)
CONTEXT = "context.safetensors"
# Syntheses of modes that have one of their own, and context networks: they decide as well, and come last.
_OPTIONAL = (*(f"synthesis.{mode}.onnx" for mode in Mode), CONTEXT)
PREVIEW = "preview.onnx"  # makes small pictures sooner; decides nothing
ICON = "icon.onnx"  # the smallest, sooner still
_SMALL = (PREVIEW, ICON)
_MAX_BYTES = 256 << 20
# What zipfile raises of damaged files, beside what it is given to read.
UNREADABLE = (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError)
_MAX_BASE = 1 << 20  # of the rule that selects table rows, far beyond any log-scale


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle says of itself. Nothing here decides decoding."""

    schema: int
    name: str
    licence: str
    description: str
    provenance: dict[str, Any]
    figures: dict[str, Any]
    encoding: Encoding = Encoding()


class Staircases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Quantizers by rate point.

    gains: e_c of every rate point and channel, 1/32 octave, so that the gain is
    ``2**((d + e_c) / 32)``. base: where table rows begin (``RowRule``). modes: those that the
    bundle has tables for.
    """

    gains: list[list[int]]
    base: int
    modes: dict[str, Staircase]


class Bundle:
    """An opened bundle. Immutable; may be shared between threads.

    base: of a bundle that a pack was merged into, its fingerprint before; ``fingerprint`` is the pack's.
    """

    def __init__(self, entries: Mapping[str, bytes], origin: str, *, base: bytes | None = None) -> None:
        self.origin, self.base = origin, base
        self._entries = dict(entries)
        self.manifest: Manifest = self._decode("manifest.json", Manifest)
        if self.manifest.schema != SCHEMA:
            raise InvalidBundle(
                f"Bundle {origin} has schema {self.manifest.schema}, this release reads {SCHEMA}; update it."
            )
        self._staircases: Staircases = self._decode("staircases.json", Staircases)
        self._check_staircases()
        self.integers = self._read_integers()
        self.fingerprint = fingerprint(entries)
        try:
            for mode in self.modes:
                self.at(0, mode)
        except ValueError as error:
            raise InvalidBundle(f"Bundle {origin} contradicts itself: {error}.") from error

    @property
    def name(self) -> str:
        """As its manifest has it."""
        return self.manifest.name

    @property
    def channels(self) -> int:
        """Number of latents at a place."""
        return self.integers.channels

    @property
    def points(self) -> int:
        """Number of rate points; positions run from 0 to 16 * (points - 1)."""
        return self.integers.points

    @property
    def last_position(self) -> int:
        """The rate position of the finest steps; the coarsest have 0."""
        return self.integers.last_position

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(map(len, self._entries.values()))

    @property
    def entries(self) -> Mapping[str, bytes]:
        """All entries by name, as ``write_bundle`` takes them."""
        return MappingProxyType(self._entries)

    def graph(self, name: str, mode: Mode | None = None) -> bytes:
        """An ONNX graph, one of ``GRAPHS``, preview or icon; the one of a mode, where that has its own.

        Raises:
            BundleError: it is of the encoder, and the bundle is for decoding alone.
        """
        own = self._entries.get(f"{name}.{mode}.onnx") or self._entries.get(f"{name}.onnx")
        if own is None:
            raise BundleError(f"Bundle {self.name} can only decode: it holds no {name}.")
        return own

    @property
    def encodes(self) -> bool:
        """False if it is for decoding alone."""
        return all(name in self._entries for name in _ENCODING)

    @property
    def previews(self) -> bool:
        """True if it holds the graph preview."""
        return PREVIEW in self._entries

    @property
    def icons(self) -> bool:
        """True if it holds the graph icon."""
        return ICON in self._entries

    @property
    def own_syntheses(self) -> tuple[Mode, ...]:
        """Modes whose synthesis is not that of the others."""
        return tuple(mode for mode in Mode if f"synthesis.{mode}.onnx" in self._entries)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Modes that streams of this bundle can have."""
        return tuple(mode for mode in Mode if mode in self._staircases.modes)

    @property
    def most_smoothing(self) -> int:
        """The largest that ``smoothing_at`` gives."""
        return max(self.manifest.encoding.smoothing, default=0)

    def smoothing_at(self, position: int, mode: Mode, grain: float = 0.0) -> int:
        """What an encoder asks a decoder for at a rate position, in grey levels; 0: none.

        Without a trellis there is none: such files are for pictures that are saved again and again.

        grain: of the picture, from 0 to 1.
        """
        encoding = self.manifest.encoding
        if not encoding.smoothing or not mode.is_trellis:
            return 0
        share = 1 + grain * (encoding.smoothing_of_grain - 1)
        return round(share * int(interpolate(np.array(encoding.smoothing, np.int32), position)))

    def at(self, position: int, mode: Mode, *, simd: bool = True, layer: int = 0) -> Setting:
        """All there is at a rate position in a mode, as of ``Integers``."""
        return self.integers.at(position, mode, simd=simd, layer=layer)

    def mode_named(self, name: str) -> Mode:
        """A mode that the bundle has.

        Raises:
            UsageError: it does not.
        """
        if name not in self.modes:
            raise UsageError(f"Bundle {self.name} has no mode {name}; it has {', '.join(self.modes)}.")
        return Mode(name)

    @cached_property
    def bounds(self) -> dict[str, int]:
        """The largest accumulator of every layer of the scale network."""
        return self.integers.scale.bounds()

    def _decode(self, name: str, kind: Any) -> Any:
        try:
            return msgspec.json.decode(self._entries[name], type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise InvalidBundle(f"Entry {name} of bundle {self.origin} is not valid: {error}.") from error

    def _check_staircases(self) -> None:
        gains, modes = self._staircases.gains, self._staircases.modes
        if not modes or set(modes) - set(Mode) or self.manifest.encoding.mode not in modes:
            raise InvalidBundle(f"Bundle {self.origin} has modes that this release does not know.")
        if set(self.own_syntheses) - set(modes):
            raise InvalidBundle(f"Bundle {self.origin} has a synthesis for a mode that it does not have.")
        if any(len(staircase.levels) not in (0, len(gains)) for staircase in modes.values()):
            raise InvalidBundle(f"Bundle {self.origin} has levels and gains for different rate points.")
        self._check_thresholds()
        if not 2 <= len(gains) <= 17 or len({len(row) for row in gains}) != 1:
            raise InvalidBundle(f"Bundle {self.origin} has a ragged or empty list of gains.")
        if any(abs(value) > 1024 for row in gains for value in row):
            raise InvalidBundle(f"Bundle {self.origin} has gains beyond 32 octaves.")
        if abs(self._staircases.base) > _MAX_BASE:
            raise InvalidBundle(f"Bundle {self.origin} has tables that begin beyond any log-scale.")

    def _check_thresholds(self) -> None:
        encoding, modes = self.manifest.encoding, self._staircases.modes
        if len(encoding.smoothing) not in (0, len(self._staircases.gains)):
            raise InvalidBundle(f"Bundle {self.origin} needs a smoothing at every rate point.")
        lists: list[tuple[list[list[int]], list[list[int]]]] = []
        if encoding.z_thresholds:
            lists.append((encoding.z_thresholds, []))
        lists += [(rows, modes[mode].levels) for mode, rows in encoding.thresholds.items() if mode in modes]
        for rows, levels in lists:
            if len(rows) != len(self._staircases.gains) or len(set(map(len, rows))) != 1:
                raise InvalidBundle(f"Bundle {self.origin} needs as many thresholds at every rate point.")
            try:
                for row, row_levels in zip(rows, levels or [[]] * len(rows), strict=True):
                    check_thresholds(row, row_levels)
            except ValueError as error:
                raise InvalidBundle(f"Bundle {self.origin} contradicts itself: {error}.") from error

    def _tensors(self, name: str, expected: Mapping[str, tuple[str, int]]) -> dict[str, npt.NDArray[Any]]:
        """Tensors of a safetensors entry with their expected dtype and dimensions."""
        tensors = load_tensors(self._entries, name, f"bundle {self.origin}")
        found = {key: (str(value.dtype), value.ndim) for key, value in tensors.items()}
        if found != dict(expected):
            raise InvalidBundle(f"Entry {name} of bundle {self.origin} does not hold what it should.")
        return tensors

    def _read_context(self) -> Context:
        if CONTEXT not in self._entries:
            return Context()
        try:
            context = from_tensors(load_tensors(self._entries, CONTEXT, f"bundle {self.origin}"))
            if context.hyper is not None and len(context.hyper.rate) != len(self._staircases.gains):
                raise ValueError("it has biases for other rate points than there are gains")
        except ValueError as error:
            raise InvalidBundle(f"Entry {CONTEXT} of bundle {self.origin} is not valid: {error}.") from error
        return context

    def _read_scale(self) -> ScaleWeights:
        expected = {f"{layer}.weight": ("int16", 4) for layer in LAYERS}
        expected |= {f"{layer}.bias": ("int32", 1) for layer in LAYERS}
        expected |= {"rate_bias": ("int32", 2), "phase_bias": ("int32", 2)}
        tensors = self._tensors("scale.safetensors", expected)
        if len(tensors["rate_bias"]) != len(self._staircases.gains):
            raise InvalidBundle(f"Bundle {self.origin} has biases and gains for different rate points.")
        layers = {name: Layer(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in LAYERS}
        return ScaleWeights(layers, tensors["rate_bias"], tensors["phase_bias"])

    def _read_integers(self) -> Integers:
        scale, staircases, encoding = self._read_scale(), self._staircases, self.manifest.encoding
        kinds = {"cdf": ("uint16", 1), "offsets": ("int32", 1)}
        parts = ["z", *(f"y.{mode}" for mode in self.modes)]
        expected = {f"{part}.{name}": kind for part in parts for name, kind in kinds.items()}
        tensors = self._tensors("tables.safetensors", expected)
        y = {mode: TableSet(tensors[f"y.{mode}.cdf"], tensors[f"y.{mode}.offsets"]) for mode in self.modes}
        z = TableSet(tensors["z.cdf"], tensors["z.offsets"])
        try:
            _ = z.core, *(tables.core for tables in y.values())
        except ValueError as error:
            raise InvalidBundle(f"The tables of bundle {self.origin} are not valid: {error}.") from error
        if z.rows != len(staircases.gains) * scale.layers["hyper"].weight.shape[1]:
            raise InvalidBundle(f"Bundle {self.origin} needs a z table for every rate point and channel.")
        codings = {
            mode: Coding(
                staircases.modes[mode],
                tables,
                encoding.rate_weights.get(mode, 0.0),
                encoding.thresholds.get(mode, []),
                encoding.context_in_search,
            )
            for mode, tables in y.items()
        }
        gains = np.array(staircases.gains, np.int32)
        return Integers(
            scale, gains, staircases.base, z, codings, encoding.z_thresholds, self._read_context()
        )


def load_tensors(entries: Mapping[str, bytes], name: str, owner: str) -> dict[str, npt.NDArray[Any]]:
    """Tensors of a safetensors entry of ``owner``, which messages name.

    Raises:
        InvalidBundle: there are none.
    """
    try:
        return load_safetensors(entries[name])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InvalidBundle(f"Entry {name} of {owner} is not valid: {error}.") from error


def fingerprint(entries: Mapping[str, bytes]) -> bytes:
    """The first 8 bytes of the SHA-256 over the entries that decide decoding, names included."""
    digest = hashlib.sha256()
    for name in (*_DECIDING, *(name for name in _OPTIONAL if name in entries)):
        digest.update(f"{name}\0{len(entries[name])}\0".encode())
        digest.update(entries[name])
    return digest.digest()[:8]


def write_bundle(path: Path, entries: Mapping[str, bytes]) -> None:
    """Write a bundle, whole or not at all."""
    write_whole(path, packed_bundle(entries))


def packed_bundle(entries: Mapping[str, bytes]) -> bytes:
    """The file of a bundle: a ZIP without compression and without dates."""
    return zipped(entries, (name for name in (*_ENTRIES, *_OPTIONAL, *_SMALL) if name in entries))


def zipped(entries: Mapping[str, bytes], names: Iterable[str]) -> bytes:
    """Some entries as a ZIP without compression and without dates."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), entries[name])
    return buffer.getvalue()


def read_bundle(data: bytes, origin: str, *, is_own: bool = False) -> Bundle:
    """A bundle from its bytes; ``origin`` names it in messages.

    is_own: it came with this package, and its graphs are trusted as the code is.

    Raises:
        InvalidBundle: damaged, or not a bundle.
    """
    entries = unpacked(data, f"Bundle {origin}", _MAX_BYTES)
    if set(entries) - {*_OPTIONAL, *_ENCODING, *_SMALL} != set(_ENTRIES) - set(_ENCODING):
        raise InvalidBundle(f"Bundle {origin} does not hold the entries that a bundle needs.")
    if not is_own:
        _check_graphs(entries, origin)
    return Bundle(entries, origin)


def unpacked(data: bytes, what: str, limit: int) -> dict[str, bytes]:
    """Entries of a ZIP without compression, of ``limit`` bytes at most; ``what`` begins messages.

    Raises:
        InvalidBundle: it is none, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            if len(archive.infolist()) != len(infos):
                raise InvalidBundle(f"{what} has two entries of one name.")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos.values()):
                raise InvalidBundle(f"{what} has compressed entries.")
            if sum(info.file_size for info in infos.values()) > min(limit, len(data)):
                raise InvalidBundle(f"{what} declares more than it holds.")
            return {name: archive.read(name) for name in infos}
    except (OSError, *UNREADABLE) as error:
        raise InvalidBundle(f"{what} is not a readable ZIP file: {error}.") from error


def _check_graphs(entries: Mapping[str, bytes], origin: str) -> None:
    for name in entries:
        graph, _, rest = name.partition(".")
        if rest.endswith("onnx"):
            try:
                check_graph(entries[name], graph)
            except ValueError as error:
                raise InvalidBundle(f"Graph {name} of bundle {origin} is refused: it has {error}.") from error


def to_json(value: object) -> bytes:
    """JSON as bundles hold it: sorted keys, one line."""
    return json.dumps(msgspec.to_builtins(value), sort_keys=True, separators=(",", ":")).encode()
