"""The pack (.pack): what adapts a bundle to a domain, and how it changes the bundle's entries.

docs/format/pack.md is the specification. A pack is merged when it is opened: what comes out is a bundle
like any other, whose fingerprint is the pack's. So both are the same on every machine: sums are made in
float32 one after the other, and what is written anew is written by one rule.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_safetensors

from softstair.errors import InvalidBundle, UsageError
from softstair.graphs import weights_of
from softstair.quantize.grids import LAYERS
from softstair.whole_file import write_whole

from .format import (
    CONTEXT,
    GRAPHS,
    ICON,
    UNREADABLE,
    Bundle,
    Manifest,
    load_tensors,
    to_json,
    unpacked,
    zipped,
)

SCHEMA = 1
_MAX_BYTES = 64 << 20
_PARTS = ("adapters", "integers", "tables")
_ENTRIES = ("pack.json", *(f"{part}.safetensors" for part in _PARTS))
_MAX_INTEGER = 1 << 30  # of a sum of biases, which the core checks for good
_DTYPES = {"uint8": "U8", "int16": "I16", "int32": "I32", "uint16": "U16"}
_KINDS = {"signs": np.dtype(np.uint8), "rows": np.dtype(np.float16), "columns": np.dtype(np.float16)}
_KINDS |= {"add": np.dtype(np.float16)}

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]


class PackManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pack says of itself.

    bundle, fingerprint: in hex, of the bundle that it changes and of what it makes of it. bundle_name: for
    people. figures: what was measured.
    """

    schema: int
    name: str
    bundle: str
    bundle_name: str
    fingerprint: str
    licence: str
    description: str
    provenance: dict[str, Any]
    figures: dict[str, Any]


class Pack:
    """An opened pack. Immutable.

    adapters: ``GRAPH/WEIGHT/signs`` (packed bits), ``/rows`` (outputs,), ``/columns`` (the rest,), ``/add``
    (of the weight's shape); all but the bits in half precision. integers: ``gains`` (points, C),
    ``LAYER.bias``, ``rate_bias``, ``phase_bias``, what is added to the bundle's, int16 or int32. tables:
    ``z`` and ``y.MODE``, ``.cdf`` and ``.offsets``, in place of the bundle's. context: in place of all of the
    bundle's; empty if that stays.

    Raises:
        InvalidBundle: an entry is damaged or missing.
    """

    def __init__(self, entries: Mapping[str, bytes], origin: str) -> None:
        self.origin = origin
        self._entries = dict(entries)
        self.manifest = _manifest(entries["pack.json"], origin)
        self.adapters, self.integers, self.tables = (
            load_tensors(self._entries, f"{part}.safetensors", f"pack {origin}") for part in _PARTS
        )
        has_context = CONTEXT in self._entries
        self.context = load_tensors(self._entries, CONTEXT, f"pack {origin}") if has_context else {}

    @property
    def name(self) -> str:
        """As its manifest has it."""
        return self.manifest.name

    @property
    def fingerprint(self) -> bytes:
        """Of the bundle with the pack in it."""
        return bytes.fromhex(self.manifest.fingerprint)

    @property
    def bundle(self) -> bytes:
        """The fingerprint of the bundle that it changes."""
        return bytes.fromhex(self.manifest.bundle)

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(map(len, self._entries.values()))

    @property
    def entries(self) -> Mapping[str, bytes]:
        """All entries by name, as ``write_pack`` takes them."""
        return MappingProxyType(self._entries)


def read_pack(data: bytes, origin: str) -> Pack:
    """A pack from its bytes; ``origin`` names it in messages.

    Raises:
        InvalidBundle: damaged, or not a pack.
    """
    entries = unpacked(data, f"Pack {origin}", _MAX_BYTES)
    if set(entries) - {CONTEXT} != set(_ENTRIES):
        raise InvalidBundle(f"Pack {origin} does not hold the entries that a pack needs.")
    return Pack(entries, origin)


