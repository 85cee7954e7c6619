r"""What fine-tuning on quantized latents buys, beside what else the same steps could have bought.

    python -m experiments.two_stage.run train RECIPE SNAPSHOT --data-root DATA [--arms NAME,..] [--steps 500]
    python -m experiments.two_stage.run measure RECIPE SNAPSHOT DATASET --data-root DATA

All arms start from one snapshot of stage 1 and take as many steps on crops of one size at the same
learning rates: the stage ``finetune`` in a mode with its parts, and, as controls, more of stage 1 as it
was, with rounding instead of noise for the rate, and with the encoder frozen; beside them, the stage
``derive`` on the snapshot as it is. ``measure`` exports all of them, codes and decodes files, and
prints delta rates against the snapshot in the same mode. Both go on where they were stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from experiments import harness
from torch import Tensor

from softstair.evaluate import markdown_table
from softstair.learn.codec import Codec, Passage
from softstair.learn.export.bundle import export_snapshot
from softstair.learn.noise import Noise
from softstair.learn.recipe import Batches, Export, Recipe, read_recipe
from softstair.learn.shape import Shape
from softstair.learn.stages.derive import derive
from softstair.learn.stages.finetune import finetune
from softstair.learn.stages.pretrain import STANDARD, Design, pretrain
from softstair.mode import Mode

HERE = Path(__file__).parent
MODES = (Mode.SCALAR, Mode.RDOQ, Mode.TCQ8)
POSITIONS = (24, 56, 88, 120)
PARTS = {
    "synthesis": ("synthesis",),
    "+ mean": ("synthesis", "mean"),
    "+ scale": ("synthesis", "mean", "scale"),
}
POINTS = (16, 32, 48, 64, 80, 96, 112, 128)  # the rate points around POSITIONS
STAGE_1 = "stage 1"


@dataclass(frozen=True)
class Arm:
    """One training: settings of its stage that are not the recipe's, modes that files are measured in.

    on: the arm whose staircases latents are quantized with. design: of ``pretrain``.
    """

    name: str
    stage: Literal["pretrain", "finetune", "derive"]
    changes: dict[str, Any]
    coded: tuple[Mode, ...]
    on: str | None = None
    design: Design = STANDARD


class Rounding(Codec):
    """Prices rounded latents, not latents with noise."""

    def forward(self, picture: Tensor, position: Tensor, noise: Noise | None) -> Passage:
        return super().forward(picture, position, None)


def frozen_encoder(shape: Shape) -> Codec:
    """A codec in which what the stage ``finetune`` never changes stays as it is."""
    codec = Codec(shape)
    for part in (codec.analysis, codec.hyper_analysis, codec.gains):
        part.requires_grad_(False)
    return codec


def _control(name: str, design: Design = STANDARD) -> Arm:
    return Arm(name, "pretrain", {}, MODES, design=design)


def _tuned(mode: Mode, parts: str) -> Arm:
    # Files of another mode than the one of the training: what a bundle with one synthesis would hold.
    coded = MODES if parts == "synthesis" else (mode,)
    return Arm(f"{mode} {parts}", "finetune", {"mode": mode, "parts": PARTS[parts]}, coded)


ARMS = [
    _control("noise and rounding"),
    _control("rounding", Design(codec=Rounding)),
    _control("encoder frozen", Design(codec=frozen_encoder)),
    Arm("staircases", "derive", {}, (Mode.SCALAR,)),
    Arm("staircases synthesis", "finetune", {"mode": Mode.SCALAR}, (Mode.SCALAR,), on="staircases"),
    *(_tuned(mode, parts) for mode in MODES for parts in PARTS),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=("train", "measure"))
    parser.add_argument("recipe", type=Path)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("data_set", nargs="?")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/two-stage"), help="folder of all arms")
    parser.add_argument("--arms", help="some of them, by name")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--crops", type=int, default=60, help="training crops to measure tables on")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = read_recipe(arguments.recipe)
    names = arguments.arms.split(",") if arguments.arms else [arm.name for arm in ARMS]
    arms = [arm for arm in ARMS if arm.name in names]
    if arguments.action == "train":
        for arm in arms:
            train(arm, recipe, arguments)
    else:
        measure_all(arms, recipe, arguments)


def folder_of(arm: Arm, runs: Path) -> Path:
    return runs / arm.name.replace(" + ", "-").replace(" ", "-")


def with_more(recipe: Recipe, steps: int) -> Recipe:
    """Steps of stage 1 at the rates of stage 2, on as many crops of its size."""
    tuning = recipe.finetune
    settings = msgspec.structs.replace(
        recipe.pretrain,
        batches=[Batches(0, tuning.count, tuning.side)],
        steps=steps,
        decay_from=0,
        fixed_from=0,
        warm_up=tuning.warm_up,
        muon_rate=tuning.muon_rate,
        adam_rate=tuning.adam_rate,
        average=tuning.average,
        validate_every=steps,
    )
    return msgspec.structs.replace(recipe, pretrain=settings)


def train(arm: Arm, recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Train an arm, or go on."""
    run, replace = folder_of(arm, arguments.runs), msgspec.structs.replace
    if is_done(run):
        return
    print(arm.name, flush=True)
    tuning = recipe.finetune
    if arm.stage == "derive":
        derive(recipe, arguments.snapshot, arguments.data_root, run, positions=POINTS, say=say)
    elif arm.stage == "pretrain":
        pretrain(
            with_more(recipe, arguments.steps),
            arguments.data_root,
            run,
            torch.device("cpu"),
            snapshot=arguments.snapshot,
            say=say,
            design=arm.design,
        )
    else:
        settings = replace(tuning, steps=arguments.steps, **arm.changes)
        tuned = replace(recipe, finetune=settings)
        staircases = None if arm.on is None else arguments.runs / arm.on / "staircases.json"
        finetune(tuned, arguments.snapshot, arguments.data_root, run, staircases=staircases, say=say)
    (run / "done").touch()


