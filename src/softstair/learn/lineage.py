"""The networks of a recipe: of a run that ends, or of the forks that end one without an end.

What comes after them needs no GPU, and this needs no compiled core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from softstair.errors import UsageError

from .recipe import Recipe, ending_of
from .run import Say
from .stages.pretrain import Fork, pretrain


@dataclass(frozen=True)
class Trained:
    """A network that a bundle is made of. recipe: of all that follows. snapshot: of its weights.

    synthesis_inner: as of ``Ending``.
    """

    recipe: Recipe
    snapshot: Path
    synthesis_inner: tuple[int, int, int] | None = None


def published(recipe: Recipe, folder: Path) -> list[Trained]:
    """Networks that are trained already: a snapshot NAME.safetensors in ``folder`` for every ending.

    Raises:
        UsageError: one is missing.
    """
    trained = [
        Trained(ending_of(recipe, one), folder / f"{one.name}.safetensors", one.synthesis_inner)
        for one in recipe.endings
    ] or [Trained(recipe, folder / f"{recipe.name}.safetensors")]
    for one in trained:
        if not one.snapshot.is_file():
            raise UsageError(f"{one.snapshot} is missing; without --networks the build trains it.")
    return trained


def train_networks(
    recipe: Recipe,
    data_root: Path,
    runs: Path,
    device: torch.device,
    *,
    start: Path | None = None,
    begin: Say,
    say: Say,
) -> list[Trained]:
    """The stage ``pretrain`` and, if the run has no end, forks for its endings."""
    settings, run = recipe.pretrain, runs / recipe.name
    if settings.steps is None and not recipe.endings:
        raise UsageError(
            f"{recipe.name} trains without an end; set pretrain.steps, or fork a run (softstair train)."
        )

    def train(one: Recipe, run: Path, fork: Fork | None = None, snapshot: Path | None = None) -> None:
        pretrain(one, data_root, run, device, fork=fork, snapshot=snapshot, say=say)

    begin("pretrain")
    if not recipe.endings:
        train(recipe, run, snapshot=start)
        return [Trained(recipe, run / "snapshot.safetensors")]
    until = msgspec.structs.replace(settings, steps=settings.forks_at)
    train(msgspec.structs.replace(recipe, pretrain=until, endings=()), run, snapshot=start)
    trained = []
    for ending in recipe.endings:
        begin(f"pretrain {ending.name}")
        one, cooled = ending_of(recipe, ending), runs / f"{ending.name}-cooled"
        train(one, cooled, Fork(run, ending.falling, ending.steady))
        trained.append(Trained(one, cooled / "snapshot.safetensors", ending.synthesis_inner))
    return trained
