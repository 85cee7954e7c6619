"""A slim bundle: `photo-psnr` whose synthesis has narrower blocks still, which learns on for a while.

    python -m experiments.packs.slim DATA OUT [--steps N]

DATA holds train/. Encoder, means, scales, tables and context networks are those of `photo-psnr`, so that
files take as many bits. `run.py --bundle OUT` makes packs for it, `benchmarks/units.py` times it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import torch

from softstair.bundle import open_bundle, to_json, write_bundle
from softstair.learn.checkpoint import load_codec, save_snapshot
from softstair.learn.data import Crops, load_pictures
from softstair.learn.export.graphs import export_synthesis
from softstair.learn.lineage import ending_of
from softstair.learn.recipe import read_recipe
from softstair.learn.resize.narrow import with_narrower_blocks
from softstair.learn.stages.finetune import finetune

ROOT = Path(__file__).parents[2]
INNER = (12, 24, 48)
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
    """Narrow, learn on as the stage `finetune` does, and put the synthesis into the bundle."""
    recipe = read_recipe(ROOT / "recipes" / "photo.toml")
    ending = next(one for one in recipe.endings if one.name == "photo-psnr")
    recipe = ending_of(recipe, ending)
    snapshot = ROOT / "snapshots" / "photo-psnr.safetensors"
    pictures = load_pictures([data / name for name in recipe.data.train])
    crops = torch.from_numpy(Crops(pictures, _SEED).batch(0, _CROPS, _SIDE)).float() / 255
    weights = with_narrower_blocks(load_codec(recipe, snapshot), INNER, crops)
    learning = msgspec.structs.replace(recipe.finetune, steps=steps, validate_every=steps // 2)
    shape = msgspec.structs.replace(recipe.shape, synthesis_inner=INNER)
    recipe = msgspec.structs.replace(recipe, shape=shape, finetune=learning)
    run = output.with_suffix(".run")
    run.mkdir(parents=True, exist_ok=True)
    start = run / "narrow.safetensors"
    save_snapshot(start, shape, weights)
    codec = finetune(recipe, start, data, run, say=print)
    base = open_bundle("photo-psnr")
    own = base.manifest
    about = {**own.provenance, "recipe": {**own.provenance["recipe"], "shape": msgspec.to_builtins(shape)}}
    manifest = msgspec.structs.replace(own, name="slim", provenance=about, figures={})
    entries = {**base.entries, "manifest.json": to_json(manifest), "synthesis.onnx": export_synthesis(codec)}
    write_bundle(output, entries)


if __name__ == "__main__":
    main()