def is_done(run: Path) -> bool:
    return (run / "done").exists()


say = partial(print, flush=True)


def measure_all(arms: list[Arm], recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Files of every arm that is trained, in its modes."""
    bundles: list[tuple[str, tuple[Mode, ...], Path]] = [
        (STAGE_1, MODES, bundle_of(recipe, arguments.snapshot, arguments))
    ]
    for arm in arms:
        run = folder_of(arm, arguments.runs)
        if not is_done(run):
            continue
        snapshot = arguments.snapshot if arm.stage == "derive" else run / "snapshot.safetensors"
        staircases = run / "staircases.json"
        bundle = bundle_of(recipe, snapshot, arguments, staircases if staircases.exists() else None)
        bundles.append((arm.name, arm.coded, bundle))
    measured = [
        harness.Arm(f"{name}/{mode}", bundle, mode, POSITIONS)
        for name, modes, bundle in bundles
        for mode in modes
    ]
    data_set, output = arguments.data_root / arguments.data_set, HERE / f"{arguments.data_set}.json"
    means = harness.measure(measured, data_set, arguments.runs / "rows", output)
    print(report(means, [name for name, *_ in bundles]))


def bundle_of(
    recipe: Recipe, snapshot: Path, arguments: argparse.Namespace, staircases: Path | None = None
) -> Path:
    """A bundle of the three modes, kept in the folder of all arms."""
    path = arguments.runs / f"{(staircases or snapshot).parent.name}.stairs"
    if not path.exists():
        arguments.runs.mkdir(parents=True, exist_ok=True)
        modes = {mode: recipe.export.modes[mode] for mode in MODES}
        tuning = msgspec.structs.replace(recipe.finetune, mode=Mode.SCALAR)
        few = msgspec.structs.replace(
            recipe, export=Export(arguments.crops, Mode.SCALAR, modes), finetune=tuning
        )
        export_snapshot(few, snapshot, arguments.data_root, path, staircases=staircases)
    return path


def report(means: harness.Means, names: list[str]) -> str:
    """Delta rates against stage 1 in the same mode, and of stage 1's modes against its rounding."""

    def cell(name: str, mode: Mode) -> str:
        if f"{name}/{mode}" not in means.arms:
            return "-"
        same, rounding = (
            means.bits(f"{STAGE_1}/{anchor}", f"{name}/{mode}") for anchor in (mode, Mode.SCALAR)
        )
        return f"{same:+.2f} % ({rounding:+.2f} %)"

    rows = ([name, *(cell(name, mode) for mode in MODES)] for name in names)
    return (
        f"{means.pictures} pictures, rate positions {', '.join(map(str, POSITIONS))}; BD-rate, PSNR, PCHIP,\n"
        "bytes of whole files, against stage 1 in the same mode; in brackets against stage 1 with rounding.\n"
        "\n" + markdown_table(["trained", *(f"files: {mode}" for mode in MODES)], rows)
    )


if __name__ == "__main__":
    main()
