r"""Soft staircases end to end: transforms trained through one that hardens, beside rounding and noise.

    python -m experiments.annealing.run RECIPE SNAPSHOT --data-root DATA --seed S -o ROWS.json
    python -m experiments.annealing.run --table ROWS.json

From one snapshot every arm takes as many steps at falling rates, on crops of 128. What differs is what the
synthesis and later phases see of the latents in training, and what prices them:

    rounding             rounded, gradients straight through       with noise
    noise                with noise                                with noise
    staircase            through tangents that become steep        with noise
    staircase, its bits  the same                                  levels by how much a value belongs to each

Tangents become steeper from an inverse temperature of 3 to 20 in the first 70 % of the steps and are hard
from there on, with the gradients of 20 (``Geometric``). Levels and thresholds are those of rounding. On the
way and at the end held-out crops are coded by the model, rounded as in files.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from experiments.harness import asked, over_seeds, read_rows, write_rows
from experiments.two_stage.paper import Noisy
from torch import Tensor

from softstair.evaluate import delta_rate, markdown_table
from softstair.learn.checkpoint import load_codec
from softstair.learn.codec import Codec, Passage, Walk
from softstair.learn.data import load_pictures
from softstair.learn.layers.densities import SIGMA_MAX, SIGMA_MIN
from softstair.learn.layers.stanh import Geometric, STanH, gaussian_mass
from softstair.learn.log import commit
from softstair.learn.networks import magnitude
from softstair.learn.noise import Noise
from softstair.learn.recipe import Batches, Recipe, read_recipe
from softstair.learn.shape import Shape
from softstair.learn.stages.pretrain import Design, pretrain
from softstair.learn.validation import validate

POSITIONS = [24, 56, 88, 120]
BATCH = Batches(0, 8, 128)
LOOKS, EVERY, SIDE = 10, 2, 256  # on the way; at the middle of every second held-out picture
FIRST = "rounding"
Curve = list[list[float]]  # bits a pixel and PSNR, a row a position


@dataclass
class Watch:
    """What held-out crops, uint8 (H, W, 3), cost on the way, by step. every: steps between two looks."""

    crops: list[npt.NDArray[np.uint8]]
    every: int
    found: dict[int, Curve] = field(default_factory=dict)

    def curve(self, codec: Codec) -> Curve:
        points = validate(codec, self.crops, POSITIONS)
        return [[round(one.bpp, 5), round(one.psnr, 4)] for one in points]

    def look(self, codec: Codec, step: int) -> None:
        plain = Codec(codec.shape)
        plain.load_state_dict(codec.state_dict())
        plain.set_fixed(True)
        self.found[step] = self.curve(plain.eval())


class Watched(Codec):
    """Counts the steps that it is trained in, of so many, and is looked at now and then."""

    def __init__(self, shape: Shape, watch: Watch, steps: int) -> None:
        super().__init__(shape)
        self.watch, self.step = watch, 0
        self.schedule = Geometric(steps)

    def forward(self, picture: Tensor, position: Tensor, noise: Noise | None) -> Passage:
        if noise is not None:
            if self.step % self.watch.every == 0:
                self.watch.look(self, self.step)
            self.step += 1
        return super().forward(picture, position, noise)


class WatchedNoisy(Watched, Noisy):
    """y^ is y and noise."""


class Soft(Watched):
    """y^ comes from a staircase that hardens."""

    def __init__(self, shape: Shape, watch: Watch, steps: int) -> None:
        super().__init__(shape, watch, steps)
        self.staircases = (STanH().requires_grad_(False),)  # in a tuple it is no part: none of it learns

    def forward(self, picture: Tensor, position: Tensor, noise: Noise | None) -> Passage:
        self.staircases[0].beta = self.schedule.beta(self.step)
        return super().forward(picture, position, noise)

    def quantize(self, y: Tensor, z_hat: Tensor, octaves: Tensor, hat: Tensor) -> Walk:
        gain, step, (staircase,) = torch.exp2(octaves), torch.exp2(-octaves), self.staircases

        def decide(mean: Tensor, log_scale: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            residual = (y - mean.detach()) * gain
            value, _ = staircase.priced(residual, torch.zeros_like)
            # The integer network reads whole numbers, in training as in files.
            return mean.detach() + value * step, magnitude(residual.round().detach())

        return self.walk(y, z_hat, octaves, hat, decide)


class SoftPriced(Soft):
    """The staircase prices latents, too."""

    def forward(self, picture: Tensor, position: Tensor, noise: Noise | None) -> Passage:
        passage = super().forward(picture, position, noise)
        assert noise is not None  # it is watched with other codecs
        return Passage(passage.picture, self.y_bits, passage.z_bits)

    def quantize(self, y: Tensor, z_hat: Tensor, octaves: Tensor, hat: Tensor) -> Walk:
        walk = super().quantize(y, z_hat, octaves, hat)
        sigma = torch.exp2(walk.log_scale).clamp(SIGMA_MIN, SIGMA_MAX)
        _, bits = self.staircases[0]((y - walk.mean) * torch.exp2(octaves), gaussian_mass(sigma))
        self.y_bits = bits.sum((1, 2, 3))
        return walk


ARMS: dict[str, type[Watched]] = {
    FIRST: Watched,
    "noise": WatchedNoisy,
    "staircase": Soft,
    "staircase, its bits": SoftPriced,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    arguments = asked(parser, table, "recipe", "snapshot")
    torch.set_num_threads(1)
    recipe = with_steps(read_recipe(arguments.recipe), arguments.steps, arguments.seed)
    held_out = load_pictures([arguments.data_root / name for name in recipe.data.validation])
    crops = [middle(one) for one in held_out[::EVERY]]
    for name in arguments.arms:
        row = train(name, recipe, arguments.snapshot, arguments.data_root, crops)
        write_rows(arguments.output, [*read_rows(arguments.output), row])
        print(row, flush=True)


def middle(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A square from the middle of a picture (H, W, 3)."""
    top, left = ((side - SIDE) // 2 for side in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


def with_steps(recipe: Recipe, steps: int, seed: int) -> Recipe:
    """So many steps of stage 1, whose rates fall after the first fifth."""
    settings = msgspec.structs.replace(
        recipe.pretrain,
        batches=[BATCH],
        steps=steps,
        decay_from=steps // 5,
        fixed_from=0,
        warm_up=10,
        average=0.9,
        validate_every=10 * steps,
        checkpoint_every=steps,
    )
    data = msgspec.structs.replace(recipe.data, graphics=[], saturated=0.0)
    return msgspec.structs.replace(recipe, pretrain=settings, data=data, seed=seed, precision="bfloat16")


def train(
    name: str, recipe: Recipe, snapshot: Path, data_root: Path, crops: list[npt.NDArray[np.uint8]]
) -> dict[str, Any]:
    """A row: what held-out crops cost by step, and with the averaged weights in the end."""
    steps, began = recipe.pretrain.steps or 0, time.monotonic()
    watch = Watch(crops, max(steps // LOOKS, 1))
    design = Design(codec=lambda shape: ARMS[name](shape, watch, steps))
    with tempfile.TemporaryDirectory() as folder:
        run, device = Path(folder), torch.device("cpu")
        pretrain(recipe, data_root, run, device, snapshot=snapshot, design=design, say=print)
        end = watch.curve(load_codec(recipe, run / "snapshot.safetensors"))
    return {
        "arm": name,
        "seed": recipe.seed,
        "steps": steps,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "commit": commit(),
        "by step": watch.found,
        "end": end,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Bits at equal PSNR against the snapshot by step, and in the end against rounding of the same seed."""
    steps = list(rows[0]["by step"])[1:]
    base = {row["seed"]: row["end"] for row in rows if row["arm"] == FIRST}
    lines = []
    for name in ARMS:
        found = [row for row in rows if row["arm"] == name]
        if not found:
            continue
        ways = [[bits(row["by step"]["0"], row["by step"][step]) for row in found] for step in steps]
        ends = [bits(row["by step"]["0"], row["end"]) for row in found]
        cells = [f"{np.mean(values):+.1f}" for values in [*ways, ends]]
        last = over_seeds([bits(base[row["seed"]], row["end"]) for row in found])
        lines.append([name, *cells, last])
    return markdown_table(["", *steps, "end", f"end, against {FIRST}"], lines)


def bits(anchor: Curve, found: Curve) -> float:
    """Per cent of bits that a curve takes more than another at equal PSNR."""
    return delta_rate([(b, q) for b, q in anchor], [(b, q) for b, q in found]).pchip


if __name__ == "__main__":
    main()
