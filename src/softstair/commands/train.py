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
    "--time-budget", type=click.FloatRange(0, min_open=True), help="Seconds; stops at a checkpoint."
)
@click.option("--device", default="cpu", show_default=True, help="Such as cpu or cuda.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Threads of the CPU; all by default.")
def command(
    recipe: Path,
    data_root: Path,
    run: Path | None,
    start: Path | None,
    time_budget: float | None,
    device: str,
    jobs: int | None,
) -> None:
    """Train a network from a TOML recipe, or go on where an interrupted run stopped."""
    try:
        import torch
    except ImportError as error:
        raise UsageError("Training needs the extra learn: pip install 'softstair[learn]'.") from error
    from softstair.learn.recipe import read_recipe
    from softstair.learn.stages.pretrain import pretrain

    settings = read_recipe(recipe)
    if jobs is not None:
        torch.set_num_threads(jobs)
    pretrain(
        settings,
        data_root,
        run or Path("runs") / settings.name,
        torch.device(device),
        snapshot=start,
        time_budget=time_budget,
        say=lambda line: click.echo(line, err=True),
    )
