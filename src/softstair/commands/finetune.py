"""softstair finetune."""

from __future__ import annotations

from pathlib import Path

import click

from . import learning, options
from .speech import say


@click.command("finetune")
@learning.recipe
@learning.snapshot
@learning.data_root
@click.option("--run", type=options.PATH, help="Folder of the run; runs/NAME-fine by default.")
@click.option("--mode", help="Mode to quantize in, instead of the recipe's.")
@click.option("--parts", help="Parts to retrain, instead of the recipe's: synthesis, mean, scale.")
@learning.staircases
@learning.time_budget
@learning.jobs
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
    """Retrain the decoder of a snapshot on latents quantized as in files, or resume."""
    learning.import_torch(jobs)
    from softstair.learn.recipe import change_finetune, read_recipe
    from softstair.learn.stages.finetune import finetune

    wanted = {"mode": mode, "parts": None if parts is None else parts.split(",")}
    settings = change_finetune(read_recipe(recipe), wanted)
    finetune(
        settings,
        snapshot,
        data_root,
        run or Path("runs") / f"{settings.name}-fine",
        staircases=staircases,
        time_budget=time_budget,
        say=say,
    )
