"""softstair derive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import learning, options
from .speech import say


@click.command("derive")
@learning.recipe
@learning.snapshot
@learning.data_root
@click.option("--run", type=options.PATH, help="Folder of the run; runs/NAME-KIND by default.")
@click.option(
    "--rate", type=int, multiple=True, metavar="D", help="Rate point to derive, by position; all by default."
)
@click.option(
    "--kind",
    type=click.Choice(["uniform", "dead-zone", "step", "stanh"]),
    default="stanh",
    show_default=True,
    help="What is learned.",
)
@learning.time_budget
@learning.jobs
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
    """Learn staircases of rate points for a frozen snapshot, or resume."""
    learning.import_torch(jobs)
    from softstair.learn.recipe import read_recipe
    from softstair.learn.stages.derive import derive

    settings = read_recipe(recipe)
    derive(
        settings,
        snapshot,
        data_root,
        run or Path("runs") / f"{settings.name}-{kind}",
        kind=kind,
        positions=rate,
        time_budget=time_budget,
        say=say,
    )
