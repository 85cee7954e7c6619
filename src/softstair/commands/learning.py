"""What the commands of the extra learn share."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from softstair.errors import UsageError

recipe_argument = click.argument("recipe", type=click.Path(path_type=Path))
snapshot_argument = click.argument("snapshot", type=click.Path(path_type=Path))
data_root_option = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=".",
    help="Folder that holds the recipe's data.",
)
staircases_option = click.option(
    "--staircases",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Staircases that softstair derive learned.",
)
start_option = click.option(
    "--start", type=click.Path(path_type=Path), help="Snapshot to start from instead of principal components."
)
time_budget_option = click.option(
    "--time-budget",
    type=click.FloatRange(0, min_open=True),
    help="Stop at a checkpoint after this many seconds.",
)
jobs_option = click.option("-j", "--jobs", type=click.IntRange(1), help="Threads of the CPU; all by default.")


def import_torch(jobs: int | None = None) -> Any:
    """torch, set to a number of threads.

    Raises:
        UsageError: the extra learn is not installed.
    """
    try:
        torch: Any = import_module("torch")
    except ImportError as error:
        raise UsageError("Training needs the extra learn: pip install 'softstair[learn]'.") from error
    if jobs is not None:
        torch.set_num_threads(jobs)
    return torch
