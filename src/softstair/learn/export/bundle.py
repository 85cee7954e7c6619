"""Write a bundle from a trained codec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save as save_safetensors

from softstair.bundle import (
    SCHEMA,
    Bundle,
    Manifest,
    Staircases,
    read_bundle,
    to_json,
    write_bundle,
)
from softstair.quantize.scale_network import ScaleWeights
from softstair.quantize.staircase import STATES, Encoding
from softstair.quantize.tables import RowRule, TableSet

from ..checkpoint import load_snapshot
from ..codec import Codec
from ..data import Crops, load_pictures
from ..log import commit
from ..recipe import Quantizer, Recipe
from .graphs import export_graphs
from .integers import integer_gains, integer_weights
from .measure import Integers, measure_z_tables, samples
from .modes import measure_mode

# Rows from sigma 0.11 to 89 steps; what lies below is not coded.
ROW_RULE = RowRule(base=-102, skip=0, rows=78)
_MEASURING = 2**31  # as a step of the crops: one that no run reaches
_CROP_SIDE = 256


def export_bundle(
    codec: Codec,
    crops: npt.NDArray[np.uint8],
    path: Path,
    *,
    name: str,
    description: str,
    licence: str,
    provenance: dict[str, Any],
    quantizers: Mapping[str, Quantizer] | None = None,
    mode: str = "scalar",
) -> Bundle:
    """Turn a codec into a bundle and read it back.

    Args:
        codec: on the CPU; its scale network is rounded to integers.
        crops: training crops to measure tables on, uint8 (N, 3, side, side), sides a multiple
            of 32.
        path: of the bundle.
        name, description, licence, provenance: go into the manifest.
        quantizers: modes and their settings; tables are measured on symbols chosen so. By
            default all modes as if they were plain.
        mode: what an encoder takes where nothing else is asked for.

    Raises:
        InvalidBundle: the scale network could overflow as integers.
    """
    codec.set_fixed(True)
    codec.eval()
    integers = Integers(integer_weights(codec), integer_gains(codec), ROW_RULE)
    quantizers = quantizers or {name: Quantizer() for name in STATES}
    taken = samples(codec, integers, crops)
    z_tables = measure_z_tables(codec, taken)
    measured = {
        key: measure_mode(codec, integers, taken, z_tables, key, quantizer)
        for key, quantizer in quantizers.items()
    }
    rate_weights = {key: one.rate_weight for key, one in measured.items()}
    manifest = Manifest(SCHEMA, name, licence, description, provenance, {}, Encoding(mode, rate_weights))
    modes = {key: one.staircase for key, one in measured.items()}
    staircases = Staircases(integers.gains.tolist(), ROW_RULE.base, modes)
    tables = _table_tensors("z", z_tables)
    for key, one in measured.items():
        tables |= _table_tensors(f"y.{key}", one.tables)
    entries = {
        "manifest.json": to_json(manifest),
        "staircases.json": to_json(staircases),
        "scale.safetensors": save_safetensors(_scale_tensors(integers.weights)),
        "tables.safetensors": save_safetensors(tables),
        **{f"{graph}.onnx": data for graph, data in export_graphs(codec).items()},
    }
    write_bundle(path, entries)
    return read_bundle(path.read_bytes(), str(path))


def export_snapshot(
    recipe: Recipe,
    snapshot: Path,
    data_root: Path,
    path: Path,
) -> Bundle:
    """Export a snapshot of a run of ``recipe``; tables are measured on its training pictures.

    Raises:
        UsageError: the snapshot or the data cannot be read.
        InvalidBundle: the scale network could overflow as integers.
    """
    codec = Codec(recipe.shape)
    load_snapshot(snapshot, codec)
    pictures = load_pictures([data_root / name for name in recipe.data.train])
    provenance = {
        "recipe": msgspec.to_builtins(recipe),
        "commit": commit(),
        "snapshot": hashlib.sha256(snapshot.read_bytes()).hexdigest(),
        "pictures": len(pictures),
        "data": recipe.about.data,
        "start": recipe.about.start,
    }
    return export_bundle(
        codec,
        Crops(pictures, recipe.seed).batch(_MEASURING, recipe.export.crops, _CROP_SIDE),
        path,
        name=recipe.name,
        description=recipe.about.description,
        licence=recipe.about.licence,
        provenance=provenance,
        quantizers=recipe.export.modes,
        mode=recipe.export.mode,
    )


def _scale_tensors(weights: ScaleWeights) -> dict[str, npt.NDArray[Any]]:
    tensors: dict[str, npt.NDArray[Any]] = {
        "rate_bias": weights.rate_bias,
        "phase_bias": weights.phase_bias,
    }
    for name, layer in weights.layers.items():
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = layer.weight, layer.bias
    return tensors


def _table_tensors(prefix: str, tables: TableSet) -> dict[str, npt.NDArray[Any]]:
    return {f"{prefix}.cdf": tables.cdf, f"{prefix}.offsets": tables.offsets}
