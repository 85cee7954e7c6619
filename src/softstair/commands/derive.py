"""softstair derive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from softstair.errors import UsageError


@click.command("derive")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("snapshot", type=click.Path(path_type=Path))
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=".",
    help="Where the recipe's data lies.",
)
@click.option("--run", type=click.Path(path_type=Path), help="Folder of the run; runs/NAME-KIND by default.")
@click.option(
    "--rate", type=int, multiple=True, metavar="D", help="Position of a rate point; all by default."
)
@click.option(
    "--kind",
    type=click.Choice(["uniform", "dead-zone", "step", "stanh"]),
    default="stanh",
    show_default=True,
    help="What is learned.",
)
@click.option(
    "--time-budget", type=click.FloatRange(0, min_open=True), help="Seconds; stops at a checkpoint."
)
@click.option("-j", "--jobs", type=click.IntRange(1), help="Threads of the CPU; all by default.")
def command(
    recipe: Path,
    snapshot: Path,
    data_root: Path,
    run: Path | None,
    rate: tuple[int, ...],
    kind: Any,
    time_budget: float | None,
    jobs: int | None,
) -> None:
    """Learn staircases of rate points for a snapshot that stays as it is, or go on."""
    try:
        import torch
    except ImportError as error:
        raise UsageError("Training needs the extra learn: pip install 'softstair[learn]'.") from error
    from softstair.learn.recipe import read_recipe
    from softstair.learn.stages.derive import derive

    settings = read_recipe(recipe)
    if jobs is not None:
        torch.set_num_threads(jobs)
    derive(
        settings,
        snapshot,
        data_root,
        run or Path("runs") / f"{settings.name}-{kind}",
        kind=kind,
        positions=rate,
        time_budget=time_budget,
        say=lambda line: click.echo(line, err=True),
    )
