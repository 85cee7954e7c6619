"""A whole recipe: every stage in turn, the bundle, and what it measures. Interrupted, it goes on."""

from __future__ import annotations

from pathlib import Path

import torch

from softstair.bundle import read_bundle
from softstair.errors import SoftstairError, UsageError
from softstair.evaluate import evaluate, find_data_set, markdown, softstair_codec
from softstair.whole_file import write_whole

from .export.bundle import export_snapshot, provenance_of
from .recipe import Recipe
from .run import Say
from .stages.derive import derive
from .stages.finetune import finetune
from .stages.pretrain import pretrain


def build(
    recipe: Recipe,
    data_root: Path,
    runs: Path,
    device: torch.device,
    *,
    start: Path | None = None,
    begin: Say,
    say: Say,
) -> Path:
    """Run the recipe's stages in folders of ``runs``; the bundle, beside its measurements.

    Args:
        start: snapshot that ``pretrain`` starts from.
        begin: receives the name of every stage when it begins.
        say: receives lines of progress.

    Raises:
        UsageError: the recipe trains without an end, or what the stages raise.
    """
    if recipe.pretrain.steps is None:
        raise UsageError(
            f"{recipe.name} trains without an end; set pretrain.steps, or fork a run (softstair train)."
        )
    run = runs / recipe.name
    begin("pretrain")
    pretrain(recipe, data_root, run, device, snapshot=start, say=say)
    snapshot, staircases = run / "snapshot.safetensors", None
    if "derive" in recipe.stages:
        begin("derive")
        folder = runs / f"{recipe.name}-stanh"
        derive(recipe, snapshot, data_root, folder, say=say)
        staircases = folder / "staircases.json"
    if "finetune" in recipe.stages:
        begin("finetune")
        folder = runs / f"{recipe.name}-fine"
        finetune(recipe, snapshot, data_root, folder, staircases=staircases, say=say)
        snapshot = folder / "snapshot.safetensors"
        staircases = staircases and folder / "staircases.json"
    begin("export")
    bundle = run / f"{recipe.name}.stairs"
    _export(recipe, snapshot, staircases, data_root, bundle, say)
    for name in recipe.evaluate.data_sets:
        begin(f"evaluate {name}")
        _measure(recipe, bundle, name, data_root, run / f"{name}.json", say)
    return bundle


def _export(
    recipe: Recipe, snapshot: Path, staircases: Path | None, data_root: Path, path: Path, say: Say
) -> None:
    """Write the bundle, unless it is there already, made of the same."""
    made_of = provenance_of(recipe, snapshot, staircases)
    try:
        found = read_bundle(path.read_bytes(), str(path)).manifest.provenance
        if made_of.items() <= found.items():
            say(f"{path} is finished already")
            return
    except (OSError, SoftstairError):
        pass
    bundle = export_snapshot(recipe, snapshot, data_root, path, staircases=staircases)
    say(f"{path}: {bundle.name} {bundle.fingerprint.hex()}, {bundle.size} bytes")


def _measure(recipe: Recipe, bundle: Path, name: str, data_root: Path, path: Path, say: Say) -> None:
    """Files of all pictures at the recipe's rate positions; what is measured already is kept."""
    wanted = recipe.evaluate
    modes: list[str | None] = [*wanted.modes] or [None]
    codecs = [softstair_codec(bundle, wanted.positions or None, mode=mode) for mode in modes]
    results = evaluate(codecs, find_data_set(data_root / name), path)
    write_whole(path.with_suffix(".md"), markdown(results).encode())
    say(f"{path}: {results.pictures} pictures")
