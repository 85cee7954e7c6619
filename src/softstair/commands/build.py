"""softstair build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from softstair.errors import SoftstairError, UsageError

from . import files
from .learning import import_torch, jobs_option, recipe_argument, say, start_option

if TYPE_CHECKING:
    from softstair.learn.recipe import Recipe


@click.command("build")
@recipe_argument
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=".",
    help="Where the recipe's data and the data sets to measure on lie.",
)
@click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Folder of all runs."
)
@start_option
@click.option("--device", default="cpu", show_default=True, help="Of the stage pretrain: cpu or cuda.")
@jobs_option
def command(
    recipe: Path, data_root: Path, runs: Path, start: Path | None, device: str, jobs: int | None
) -> None:
    """Run a whole RECIPE: pretrain, derive, finetune, export, evaluate.

    Results lie in runs/NAME: the bundle NAME.stairs, and SET.json with SET.md for every data set of
    [evaluate]. Interrupted, the same command goes on in the stage where it was stopped; which of derive
    and finetune are run is up to the recipe's `stages`.
    """
    torch = import_torch(jobs)
    from softstair.learn.recipe import read_recipe
    from softstair.learn.stages.derive import derive
    from softstair.learn.stages.finetune import finetune
    from softstair.learn.stages.pretrain import pretrain

    settings = read_recipe(recipe)
    if settings.pretrain.steps is None:
        raise UsageError(
            f"{recipe} trains without an end; set pretrain.steps, or fork a run (softstair train)."
        )
    run = runs / settings.name
    _head("pretrain")
    pretrain(settings, data_root, run, torch.device(device), snapshot=start, say=say)
    snapshot, staircases = run / "snapshot.safetensors", None
    if "derive" in settings.stages:
        _head("derive")
        folder = runs / f"{settings.name}-stanh"
        derive(settings, snapshot, data_root, folder, say=say)
        staircases = folder / "staircases.json"
    if "finetune" in settings.stages:
        _head("finetune")
        folder = runs / f"{settings.name}-fine"
        finetune(settings, snapshot, data_root, folder, staircases=staircases, say=say)
        snapshot = folder / "snapshot.safetensors"
        staircases = staircases and folder / "staircases.json"
    _head("export")
    bundle = run / f"{settings.name}.stairs"
    _export(settings, snapshot, staircases, data_root, bundle)
    for name in settings.evaluate.data_sets:
        _head(f"evaluate {name}")
        _measure(settings, bundle, name, data_root, run / f"{name}.json")


def _export(settings: Recipe, snapshot: Path, staircases: Path | None, data_root: Path, path: Path) -> None:
    """Write the bundle, unless it is there already, made of the same."""
    from softstair.bundle import read_bundle
    from softstair.learn.export.bundle import export_snapshot, provenance_of

    made_of = provenance_of(settings, snapshot, staircases)
    try:
        found = read_bundle(path.read_bytes(), str(path)).manifest.provenance
        if made_of.items() <= found.items():
            say(f"{path} is finished already")
            return
    except (OSError, SoftstairError):
        pass
    bundle = export_snapshot(settings, snapshot, data_root, path, staircases=staircases)
    say(f"{path}: {bundle.name} {bundle.fingerprint.hex()}, {bundle.size} bytes")


def _measure(settings: Recipe, bundle: Path, name: str, data_root: Path, path: Path) -> None:
    """Files of all pictures at the recipe's rate positions; what is measured already is kept."""
    from softstair.evaluate import evaluate, find_data_set, markdown, softstair_codec

    wanted = settings.evaluate
    modes: list[str | None] = [*wanted.modes] or [None]
    codecs = [softstair_codec(bundle, wanted.positions or None, mode=mode) for mode in modes]
    results = evaluate(codecs, find_data_set(data_root / name), path)
    files.write(str(path.with_suffix(".md")), markdown(results).encode())
    say(f"{path}: {results.pictures} pictures")


def _head(stage: str) -> None:
    click.echo(f"-- {stage}", err=True)
