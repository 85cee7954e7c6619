r"""The paper's own setting: a stage 1 whose decoder sees noise, beside one whose decoder sees rounding.

    python -m experiments.two_stage.paper RECIPE SNAPSHOT --data-root DATA --seed S -o ROWS.json
    python -m experiments.two_stage.paper --table ROWS.json

As published (arXiv 2506.08662), synthesis and means see latents with additive noise in stage 1; here they see
straight-through rounding. From one snapshot both take as many steps at falling rates; then the stage
``finetune`` retrains the synthesis of each on latents of a mode. Held-out pictures, coded by the product's
coder with tables measured anew; bits by the tables, at equal PSNR.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import torch
from experiments.harness import Row, asked, over_seeds, read_rows, write_rows
from experiments.judging import Measured, coding_of, curves, gains, load_held_out
from torch import Tensor

from softstair.evaluate import markdown_table
from softstair.learn.checkpoint import load_codec
from softstair.learn.codec import Codec, Passage, Walk
from softstair.learn.networks import magnitude
from softstair.learn.noise import Noise
from softstair.learn.recipe import Batches, Recipe, read_recipe
from softstair.learn.stages.finetune import finetune
from softstair.learn.stages.pretrain import STANDARD, Design, pretrain
from softstair.mode import Mode

MODES = (Mode.SCALAR, Mode.RDOQ, Mode.TCQ8)
POSITIONS, CROPS, EVERY = (24, 56, 88, 120), 24, 2
BATCH = Batches(0, 8, 192)


class Noisy(Codec):
    """In training y^ is y and noise, for the synthesis and for the means of later phases."""

    noise: Tensor | None = None

    def forward(self, picture: Tensor, position: Tensor, noise: Noise | None) -> Passage:
        self.noise = None if noise is None else noise.y
        return super().forward(picture, position, noise)

    def quantize(self, y: Tensor, z_hat: Tensor, octaves: Tensor, hat: Tensor) -> Walk:
        if self.noise is None:
            return super().quantize(y, z_hat, octaves, hat)
        gain, noise = torch.exp2(octaves), self.noise

        def decide(mean: Tensor, log_scale: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            # The integer network reads whole numbers, in training as in files.
            return y + noise / gain, magnitude(((y - mean) * gain).round().detach())

        return self.walk(y, z_hat, octaves, hat, decide)


STAGE_1 = {"rounding": STANDARD, "noise": Design(codec=Noisy)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=120, help="of either stage")
    parser.add_argument("--seed", type=int, default=1)
    arguments = asked(parser, table, "recipe", "snapshot")
    torch.set_num_threads(1)
    rows = read_rows(arguments.output)
    recipe = with_steps(read_recipe(arguments.recipe), arguments.steps, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        for row in measured(recipe, arguments.snapshot, arguments.data_root, Path(folder)):
            rows.append({"seed": arguments.seed, "steps": arguments.steps, **row})
            write_rows(arguments.output, rows)
            print(rows[-1], flush=True)


def with_steps(recipe: Recipe, steps: int, seed: int) -> Recipe:
    """So many steps for stage 1, whose rates fall after the first fifth, and as many for stage 2."""
    replace = msgspec.structs.replace
    first = replace(
        recipe.pretrain,
        batches=[BATCH],
        steps=steps,
        decay_from=steps // 5,
        fixed_from=0,
        validate_every=steps,
        checkpoint_every=steps,
    )
    second = replace(
        recipe.finetune, steps=steps, count=BATCH.count, side=BATCH.side, validate_every=steps, warm_up=20
    )
    return replace(recipe, pretrain=first, finetune=second, seed=seed)


def measured(recipe: Recipe, snapshot: Path, data_root: Path, folder: Path) -> list[Row]:
    """A row for every stage 1 and mode: curves before and after stage 2."""
    held_out, rows = load_held_out(recipe, data_root, CROPS), []

    def curve(codec: Codec, mode: Mode) -> list[list[float]]:
        of = Measured.of(codec, held_out.crops)
        coding = coding_of(of, mode, recipe.export.modes[mode])
        found = curves(of, coding, mode, held_out.pictures[::EVERY], POSITIONS, ("psnr",))
        return np.round(found, 5).tolist()

    for name, design in STAGE_1.items():
        run = folder / name
        pretrain(recipe, data_root, run, torch.device("cpu"), snapshot=snapshot, design=design, say=print)
        first = load_codec(recipe, run / "snapshot.safetensors")
        for mode in MODES:
            wanted = msgspec.structs.replace(recipe.finetune, mode=mode)
            one = msgspec.structs.replace(recipe, finetune=wanted)
            second = finetune(
                one, run / "snapshot.safetensors", data_root, folder / f"{name}-{mode}", say=print
            )
            rows.append(
                {"stage 1": name, "mode": mode, "before": curve(first, mode), "after": curve(second, mode)}
            )
    return rows


def table(rows: list[Row]) -> str:
    """What stage 2 buys after either stage 1, and where both stand: means over seeds, and each seed."""
    lines = []
    base = {(row["seed"], row["mode"]): row["before"] for row in rows if row["stage 1"] == "rounding"}
    for mode in dict.fromkeys(row["mode"] for row in rows):
        for name in STAGE_1:
            found = [row for row in rows if (row["mode"], row["stage 1"]) == (mode, name)]
            own = [_gain(row["before"], row["after"]) for row in found]
            all_in_all = [_gain(base[row["seed"], mode], row["after"]) for row in found]
            lines.append((mode, name, over_seeds(own), over_seeds(all_in_all)))
    heads = ("mode", "stage 1", "stage 2 saves", "both against rounding alone")
    return markdown_table(heads, lines, words=2)


def _gain(anchor: list[list[float]], found: list[list[float]]) -> float:
    return gains(np.array(anchor), np.array(found))[0]


if __name__ == "__main__":
    main()
