r"""The paper's own setting: a stage 1 whose decoder sees noise, beside one whose decoder sees rounding.

    python -m experiments.two_stage.paper RECIPE SNAPSHOT --data-root DATA --seed S -o ROWS.json
    python -m experiments.two_stage.paper RECIPE --tuned ARM .. --data-root DATA --seed S -o ROWS.json
    python -m experiments.two_stage.paper --table ROWS.json

As published (arXiv 2506.08662), synthesis and means see latents with additive noise in stage 1; here they see
straight-through rounding. From one snapshot both take as many steps at falling rates, or, without one, both
begin with principal components and take the recipe's; then the stage ``finetune`` retrains parts of each on
latents of a mode. A control takes as many more steps of its stage 1 instead. Held-out pictures, coded by the
product's coder with tables measured anew; bits by the tables, at equal PSNR.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from experiments.harness import over_seeds
from experiments.judging import Measured, coding_of, curves, gains, load_held_out
from experiments.two_stage.run import MODES, PARTS, with_more
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

MORE = "more of stage 1"
POSITIONS, CROPS, EVERY = (24, 56, 88, 120), 24, 2
BATCH = Batches(0, 8, 192)
CPU = torch.device("cpu")


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
    parser.add_argument("recipe", type=Path, nargs="?")
    parser.add_argument("snapshot", type=Path, nargs="?")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--steps", type=int, default=120, help="of either stage, from a snapshot")
    parser.add_argument("--tuned", nargs="+", choices=[*PARTS, MORE], default=["synthesis"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())), end="")
        return
    torch.set_num_threads(1)
    rows = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    recipe = msgspec.structs.replace(read_recipe(arguments.recipe), seed=arguments.seed)
    if arguments.snapshot is not None:
        recipe = with_steps(recipe, arguments.steps)
    about = {"seed": arguments.seed, "steps": recipe.pretrain.steps}
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(recipe, arguments.data_root, Path(folder), arguments.snapshot)
        for row in setting.measured(arguments.tuned):
            rows.append({**about, **row})
            arguments.output.write_text(json.dumps(rows, indent=1) + "\n")
            print(rows[-1], flush=True)


def with_steps(recipe: Recipe, steps: int) -> Recipe:
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
    return replace(recipe, pretrain=first, finetune=second)


@dataclass(frozen=True)
class Setting:
    """What both kinds of stage 1 have in common. folder: of their runs. snapshot: that they start from."""

    recipe: Recipe
    data_root: Path
    folder: Path
    snapshot: Path | None

    def measured(self, tuned: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A row for every stage 1, mode and second stage: curves before and after that."""
        held_out = load_held_out(self.recipe, self.data_root, CROPS)

        def curve(codec: Codec, mode: Mode) -> list[list[float]]:
            of = Measured.of(codec, held_out.crops)
            coding = coding_of(of, mode, self.recipe.export.modes[mode])
            found = curves(of, coding, mode, held_out.pictures[::EVERY], POSITIONS, ("psnr",))
            return np.round(found, 5).tolist()

        for name, design in STAGE_1.items():
            first = self.pretrained(name, self.recipe, self.snapshot, design)
            begun = self.folder / name / "snapshot.safetensors"
            before = {mode: curve(first, mode) for mode in MODES}
            for arm in tuned:
                if arm == MORE:
                    more = self.pretrained(
                        f"{name}-more", with_more(self.recipe, self.recipe.finetune.steps), begun, design
                    )
                    after = {mode: curve(more, mode) for mode in MODES}
                else:
                    after = {mode: curve(self.tuned(begun, mode, arm), mode) for mode in MODES}
                for mode in MODES:
                    known = {"stage 1": name, "stage 2": arm, "mode": mode}
                    yield {**known, "before": before[mode], "after": after[mode]}

    def pretrained(self, name: str, recipe: Recipe, snapshot: Path | None, design: Design) -> Codec:
        run = self.folder / name
        pretrain(recipe, self.data_root, run, CPU, snapshot=snapshot, design=design, say=print)
        return load_codec(recipe, run / "snapshot.safetensors")

    def tuned(self, begun: Path, mode: Mode, parts: str) -> Codec:
        settings = msgspec.structs.replace(self.recipe.finetune, mode=mode, parts=PARTS[parts])
        recipe = msgspec.structs.replace(self.recipe, finetune=settings)
        run = self.folder / f"{begun.parent.name}-{mode}-{parts}"
        return finetune(recipe, begun, self.data_root, run, say=print)


def table(rows: list[dict[str, Any]]) -> str:
    """What stage 2 buys after either stage 1, and where both stand: means over seeds, and each seed."""
    base = {(row["seed"], row["mode"]): row["before"] for row in rows if row["stage 1"] == "rounding"}
    lines = []
    for key in dict.fromkeys(arm_of(row) for row in sorted(rows, key=place_of)):
        found = [row for row in rows if arm_of(row) == key]
        own = [_gain(row["before"], row["after"]) for row in found]
        all_in_all = [_gain(base[row["seed"], row["mode"]], row["after"]) for row in found]
        lines.append([*key, over_seeds(own), over_seeds(all_in_all)])
    heads = ["mode", "stage 1", "stage 2", "stage 2 saves", "both against rounding alone"]
    return markdown_table(heads, lines) + "\n"


def arm_of(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["mode"], row["stage 1"], row["stage 2"]


def place_of(row: dict[str, Any]) -> tuple[int, int]:
    """Where a row stands in the table; stages 2 follow in the order of the rows."""
    return list(MODES).index(row["mode"]), list(STAGE_1).index(row["stage 1"])


def _gain(anchor: list[list[float]], found: list[list[float]]) -> float:
    return gains(np.array(anchor), np.array(found))[0]


if __name__ == "__main__":
    main()
