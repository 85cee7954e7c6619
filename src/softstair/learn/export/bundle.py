"""Write a bundle from a trained codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
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
from softstair.errors import UsageError
from softstair.mode import Mode
from softstair.quantize.scale_network import ScaleWeights
from softstair.quantize.staircase import Encoding

from ..checkpoint import hash_file, load_codec
from ..codec import Codec
from ..data import Crops, load_pictures
from ..integer.measure import integers_of, measured
from ..log import commit
from ..recipe import Quantizer, Recipe
from ..staircases import Derivation, read_derivation
from .graphs import export_graphs, export_synthesis

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
    quantizers: Mapping[Mode, Quantizer] | None = None,
    mode: Mode = Mode.SCALAR,
    smoothing: Sequence[int] = (),
    smoothing_of_grain: float = 1.0,
    derivation: Derivation | None = None,
    syntheses: Mapping[str, Codec] | None = None,
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
        mode: what an encoder takes by default.
        smoothing: of decoded pixels, by rate point, as of ``Encoding``; so is smoothing_of_grain.
        derivation: staircases that were learned; those of y are for the mode scalar, where
            thresholds decide.
        syntheses: of modes that have their own; codecs that differ from ``codec`` in nothing else.

    Raises:
        InvalidBundle: the scale network could overflow as integers.
    """
    codec.set_fixed(True)
    codec.eval()
    quantizers = quantizers or {mode: Quantizer() for mode in Mode}
    integers = measured(codec, integers_of(codec, quantizers, derivation), crops)
    codings = {key.value: one for key, one in integers.codings.items()}
    encoding = Encoding(
        mode,
        {key: one.rate_weight for key, one in codings.items()},
        {key: one.thresholds for key, one in codings.items() if one.thresholds},
        integers.z_thresholds,
        list(smoothing),
        smoothing_of_grain,
    )
    manifest = Manifest(SCHEMA, name, licence, description, provenance, {}, encoding)
    modes = {key: one.staircase for key, one in codings.items()}
    staircases = Staircases(integers.gains.tolist(), integers.base, modes)
    tables = integers.z_tables.tensors("z")
    for key, one in codings.items():
        tables |= one.tables.tensors(f"y.{key}")
    entries = {
        "manifest.json": to_json(manifest),
        "staircases.json": to_json(staircases),
        "scale.safetensors": save_safetensors(_scale_tensors(integers.scale)),
        "tables.safetensors": save_safetensors(tables),
        **{f"{graph}.onnx": data for graph, data in export_graphs(codec).items()},
        **{f"synthesis.{key}.onnx": export_synthesis(one) for key, one in (syntheses or {}).items()},
    }
    write_bundle(path, entries)
    return read_bundle(path.read_bytes(), str(path))


def export_snapshot(
    recipe: Recipe,
    snapshot: Path,
    data_root: Path,
    path: Path,
    *,
    staircases: Path | None = None,
    syntheses: Mapping[str, Path] | None = None,
) -> Bundle:
    """Export a snapshot of a run of ``recipe``; tables are measured on its training pictures.

    staircases: a file of the stage ``derive``, of the same snapshot.
    syntheses: snapshots by mode, finetuned from this one, that give modes a synthesis of their own.

    Raises:
        UsageError: a snapshot, the staircases or the data cannot be read or do not belong together.
        InvalidBundle: the scale network could overflow as integers.
    """
    codec = load_codec(recipe, snapshot)
    derivation = None if staircases is None else read_derivation(staircases, snapshot)
    own = {mode: load_codec(recipe, path) for mode, path in (syntheses or {}).items()}
    for mode, one in own.items():
        _check_synthesis(recipe, codec, mode, one)
    pictures = load_pictures([data_root / name for name in recipe.data.train])
    provenance = {
        **provenance_of(recipe, snapshot, staircases),
        "commit": commit(),
        "staircases": None if derivation is None else derivation.kind,
        "syntheses": {mode: hash_file(path) for mode, path in (syntheses or {}).items()},
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
        smoothing=recipe.export.smoothing,
        smoothing_of_grain=recipe.export.smoothing_of_grain,
        derivation=derivation,
        syntheses=own,
    )


def _check_synthesis(recipe: Recipe, codec: Codec, mode: str, other: Codec) -> None:
    """Raises UsageError if a mode cannot have the synthesis of another codec."""
    if mode not in recipe.export.modes:
        raise UsageError(f"The recipe exports no mode {mode}, so that mode cannot have its own synthesis.")
    theirs = other.state_dict()
    differing = [
        name
        for name, value in codec.state_dict().items()
        if not name.startswith("synthesis.") and not torch.equal(value, theirs[name])
    ]
    if differing:
        raise UsageError(
            f"The snapshot for {mode} differs in {differing[0]}; a mode can only have its own synthesis, "
            "so finetune it with --parts synthesis."
        )


def provenance_of(recipe: Recipe, snapshot: Path, staircases: Path | None = None) -> dict[str, Any]:
    """What decides a bundle beside the pictures: the recipe, SHA-256 of a snapshot and of staircases."""
    return {
        "recipe": msgspec.json.decode(msgspec.json.encode(recipe)),
        "snapshot": hash_file(snapshot),
        "staircases_hash": None if staircases is None else hash_file(staircases),
    }


def _scale_tensors(weights: ScaleWeights) -> dict[str, npt.NDArray[Any]]:
    tensors: dict[str, npt.NDArray[Any]] = {
        "rate_bias": weights.rate_bias,
        "phase_bias": weights.phase_bias,
    }
    for name, layer in weights.layers.items():
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = layer.weight, layer.bias
    return tensors
