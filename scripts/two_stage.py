r"""What fine-tuning on quantized latents buys, beside what else the same steps could have bought.

    python scripts/two_stage.py train RECIPE SNAPSHOT --data-root DATA [--arms NAME,..] [--steps 500]
    python scripts/two_stage.py measure RECIPE SNAPSHOT DATASET --data-root DATA \
        -o results/rows/two_stage_DATASET.json

All arms start from one snapshot of stage 1 and take as many steps on crops of one size at the same
learning rates: the stage ``finetune`` in a mode with its parts, and, as controls, more of stage 1 as it
was, with rounding instead of noise for the rate, and with the encoder frozen; beside them, the stage
``derive`` on the snapshot as it is. ``measure`` exports all of them, codes and decodes files, and
prints delta rates against the snapshot in the same mode. Both go on where they were stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from rows import Rows, mean_curves, measure_file

from softstair.bundle import Bundle, read_bundle
from softstair.codec import networks_of
from softstair.codec.tile import TileCoder
from softstair.evaluate import delta_rate, find_data_set
from softstair.evaluate.data import read_rgb
from softstair.learn.export.bundle import export_snapshot
from softstair.learn.recipe import Batches, Export, Recipe, read_recipe
from softstair.learn.stages.derive import derive
from softstair.learn.stages.finetune import finetune
from softstair.learn.stages.pretrain import pretrain
from softstair.mode import Mode

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

    on: the arm whose staircases latents are quantized with.
    """

    name: str
    stage: Literal["pretrain", "finetune", "derive"]
    changes: dict[str, Any]
    coded: tuple[str, ...]
    on: str | None = None


def _control(name: str, **changes: Any) -> Arm:
    return Arm(name, "pretrain", changes, MODES)


def _tuned(mode: str, parts: str) -> Arm:
    # Files of another mode than the one of the training: what a bundle with one synthesis would hold.
    coded = MODES if parts == "synthesis" else (mode,)
    return Arm(f"{mode} {parts}", "finetune", {"mode": mode, "parts": PARTS[parts]}, coded)


ARMS = [
    _control("noise and rounding"),
    _control("rounding", rounds_from=0),
    _control("encoder frozen", encoder_frozen=True),
    Arm("staircases", "derive", {}, ("scalar",)),
    Arm("staircases synthesis", "finetune", {"mode": "scalar"}, ("scalar",), on="staircases"),
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
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = read_recipe(arguments.recipe)
    names = arguments.arms.split(",") if arguments.arms else [arm.name for arm in ARMS]
    arms = [arm for arm in ARMS if arm.name in names]
    if arguments.action == "train":
        for arm in arms:
            train(arm, recipe, arguments)
    else:
        measure(arms, recipe, arguments)


def folder_of(arm: Arm, runs: Path) -> Path:
    return runs / arm.name.replace(" + ", "-").replace(" ", "-")


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
        schedule = replace(
            recipe.pretrain,
            steps=arguments.steps,
            decay_from=0,
            fixed_from=0,
            warm_up=tuning.warm_up,
            muon_rate=tuning.muon_rate,
            adam_rate=tuning.adam_rate,
            average=tuning.average,
            batches=[Batches(0, tuning.count, tuning.side)],
            validate_every=arguments.steps,
            **arm.changes,
        )
        pretrain(
            replace(recipe, pretrain=schedule),
            arguments.data_root,
            run,
            torch.device("cpu"),
            snapshot=arguments.snapshot,
            say=say,
        )
    else:
        settings = replace(tuning, steps=arguments.steps, **arm.changes)
        tuned = replace(recipe, finetune=settings)
        staircases = None if arm.on is None else arguments.runs / arm.on / "staircases.json"
        finetune(tuned, arguments.snapshot, arguments.data_root, run, staircases=staircases, say=say)
    (run / "done").touch()


def is_done(run: Path) -> bool:
    return (run / "done").exists()


def say(line: str) -> None:
    print(line, flush=True)


def measure(arms: list[Arm], recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Rows of bytes and PSNR for every picture, arm, mode and position that is not measured yet."""
    data_set = find_data_set(arguments.data_root / arguments.data_set)
    kept = Rows(arguments.output, data_set)
    done = {(row["picture"], row["arm"], row["mode"], row["position"]) for row in kept.rows}
    jobs = [(STAGE_1, MODES, bundle_of(recipe, arguments.snapshot, arguments))]
    for arm in arms:
        run = folder_of(arm, arguments.runs)
        if not is_done(run):
            continue
        snapshot = arguments.snapshot if arm.stage == "derive" else run / "snapshot.safetensors"
        staircases = run / "staircases.json"
        bundle = bundle_of(recipe, snapshot, arguments, staircases if staircases.exists() else None)
        jobs.append((arm.name, arm.coded, bundle))
    for path in data_set.paths:
        pixels = read_rgb(path)
        for name, modes, bundle in jobs:
            wanted = [(mode, at) for mode in modes for at in POSITIONS]
            wanted = [(mode, at) for mode, at in wanted if (path.name, name, mode, at) not in done]
            if not wanted:
                continue
            networks = networks_of(bundle, arguments.threads)
            analysed = TileCoder(bundle, networks, Mode.SCALAR).analyse(pixels)
            for mode, at in wanted:
                row = measure_file(TileCoder(bundle, networks, mode), analysed, pixels, at, bundle)
                kept.rows.append({"picture": path.name, "arm": name, "mode": mode, "position": at, **row})
        kept.save()
    print(report(kept.rows, [name for name, *_ in jobs]), end="")


def bundle_of(
    recipe: Recipe, snapshot: Path, arguments: argparse.Namespace, staircases: Path | None = None
) -> Bundle:
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
    return read_bundle(path.read_bytes(), str(path))


def report(rows: list[dict[str, Any]], names: list[str]) -> str:
    """Delta rates against stage 1 in the same mode, and of stage 1's modes against its rounding."""
    curves = mean_curves(rows, "arm", "mode")

    def cell(name: str, mode: str) -> str:
        if (name, mode) not in curves:
            return "-"
        same, rounding = (
            delta_rate(curves[STAGE_1, anchor], curves[name, mode]).pchip for anchor in (mode, "scalar")
        )
        return f"{same:+.2f} % ({rounding:+.2f} %)"

    pictures = len({row["picture"] for row in rows})
    lines = [
        f"{pictures} pictures, rate positions {', '.join(map(str, POSITIONS))}; BD-rate, PSNR, PCHIP, bytes",
        "of whole files, against stage 1 in the same mode; in brackets against stage 1 with rounding.",
        "",
        f"| trained | {' | '.join(f'files: {mode}' for mode in MODES)} |",
        "| --- |" + " --: |" * len(MODES),
    ]
    for name in names:
        lines.append(f"| {name} | {' | '.join(cell(name, mode) for mode in MODES)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
