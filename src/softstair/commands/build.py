"""softstair build."""

from __future__ import annotations

from pathlib import Path

import click

from .learning import import_torch, jobs_option, recipe_argument, start_option
from .speech import say


@click.command("build")
@recipe_argument
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=".",
    help="Folder that holds the recipe's data and the data sets to measure.",
)
@click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Folder of all runs."
)
@start_option
@click.option("--device", default="cpu", show_default=True, help="Device for pretrain: cpu or cuda.")
@jobs_option
def command(
    recipe: Path, data_root: Path, runs: Path, start: Path | None, device: str, jobs: int | None
) -> None:
    """Run a whole RECIPE: pretrain, derive, finetune, export, evaluate.

    Results lie in runs/NAME: the bundle NAME.stairs, and SET.json with SET.md for every data set of
    [evaluate]. Rerun the same command to resume in the stage where it was stopped. Which of derive
    and finetune are run is up to the recipe's `stages`.
    """
    torch = import_torch(jobs)
    from softstair.learn.build import build
    from softstair.learn.recipe import read_recipe

    settings = read_recipe(recipe)
    build(settings, data_root, runs, torch.device(device), start=start, begin=_head, say=say)


def _head(stage: str) -> None:
    click.echo(f"-- {stage}", err=True)