def read_manifest(path: Path) -> PackManifest:
    """What the pack in a file says of itself; the rest of it is not read.

    Raises:
        InvalidBundle: damaged, or not a pack.
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("pack.json").file_size > _MAX_BYTES:
                raise InvalidBundle(f"Pack {path} declares more than it holds.")
            return _manifest(archive.read("pack.json"), str(path))
    except (KeyError, *UNREADABLE) as error:
        raise InvalidBundle(f"Pack {path} is not a readable ZIP file: {error}.") from error


def write_pack(path: Path, entries: Mapping[str, bytes]) -> None:
    """Write a pack: a ZIP without compression and without dates, whole or not at all."""
    write_whole(path, zipped(entries, [name for name in (*_ENTRIES, CONTEXT) if name in entries]))


def pack_entries(
    bundle: Bundle,
    adapters: Tensors,
    integers: Tensors,
    tables: Tensors,
    context: Tensors | None = None,
    *,
    name: str,
    licence: str,
    description: str,
    provenance: dict[str, Any],
    figures: dict[str, Any],
) -> dict[str, bytes]:
    """Entries of a pack for a bundle, its fingerprint computed.

    Args:
        adapters, integers, tables, context: as ``Pack`` has them.
        name, licence, description, provenance, figures: go into the manifest.

    Raises:
        InvalidBundle: they do not fit the bundle.
    """
    manifest = PackManifest(
        SCHEMA,
        name,
        bundle.fingerprint.hex(),
        bundle.name,
        bytes(8).hex(),
        licence,
        description,
        provenance,
        figures,
    )
    parts = zip(_PARTS, (adapters, integers, tables), strict=True)
    entries = {f"{part}.safetensors": packed_tensors(tensors) for part, tensors in parts}
    if context:
        entries[CONTEXT] = packed_tensors(context)
    entries["pack.json"] = to_json(manifest)
    changed = Bundle(_changed(bundle, Pack(entries, name)), name)
    entries["pack.json"] = to_json(msgspec.structs.replace(manifest, fingerprint=changed.fingerprint.hex()))
    return entries


@lru_cache(maxsize=8)
def merged(bundle: Bundle, pack: Pack) -> Bundle:
    """The bundle as the pack changes it; ``base`` names what it was before.

    Raises:
        UsageError: the pack is for another bundle.
        InvalidBundle: the pack does not fit the bundle, or is damaged.
    """
    _check_bundle(bundle, pack)
    result = Bundle(_changed(bundle, pack), pack.origin, base=bundle.fingerprint)
    if result.fingerprint != pack.fingerprint:
        raise InvalidBundle(
            f"Pack {pack.origin} makes {result.fingerprint.hex()} of bundle {bundle.name} where it should "
            f"make {pack.manifest.fingerprint}; it is damaged."
        )
    return result


def _check_bundle(bundle: Bundle, pack: Pack) -> None:
    if bundle.fingerprint != pack.bundle:
        raise UsageError(
            f"Pack {pack.name} changes bundle {pack.manifest.bundle_name} ({pack.manifest.bundle}), not "
            f"{bundle.name} ({bundle.fingerprint.hex()})."
        )


def _changed(bundle: Bundle, pack: Pack) -> dict[str, bytes]:
    entries = dict(bundle.entries)
    graphs = _changed_graphs(bundle, pack)
    entries |= graphs
    if not graphs.keys().isdisjoint(("mean_base.onnx", "mean.onnx")):
        entries.pop(ICON, None)  # it knows the means as they were
    if "gains" in pack.integers:
        entries["staircases.json"] = _changed_gains(entries["staircases.json"], pack)
    if set(pack.integers) - {"gains"}:
        entries["scale.safetensors"] = _changed_biases(entries["scale.safetensors"], pack)
    if pack.tables:
        entries["tables.safetensors"] = _changed_tables(entries["tables.safetensors"], pack)
    if pack.context:
        entries[CONTEXT] = packed_tensors(pack.context)
    own = msgspec.json.decode(entries["manifest.json"], type=Manifest)
    provenance = {
        "bundle": {"name": own.name, "fingerprint": bundle.fingerprint.hex(), "licence": own.licence},
        "pack": pack.manifest.provenance,
    }
    licences = dict.fromkeys([own.licence, pack.manifest.licence])
    entries["manifest.json"] = to_json(
        msgspec.structs.replace(
            own,
            name=f"{own.name}-{pack.name}",
            licence=" AND ".join(licences),
            description=pack.manifest.description,
            provenance=provenance,
            figures=pack.manifest.figures,
        )
    )
    return entries


def _changed_graphs(bundle: Bundle, pack: Pack) -> dict[str, bytes]:
    changes: dict[str, dict[str, dict[str, Array]]] = {}
    for key, tensor in pack.adapters.items():
        graph, _, rest = key.partition("/")
        where, _, kind = rest.rpartition("/")
        if graph not in GRAPHS or tensor.dtype != _KINDS.get(kind):
            raise _unfit(pack, key)
        if kind != "signs" and not np.isfinite(tensor).all():
            raise InvalidBundle(f"The adapter {key} of pack {pack.origin} has numbers that are not finite.")
        changes.setdefault(f"{graph}.onnx", {}).setdefault(where, {})[kind] = tensor
    found: dict[str, bytes] = {}
    for entry, by_weight in changes.items():
        if entry not in bundle.entries:  # of the encoder, in a bundle for decoding alone
            continue
        data = bytearray(bundle.entries[entry])
        weights = weights_of(data)
        for name, tensors in by_weight.items():
            weight = weights.get(name)
            if weight is None:
                raise _unfit(pack, f"{entry}: {name}")
            with np.errstate(over="ignore"):
                weight[...] = _sum(weight, tensors, pack, name).astype(weight.dtype)
            if not np.isfinite(weight).all():
                raise InvalidBundle(f"Pack {pack.origin} makes numbers of {name} that are not finite.")
        found[entry] = bytes(data)
    return found


def _sum(weight: Array, parts: Mapping[str, Array], pack: Pack, name: str) -> npt.NDArray[np.float32]:
    """The weight and its adapters in float32, one after the other: the same on every machine."""
    total = weight.astype(np.float32)
    if "add" in parts:
        if parts["add"].shape != weight.shape:
            raise _unfit(pack, name)
        total += parts["add"].astype(np.float32)
    if {"signs", "rows", "columns"} & set(parts):
        flat = total.reshape(len(weight), -1)
        shapes = {kind: tensor.shape for kind, tensor in parts.items() if kind != "add"}
        due = {"signs": (-(-weight.size // 8),), "rows": flat.shape[:1], "columns": flat.shape[1:]}
        if shapes != due:
            raise _unfit(pack, name)
        bits = np.unpackbits(parts["signs"], count=weight.size).reshape(flat.shape)
        sizes = parts["rows"].astype(np.float32)[:, None] * parts["columns"].astype(np.float32)
        flat += np.where(bits, -sizes, sizes)
    return total


def _changed_gains(staircases: bytes, pack: Pack) -> bytes:
    """The entry with other gains; what it holds besides stays as it is."""
    content = json.loads(staircases)
    gains = np.array(content["gains"], np.int64)
    content["gains"] = _added(gains, pack, "gains").tolist()
    return to_json(content)


def _changed_biases(scale: bytes, pack: Pack) -> bytes:
    tensors = load_safetensors(scale)
    names = {f"{layer}.bias" for layer in LAYERS} | {"rate_bias", "phase_bias"}
    for name in set(pack.integers) - {"gains"}:
        if name not in names:
            raise _unfit(pack, name)
        tensors[name] = _added(tensors[name], pack, name).astype(np.int32)
    return packed_tensors(tensors)


def _added(own: Array, pack: Pack, name: str) -> npt.NDArray[np.int64]:
    more = pack.integers[name]
    if more.shape != own.shape or more.dtype not in (np.int16, np.int32):
        raise _unfit(pack, name)
    total: npt.NDArray[np.int64] = own.astype(np.int64) + more
    if total.size and np.abs(total).max() > _MAX_INTEGER:
        raise InvalidBundle(f"Pack {pack.origin} makes numbers of {name} that are too large.")
    return total


def _changed_tables(tables: bytes, pack: Pack) -> bytes:
    tensors = load_safetensors(tables)
    for name, tensor in pack.tables.items():
        if name not in tensors or tensor.dtype != tensors[name].dtype or tensor.ndim != 1:
            raise _unfit(pack, name)
        if name.endswith(".offsets") and tensor.shape != tensors[name].shape:
            raise _unfit(pack, name)
        tensors[name] = tensor
    return packed_tensors(tensors)


def packed_tensors(tensors: Tensors) -> bytes:
    """A safetensors file by one rule: names in order, one after the other, the header padded to 8 bytes.

    The package's own writer may choose another order one day, and with it another fingerprint.
    """
    header: dict[str, Any] = {}
    pieces: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        piece = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        kind = "F16" if array.dtype == np.float16 else _DTYPES[str(array.dtype)]
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(piece)],
        }
        pieces.append(piece)
        offset += len(piece)
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(pieces)


def _manifest(data: bytes, origin: str) -> PackManifest:
    try:
        manifest = msgspec.json.decode(data, type=PackManifest)
        fingerprints = [bytes.fromhex(text) for text in (manifest.bundle, manifest.fingerprint)]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidBundle(f"Entry pack.json of pack {origin} is not valid: {error}.") from error
    if manifest.schema != SCHEMA:
        raise InvalidBundle(
            f"Pack {origin} has schema {manifest.schema}, this release reads {SCHEMA}; update it."
        )
    if any(len(one) != 8 for one in fingerprints):
        raise InvalidBundle(f"Pack {origin} has a fingerprint that is not one of 8 bytes.")
    return manifest


def _unfit(pack: Pack, what: str) -> InvalidBundle:
    return InvalidBundle(f"Pack {pack.origin} does not fit its bundle: {what} is not as it should be.")
