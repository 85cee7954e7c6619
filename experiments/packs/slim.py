"""A slim bundle: a network trained for the eye, with narrower blocks in its synthesis, which learns on.

    python -m experiments.packs.slim DATA OUT [--steps N]

DATA holds train/. The network is the ending `photo` of recipes/photo.toml, trained on a GPU, whose bundle is
not shipped (docs/training.md); context networks learn of fewer crops than those of a bundle that is. `run.py
--bundle OUT` makes packs for it, `benchmarks/units.py` times it. OUT.run keeps what is done.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import torch

from softstair.learn.checkpoint import load_codec, save_snapshot
from softstair.learn.data import Crops, load_pictures
from softstair.learn.export.bundle import export_snapshot
from softstair.learn.lineage import ending_of
from softstair.learn.recipe import read_recipe
from softstair.learn.resize.narrow import with_narrower_blocks
from softstair.learn.stages.context import Effort, add_context
from softstair.learn.stages.finetune import finetune

ROOT = Path(__file__).parents[2]
INNER = (12, 24, 48)
CONTEXT = Effort(crops=1600, place_steps=1500, sign_steps=1500, hyper_steps=1500)
_CROPS, _SIDE, _SEED = 64, 256, 31


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=1800)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    make(arguments.data, arguments.output, arguments.steps)


def make(data: Path, output: Path, steps: int) -> None:
    """Narrow, learn on as the stage `finetune` does, export, and teach context networks."""
    recipe = read_recipe(ROOT / "recipes" / "photo.toml")
    ending = next(one for one in recipe.endings if one.name == "photo")
    recipe = ending_of(recipe, ending)
    pictures = load_pictures([data / name for name in recipe.data.train])
    crops = torch.from_numpy(Crops(pictures, _SEED).batch(0, _CROPS, _SIDE)).float() / 255
    trained = load_codec(recipe, ROOT / "snapshots" / "photo.safetensors")
    weights = with_narrower_blocks(trained, INNER, crops)
    learning = msgspec.structs.replace(recipe.finetune, steps=steps, validate_every=steps // 2)
    shape = msgspec.structs.replace(recipe.shape, synthesis_inner=INNER)
    recipe = msgspec.structs.replace(recipe, name="slim", shape=shape, finetune=learning)
    run = output.with_suffix(".run")
    run.mkdir(parents=True, exist_ok=True)
    start = run / "narrow.safetensors"
    save_snapshot(start, shape, weights)
    finetune(recipe, start, data, run, say=print)
    bundle = export_snapshot(recipe, run / "snapshot.safetensors", data, run / "without.stairs")
    add_context(recipe, bundle, data, output, effort=CONTEXT, say=print)


if __name__ == "__main__":
    main()
