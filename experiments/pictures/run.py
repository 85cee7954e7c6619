r"""More pictures, and graphics among them: what they do to photographs, and to text and screens.

    python -m experiments.pictures.run RECIPE SNAPSHOT --data-root DATA --seed S -o ROWS.json
    python -m experiments.pictures.run --table ROWS.json

From one snapshot every arm takes as many steps at falling rates; arms differ in the pictures that crops are
cut from, and are those of ``ARMS``. By the model, at the middle of pictures that nothing was trained on:
held-out photographs, and screens and documents that packs are adapted to (no test set has them).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from experiments.annealing.run import Curve, bits, middle
from experiments.harness import Row, asked, over_seeds, read_rows, write_rows

from softstair.evaluate import markdown_table
from softstair.learn.checkpoint import load_codec
from softstair.learn.codec import Codec
from softstair.learn.data import load_pictures
from softstair.learn.log import commit
from softstair.learn.recipe import Batches, Recipe, read_recipe
from softstair.learn.stages.pretrain import pretrain
from softstair.learn.validation import validate

POSITIONS = [24, 56, 88, 120]
JUDGED = {  # every second picture of each
    "photographs": "train/heldout.tar",
    "screens": "domains/screens/adapt",
    "documents": "domains/documents/adapt",
}
EVERY = 2
SNAPSHOT = "the snapshot"


def packs(last: int, share: float = 0.0) -> dict[str, Any]:
    """Settings of a recipe's data: photographs of so many packs, and the share of crops cut from graphics."""
    graphics = {"graphics": ["train/graphics-00.tar"], "graphics_share": share} if share else {"graphics": []}
    return {"train": [f"train/pack-{number:02}.tar" for number in range(last + 1)], **graphics}


FIRST = "packs 00 to 02, 572 photographs"
ARMS = {
    FIRST: packs(2),
    "packs 00 to 06, 1200 photographs": packs(6),
    "the same, 12 % graphics": packs(6, 0.12),
    "the same, 4 % graphics": packs(6, 0.04),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--crops", type=int, default=8, help="of 128 pixels in a step")
    parser.add_argument("--seed", type=int, default=1)
    arguments = asked(parser, table, "recipe", "snapshot")
    torch.set_num_threads(1)
    rows, recipe = read_rows(arguments.output), read_recipe(arguments.recipe)
    known = {"seed": arguments.seed, "steps": arguments.steps, "crops": arguments.crops}
    if not any(row["arm"] == SNAPSHOT for row in rows):
        start = load_codec(recipe, arguments.snapshot)
        rows.append({"arm": SNAPSHOT, "judged": judged(start, arguments.data_root)})
    for name in ARMS:
        batch = Batches(0, arguments.crops, 128)
        own = recipe_of(recipe, name, batch, arguments.steps, arguments.seed)
        rows.append(known | train(name, own, arguments.snapshot, arguments.data_root))
        write_rows(arguments.output, rows)
        print(rows[-1], flush=True)


def recipe_of(recipe: Recipe, arm: str, batch: Batches, steps: int, seed: int) -> Recipe:
    """So many steps of stage 1 on an arm's pictures, whose rates fall after the first fifth."""
    replace = msgspec.structs.replace
    settings = replace(
        recipe.pretrain,
        batches=[batch],
        steps=steps,
        decay_from=steps // 5,
        fixed_from=0,
        warm_up=20,
        average=0.98,
        validate_every=10 * steps,
        checkpoint_every=steps,
    )
    data = replace(recipe.data, saturated=0.0, **ARMS[arm])
    return replace(recipe, pretrain=settings, data=data, seed=seed, precision="bfloat16")


def train(name: str, recipe: Recipe, snapshot: Path, data_root: Path) -> Row:
    """A row: what every kind of picture costs with the averaged weights in the end."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        pretrain(recipe, data_root, run, torch.device("cpu"), snapshot=snapshot, say=print)
        codec = load_codec(recipe, run / "snapshot.safetensors")
    minutes = round((time.monotonic() - began) / 60, 1)
    return {"arm": name, "minutes": minutes, "commit": commit(), "judged": judged(codec, data_root)}


def judged(codec: Codec, data_root: Path) -> dict[str, Curve]:
    """Bits a pixel and PSNR by kind of picture, a row a position."""
    found = {}
    for kind, source in JUDGED.items():
        crops = [middle(one) for one in load_pictures([data_root / source])[::EVERY]]
        points = validate(codec, crops, POSITIONS)
        found[kind] = [[round(one.bpp, 5), round(one.psnr, 4)] for one in points]
    return found


def table(rows: list[Row]) -> str:
    """Bits at equal PSNR against the first arm of the same seed, a column a kind of picture."""
    base = {row["seed"]: row["judged"] for row in rows if row["arm"] == FIRST}
    (start,) = (row["judged"] for row in rows if row["arm"] == SNAPSHOT)
    lines = []
    for name in ARMS:
        found = [row for row in rows if row["arm"] == name]
        if found:
            cells = [
                over_seeds([bits(base[row["seed"]][kind], row["judged"][kind]) for row in found])
                for kind in JUDGED
            ]
            lines.append([name, *cells])
    against = [over_seeds([bits(one[kind], start[kind]) for one in base.values()]) for kind in JUDGED]
    return markdown_table(["", *JUDGED], [*lines, [SNAPSHOT, *against]]) + "\n"


if __name__ == "__main__":
    main()
