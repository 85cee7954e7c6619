"""softstair build."""

from __future__ import annotations

from pathlib import Path

import click

from softstair.errors import UsageError

from . import learning, options
from .speech import say


@click.command("build")
@learning.recipe
@click.option(
    "--data-root",
    type=options.PATH,
    default=".",
    help="Folder that holds the recipe's data and the data sets to measure.",
)
@click.option("--runs", type=options.PATH, default="runs", show_default=True, help="Folder of all runs.")
@learning.start
@click.option(
    "--networks-only", is_flag=True, help="Stop when the networks are trained: the rest needs no GPU."
)
@click.option(
    "--networks",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of networks trained before, NAME.safetensors: go on from them instead of training.",
)
@click.option("--device", default="cpu", show_default=True, help="Device for pretrain: cpu or cuda.")
@learning.jobs
def command(
    recipe: Path,
    data_root: Path,
    runs: Path,
    start: Path | None,
    networks_only: bool,
    networks: Path | None,
    device: str,
    jobs: int | None,
) -> None:
    """Run a whole RECIPE: pretrain, derive, finetune, export, context, preview, evaluate.

    Results lie in runs/NAME: the bundle NAME.stairs, and SET.json with SET.md for every data set of
    [evaluate]. A recipe with [[endings]] makes a bundle of each. Rerun the same command to resume in
    the stage where it was stopped. Which stages are run between pretrain and evaluate is up to the
    recipe's `stages`.
    """
    torch = learning.import_torch(jobs)
    from softstair.learn.recipe import read_recipe

    settings, place = read_recipe(recipe), torch.device(device)
    if networks_only and networks is not None:
        raise UsageError("--networks-only trains what --networks brings; name one of them.")
    if networks_only:
        from softstair.learn.lineage import train_networks

        train_networks(settings, data_root, runs, place, start=start, begin=_head, say=say)
    else:
        from softstair.learn.build import build

        build(settings, data_root, runs, place, start=start, networks=networks, begin=_head, say=say)


def _head(stage: str) -> None:
    click.echo(f"-- {stage}", err=True)
