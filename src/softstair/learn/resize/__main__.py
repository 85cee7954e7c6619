"""python -m softstair.learn.resize: a start for one recipe from a snapshot of another."""

from __future__ import annotations

from pathlib import Path

import click
import torch

from softstair.errors import SoftstairError

from ..checkpoint import load_codec, save_snapshot
from ..codec import Codec
from ..data import Crops, load_pictures
from ..recipe import Recipe, read_recipe
from .detail import add_detail
from .narrow import narrowed

_SEED, _SIDE = 7, 256
_NARROW_CROPS, _DETAIL_CROPS = 32, 256
_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("recipe", type=_FILE)
@click.argument("snapshot", type=_FILE)
@click.argument("wanted", type=_FILE)
@click.option("--data-root", type=_FILE, required=True, help="Folder that the recipes' data lie in.")
@click.option("-o", "--output", type=_FILE, required=True, help="The snapshot to start from.")
def main(recipe: Path, snapshot: Path, wanted: Path, data_root: Path, output: Path) -> None:
    """Make a start for the recipe WANTED from a SNAPSHOT of RECIPE.

    WANTED has narrower layers, fewer latents, gated blocks, overlap or no detail; or it has as many more
    latents as it has detail, and is the same otherwise.
    """
    try:
        old, new = read_recipe(recipe), read_recipe(wanted)
        codec = load_codec(old, snapshot)
        if new.shape.detail and not old.shape.detail:
            torch.manual_seed(new.seed)
            result = Codec(new.shape)
            saturated = new.data.saturated
            add_detail(codec, result, _pictures(new, data_root, _DETAIL_CROPS, saturated), say=click.echo)
            weights = result.state_dict()
        else:
            weights = narrowed(codec, new.shape, _pictures(old, data_root, _NARROW_CROPS))
        save_snapshot(output, new.shape, weights)
    except SoftstairError as error:
        raise click.ClickException(str(error)) from error


def _pictures(recipe: Recipe, data_root: Path, count: int, saturated: float = 0.0) -> torch.Tensor:
    """Training crops, (count, 3, side, side) in [0, 1]."""
    train = load_pictures([data_root / name for name in recipe.data.train])
    return torch.from_numpy(Crops(train, _SEED, saturated=saturated).batch(0, count, _SIDE)).float() / 255


main()
