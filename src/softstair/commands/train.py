"""softstair train."""

from __future__ import annotations

from pathlib import Path

import click

from softstair.errors import UsageError

from . import learning, options
from .speech import say


@click.command("train")
@learning.recipe
@learning.data_root
@click.option("--run", type=options.PATH, help="Folder of the run; runs/NAME by default.")
@learning.start
@click.option(
    "--fork",
    type=options.PATH,
    help="Copy the newest checkpoint into this folder and finish training there; "
    "the original run is untouched.",
)
@click.option(
    "--decay", type=click.IntRange(1), help="Number of steps over which a fork's learning rates fall to zero."
)
@click.option(
    "--steady",
    type=click.IntRange(0),
    default=0,
    help="Number of steps of a fork before its learning rates fall; none by default.",
)
@learning.time_budget
@click.option("--device", default="cpu", show_default=True, help="Device, such as cpu or cuda.")
@learning.jobs
def command(
    recipe: Path,
    data_root: Path,
    run: Path | None,
    start: Path | None,
    fork: Path | None,
    decay: int | None,
    steady: int,
    time_budget: float | None,
    device: str,
    jobs: int | None,
) -> None:
    """Train a network from a TOML recipe, or resume an interrupted run.

    Several processes: torchrun --nproc-per-node N -m softstair train RECIPE ...
    """
    if (fork is None) != (decay is None):
        raise UsageError("--fork and --decay go together: where a run ends, and in how many steps.")
    if steady and fork is None:
        raise UsageError("--steady is for a fork; name its folder with --fork.")
    if fork is not None and start is not None:
        raise UsageError("--start is for a new run; --fork starts from the run's checkpoint.")
    torch = learning.import_torch(jobs)
    from softstair.learn.recipe import read_recipe
    from softstair.learn.stages.pretrain import Fork, pretrain

    settings = read_recipe(recipe)
    folder = run or Path("runs") / settings.name
    pretrain(
        settings,
        data_root,
        folder if fork is None else fork,
        torch.device(device),
        snapshot=start,
        fork=None if fork is None or decay is None else Fork(folder, decay, steady),
        time_budget=time_budget,
        say=say,
    )
