"""What the commands of the extra learn share."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from softstair.errors import UsageError

from .options import PATH

recipe = click.argument("recipe", type=PATH)
snapshot = click.argument("snapshot", type=PATH)
data_root = click.option("--data-root", type=PATH, default=".", help="Folder that holds the recipe's data.")
staircases = click.option(
    "--staircases", type=PATH, metavar="FILE", help="Staircases that softstair derive learned."
)
start = click.option("--start", type=PATH, help="Snapshot to start from instead of principal components.")
_SECONDS = click.FloatRange(0, min_open=True)
time_budget = click.option(
    "--time-budget", type=_SECONDS, help="Stop at a checkpoint after this many seconds."
)
jobs = click.option("-j", "--jobs", type=click.IntRange(1), help="Threads of the CPU; all by default.")


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
