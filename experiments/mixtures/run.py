"""Distortions to train on, compared from one snapshot at equal steps.

python -m experiments.mixtures.run NAME SNAPSHOT --data-root DATA [--seed S] -o ROWS.json
python -m experiments.mixtures.run --table ROWS.json
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from experiments.grid.run import grids
from experiments.harness import Row, asked, read_rows, write_rows
from experiments.judging import Measured, coding_of, curves, gains, load_held_out

from softstair.evaluate import markdown_table
from softstair.learn.log import commit
from softstair.learn.recipe import Recipe, read_recipe
from softstair.learn.stages.pretrain import pretrain
from softstair.mode import Mode

# Settings of the recipe's rates. Mixtures are shares of SSIMULACRA 2's terms, MS-SSIM and squared error.
ARMS: dict[str, dict[str, Any]] = {
    "squared error": {"distortion": "mse"},
    "recipe": {},
    "more SSIMULACRA 2": {"mixture": (0.7, 0.1, 0.2)},
    "more MS-SSIM": {"mixture": (0.1, 0.7, 0.2)},
    "more squared error": {"mixture": (0.25, 0.25, 0.5)},
}
CONTROL = "squared error"
RECIPE = Path(__file__).parents[2] / "recipes" / "eye.toml"
MODE, POSITIONS = Mode.TCQ32, (24, 48, 72, 104)
JUDGES = ("psnr", "ssimulacra2", "butteraugli", "cvvdp")
CROPS = 24  # that tables are measured on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", choices=ARMS, nargs="?")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    train(asked(parser, table, "snapshot"))


def recipe_of(name: str, steps: int, seed: int) -> Recipe:
    """The recipe of an arm: so many steps, rates falling after the first fifth."""
    recipe = read_recipe(RECIPE)
    schedule = msgspec.structs.replace(
        recipe.pretrain, steps=steps, decay_from=steps // 5, validate_every=steps, checkpoint_every=steps
    )
    rates = msgspec.structs.replace(recipe.rates, **ARMS[name])
    return msgspec.structs.replace(recipe, pretrain=schedule, rates=rates, seed=seed)


def train(arguments: argparse.Namespace) -> None:
    """Train an arm, judge it and add its row to the output."""
    torch.set_num_threads(1)
    recipe = recipe_of(arguments.name, arguments.steps, arguments.seed)
    with tempfile.TemporaryDirectory() as run:
        codec = pretrain(
            recipe,
            arguments.data_root,
            Path(run),
            torch.device("cpu"),
            snapshot=arguments.snapshot,
            say=print,
        )
    codec.set_fixed(True)
    codec.eval()
    held_out = load_held_out(recipe, arguments.data_root, CROPS)
    measured = Measured.of(codec, held_out.crops)
    coding = coding_of(measured, MODE, recipe.export.modes[MODE])
    found = curves(measured, coding, MODE, held_out.pictures, POSITIONS, JUDGES)
    grid = [ways["trellis"] for ways in grids(recipe, measured, held_out).values()]
    row = {
        "name": arguments.name,
        "seed": arguments.seed,
        "steps": arguments.steps,
        "snapshot": arguments.snapshot.name,
        "commit": commit(),
        "recipe": msgspec.to_builtins(recipe),
        "judges": JUDGES,
        "positions": POSITIONS,
        "curves": np.round(found, 5).tolist(),
        "grid": round(sum(grid) / len(grid), 3),
    }
    same = (row["name"], row["seed"])
    rows = [other for other in read_rows(arguments.output) if (other["name"], other["seed"]) != same]
    write_rows(arguments.output, [*rows, row])


def table(rows: list[Row]) -> str:
    """Every arm against the control of its seed."""
    controls = {row["seed"]: np.array(row["curves"]) for row in rows if row["name"] == CONTROL}
    cells = []
    for row in sorted(rows, key=lambda row: (row["name"], row["seed"])):
        found = gains(controls[row["seed"]], np.array(row["curves"]))
        bits = (f"{gain:+.1f} %" for gain in found)
        cells.append([row["name"], row["seed"], row["steps"], *bits, f"{row['grid']:.2f}"])
    return markdown_table(["trained on", "seed", "steps", *JUDGES, "grid"], cells)


if __name__ == "__main__":
    main()
