"""softstair train."""

from __future__ import annotations

from pathlib import Path

import click

from softstair.errors import UsageError


@click.command("train")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=".",
    help="Where the recipe's data lies.",
)
@click.option("--run", type=click.Path(path_type=Path), help="Folder of the run; runs/NAME by default.")
@click.option(
    "--start", type=click.Path(path_type=Path), help="Snapshot to start from instead of components."
)
@click.option(
    "--fork",
    type=click.Path(path_type=Path),
    help="End the run in another folder, from its newest checkpoint; the run itself stays as it is.",
)
@click.option("--decay", type=click.IntRange(1), help="Steps in which its learning rates fall to zero.")
@click.option(
    "--time-budget", type=click.FloatRange(0, min_open=True), help="Seconds; stops at a checkpoint."
)
@click.option("--device", default="cpu", show_default=True, help="Such as cpu or cuda.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Threads of the CPU; all by default.")
def command(
    recipe: Path,
    data_root: Path,
    run: Path | None,
    start: Path | None,
    fork: Path | None,
    decay: int | None,
    time_budget: float | None,
    device: str,
    jobs: int | None,
) -> None:
    """Train a network from a TOML recipe, or go on where an interrupted run stopped.

    Several processes: torchrun --nproc-per-node N -m softstair train RECIPE ...
    """
    if (fork is None) != (decay is None):
        raise UsageError("--fork and --decay go together: where a run ends, and in how many steps.")
    if fork is not None and start is not None:
        raise UsageError("--start is for a new run; --fork starts from the run's checkpoint.")
    try:
        import torch
    except ImportError as error:
        raise UsageError("Training needs the extra learn: pip install 'softstair[learn]'.") from error
    from softstair.learn.recipe import read_recipe
    from softstair.learn.stages.pretrain import Fork, pretrain

    settings = read_recipe(recipe)
    folder = run or Path("runs") / settings.name
    if jobs is not None:
        torch.set_num_threads(jobs)
    pretrain(
        settings,
        data_root,
        folder if fork is None else fork,
        torch.device(device),
        snapshot=start,
        fork=None if fork is None or decay is None else Fork(folder, decay),
        time_budget=time_budget,
        say=lambda line: click.echo(line, err=True),
    )
