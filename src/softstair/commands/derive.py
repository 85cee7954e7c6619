"""softstair derive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .learning import (
    data_root_option,
    import_torch,
    jobs_option,
    recipe_argument,
    snapshot_argument,
    time_budget_option,
)
from .speech import say


@click.command("derive")
@recipe_argument
@snapshot_argument
@data_root_option
@click.option("--run", type=click.Path(path_type=Path), help="Folder of the run; runs/NAME-KIND by default.")
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
@time_budget_option
@jobs_option
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
    import_torch(jobs)
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
