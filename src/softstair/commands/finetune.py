"""softstair finetune."""

from __future__ import annotations

from pathlib import Path

import click

from softstair.errors import UsageError


@click.command("finetune")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("snapshot", type=click.Path(path_type=Path))
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=".",
    help="Where the recipe's data lies.",
)
@click.option("--run", type=click.Path(path_type=Path), help="Folder of the run; runs/NAME-fine by default.")
@click.option("--mode", help="Quantize in another mode than the recipe says.")
@click.option("--parts", help="Retrain other parts than the recipe says: synthesis, mean, scale.")
@click.option(
    "--staircases", type=click.Path(path_type=Path), metavar="FILE", help="What softstair derive learned."
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
    mode: str | None,
    parts: str | None,
    staircases: Path | None,
    time_budget: float | None,
    jobs: int | None,
) -> None:
    """Retrain the decoder of a snapshot on latents that were really quantized, or go on."""
    try:
        import torch
    except ImportError as error:
        raise UsageError("Training needs the extra learn: pip install 'softstair[learn]'.") from error
    from softstair.learn.recipe import change_finetune, read_recipe
    from softstair.learn.stages.finetune import finetune

    wanted = {"mode": mode, "parts": None if parts is None else parts.split(",")}
    settings = change_finetune(read_recipe(recipe), wanted)
    if jobs is not None:
        torch.set_num_threads(jobs)
    finetune(
        settings,
        snapshot,
        data_root,
        run or Path("runs") / f"{settings.name}-fine",
        staircases=staircases,
        time_budget=time_budget,
        say=lambda line: click.echo(line, err=True),
    )
