"""Comparisons of design and training: one thing changed at a time, everybody the same time of one thread.

    python -m experiments.compare.run time --data-root DATA [--snapshot SNAPSHOT] -o TIMES.json
    python -m experiments.compare.run train GROUP NAME --data-root DATA --times TIMES.json -o ROWS.json
    python -m experiments.compare.run table GROUP ROWS.json --times TIMES.json
    python -m experiments.compare.run seeds GROUP ROWS.json

The groups, and what is changed, are in ``variants.py``.

designs: the network of recipes/photo.toml from its beginning, so many minutes of 16 crops of 128.
transforms, training: the network of photo-s from its beginning, so many minutes of 16 crops of 128.
entropy: the means and scales, and z, of a network from their beginning; transforms and gains are those of a
snapshot (``--snapshot``; the shipped one if none is named) and stay, so that a step is short.
top rate: a network of the last rate alone, from its beginning, 8 crops of 128; rates half an octave below
differ by their steps.

A run takes as many steps as fit into its minutes by the time that a step takes on an idle machine, or as many
as ``--steps`` says, the second half of them with falling rates. It is judged by held-out pictures as training
does: bits by the model at equal PSNR, over the rates. ``seeds`` compares runs of as many steps and one seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from experiments.compare.variants import ANCHOR, GROUPS, Variant, recipe_of
from experiments.harness import Row, over_seeds, read_rows, write_rows
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from softstair.engine.onnx_runtime import OnnxNetworks
from softstair.evaluate import delta_rate, markdown_table
from softstair.learn.checkpoint import load_checkpoint
from softstair.learn.codec import Codec
from softstair.learn.data import Crops, load_pictures
from softstair.learn.export.graphs import export_graphs
from softstair.learn.log import Log, commit
from softstair.learn.precision import choose_precision
from softstair.learn.processes import join
from softstair.learn.recipe import Recipe
from softstair.learn.shape import Shape
from softstair.learn.stages.pretrain import Design, Pretraining, pretrain
from softstair.learn.start import calibrate
from softstair.learn.validation import HeldOutPoint, validate
from softstair.quantize.phases import PHASES

SNAPSHOT = Path(__file__).parents[2] / "snapshots" / "small.safetensors"
KEPT = ("analysis.", "synthesis.", "gains.")
ROWS, COLUMNS = 32, 48  # latents of 768x512 pixels
CPU = torch.device("cpu")
POSITIONS = [0, 32, 80, 128, 160]
NEAR_ANCHOR = [ANCHOR - 24, ANCHOR - 16, ANCHOR - 8, ANCHOR]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    timing, training, tabling, seeding = (
        commands.add_parser(name) for name in ("time", "train", "table", "seeds")
    )
    timing.add_argument("--data-root", type=Path, required=True)
    timing.add_argument("--group", choices=GROUPS)
    timing.add_argument("--name")
    for command in (timing, training):
        command.add_argument("--snapshot", type=Path, default=SNAPSHOT)
    timing.add_argument("-o", "--output", type=Path, required=True)
    training.add_argument("group", choices=GROUPS)
    training.add_argument("name")
    training.add_argument("--minutes", type=float, default=20.0)
    training.add_argument("--steps", type=int, help="instead of those that fit into the minutes")
    training.add_argument("--seed", type=int, default=1)
    training.add_argument("--data-root", type=Path, required=True)
    training.add_argument("--times", type=Path)
    training.add_argument("-o", "--output", type=Path, required=True)
    for command in (tabling, seeding):
        command.add_argument("group", choices=GROUPS)
        command.add_argument("rows", type=Path)
    tabling.add_argument("--times", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.command == "time":
        time_all(arguments)
    elif arguments.command == "train":
        train(arguments)
    else:
        rows = [row for row in read_rows(arguments.rows) if row["group"] == arguments.group]
        if arguments.command == "table":
            times = json.loads(arguments.times.read_text())[arguments.group]
            print(table(rows, times), end="")
        else:
            print(seeds(rows), end="")


def design_of(group: str, variant: Variant, snapshot: Path) -> Design:
    """A variant's design; of the group entropy it starts from a snapshot's transforms and gains."""
    if group != "entropy":
        return variant.design

    def start(codec: Codec, pictures: Tensor, base: float) -> None:
        variant.design.start(codec, pictures, base)
        kept = {name: value.float() for name, value in load_file(snapshot).items() if name.startswith(KEPT)}
        missing = codec.load_state_dict(kept, strict=False)
        assert not missing.unexpected_keys
        assert not any(name.startswith(KEPT) for name in missing.missing_keys)
        calibrate(codec, pictures)

    return replace(variant.design, start=start)


def train(arguments: argparse.Namespace) -> None:
    """Take a variant's steps and add a row to the output."""
    group, name = arguments.group, arguments.name
    variant, shape = GROUPS[group][name], shape_of(arguments.snapshot)
    steps = arguments.steps
    if steps is None:
        steps = int(60 * arguments.minutes / json.loads(arguments.times.read_text())[group][name]["step"])
    recipe = recipe_of(group, name, steps, arguments.seed, shape)
    design = design_of(group, variant, arguments.snapshot)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        averaged = pretrain(recipe, arguments.data_root, run, CPU, say=print, design=design)
        skipped = load_checkpoint(run / "checkpoint.json")["skipped"]
    minutes = arguments.minutes if arguments.steps is None else round((time.monotonic() - began) / 60, 1)
    positions = POSITIONS if recipe.rates.anchor is None else NEAR_ANCHOR
    if recipe.rates.anchor is not None:
        averaged.pin(recipe.rates.anchor)
    held_out = load_pictures([arguments.data_root / part for part in recipe.data.validation])
    row = {
        "group": group,
        "name": name,
        "seed": arguments.seed,
        "minutes": minutes,
        "steps": steps,
        "skipped": skipped,
        "commit": commit(),
        "recipe": msgspec.to_builtins(recipe),
        "points": points_of(validate(averaged, held_out, positions)),
    }
    same = ("group", "name", "seed", "steps")
    rows = [one for one in read_rows(arguments.output) if any(one[key] != row[key] for key in same)]
    write_rows(arguments.output, [*rows, row])


def shape_of(snapshot: Path) -> Shape:
    """The shape that a snapshot says it has."""
    with safe_open(snapshot, "pt") as file:
        return msgspec.json.decode(file.metadata()["shape"], type=Shape)


def points_of(points: list[HeldOutPoint]) -> list[dict[str, float]]:
    return [{k: round(v, 5) for k, v in asdict(point).items()} for point in points]


def time_all(arguments: argparse.Namespace) -> None:
    """Seconds of a step and milliseconds of a decoder, of all variants or of one; machine idle.

    A variant and the first of its group take turns, and what the first took scales what is noted:
    machines are faster at some times than at others.
    """
    times = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    pictures = load_pictures([arguments.data_root / "train/heldout.tar"])
    for group in GROUPS if arguments.group is None else [arguments.group]:
        kept = times.setdefault(group, {})
        for name in GROUPS[group] if arguments.name is None else [arguments.name]:
            base = next(iter(GROUPS[group]))
            measured = dict(
                zip((base, name), measure(group, (base, name), pictures, arguments.snapshot), strict=True)
            )
            kept.setdefault(base, measured[base])
            kept[name] = {
                key: round(value / measured[base][key] * kept[base][key], 4)
                for key, value in measured[name].items()
            }
            print(group, name, kept[name], flush=True)
            arguments.output.write_text(json.dumps(times, indent=1) + "\n")


def measure(
    group: str, names: tuple[str, ...], pictures: list[Any], snapshot: Path
) -> list[dict[str, float]]:
    """``step`` in seconds and ``decoder_1``, ``decoder_2`` in ms of variants that take turns."""
    actions: dict[str, list[Callable[[], None]]] = {"step": []}
    with join(CPU) as processes:
        crops = Crops(pictures, 1, CPU)
        for name in names:
            recipe, variant = recipe_of(group, name, 1000, 1, shape_of(snapshot)), GROUPS[group][name]
            precision = choose_precision(recipe, processes)
            stage = Pretraining(recipe, processes, Log(None), precision, variant.design)
            part = recipe.pretrain.batches[0]
            batch = crops.gather(crops.cuts(0, part.count, part.side), part.side)
            actions["step"].append(partial(learn_once, stage, batch))
            if group != "training":
                for threads in (1, 2):
                    action = decoder(variant, recipe, threads)
                    actions.setdefault(f"decoder_{threads}", []).append(action)
        medians = {key: take_turns(several) for key, several in actions.items()}
    unit = {"step": 1.0}
    return [
        {key: values[index] * unit.get(key, 1e3) for key, values in medians.items()}
        for index in range(len(names))
    ]


def learn_once(stage: Pretraining, batch: Tensor) -> None:
    stage.step = 1  # not one of a checkpoint
    stage.learn(batch)


def take_turns(actions: list[Callable[[], None]]) -> list[float]:
    seconds: list[list[float]] = [[] for _ in actions]
    for _ in range(9):
        for kept, action in zip(seconds, actions, strict=True):
            start = time.perf_counter()
            action()
            kept.append(time.perf_counter() - start)
    return [statistics.median(kept[2:]) for kept in seconds]


def decoder(variant: Variant, recipe: Recipe, threads: int) -> Callable[[], None]:
    """Means and synthesis of 768x512 pixels, float32, ONNX Runtime."""
    codec = (variant.design.codec if variant.passes == PHASES else Codec)(recipe.shape).eval()
    shape = codec.shape
    graphs = OnnxNetworks(export_graphs(codec).__getitem__, threads)
    hat = np.eye(shape.rate_points, dtype=np.float32)[5:6]
    z = np.zeros((1, shape.hyper_latents, ROWS // 2, COLUMNS // 2), np.float32)
    y = np.random.default_rng(0).normal(0, 1, (1, shape.latents, ROWS, COLUMNS)).astype(np.float32)

    def decode() -> None:
        base = graphs.mean_base(z, hat) if variant.passes else z
        for phase in range(variant.passes):
            graphs.mean(y, base, np.eye(4, dtype=np.float32)[phase % 4][None])
        graphs.synthesis(y, hat)

    return decode


def table(rows: list[dict[str, Any]], times: dict[str, dict[str, float]]) -> str:
    """A row a run; bits against the group's first variant with its minutes or steps and the first seed.

    A run of so many steps has the minutes of that one: its own are those of whatever else ran meanwhile.
    """
    heads = ["", "seed", "minutes", "steps", "bits at equal PSNR", "bits, PSNR at position 80"]
    has_decoder = any("decoder_1" in row for row in times.values())
    if has_decoder:
        heads += ["decoder, 1 thread", "2 threads"]
    base, lines = next(iter(GROUPS[rows[0]["group"]])), []
    for row in rows:
        first = next(
            other for other in rows if (other["name"], other["seed"]) == (base, 1) and as_long(other, row)
        )
        bits = delta_rate(pairs(first), pairs(row)).pchip
        middle = next(point for point in row["points"] if point["position"] == 80)
        lines.append([row["name"], row["seed"], f"{first['minutes']:g}", row["steps"], f"{bits:+.1f} %"])
        lines[-1].append(f"{middle['bpp']:.3f} {middle['psnr']:.2f}")
        if has_decoder:
            lines[-1] += [f"{times[row['name']][f'decoder_{threads}']:.0f} ms" for threads in (1, 2)]
    return markdown_table(heads, lines) + "\n"


def seeds(rows: list[Row]) -> str:
    """A row a variant: bits against the group's first with its seed and steps or minutes, of all seeds."""
    base = next(name for name in GROUPS[rows[0]["group"]])
    alike: dict[tuple[str, int], list[tuple[Row, Row]]] = {}
    for row in rows:
        bases = [
            other
            for other in rows
            if (other["name"], other["seed"]) == (base, row["seed"]) and as_long(other, row)
        ]
        if bases:
            alike.setdefault((row["name"], row["steps"]), []).append((row, bases[0]))
    lines = []
    for (name, steps), found in alike.items():
        if len(found) == 1:
            continue
        bits = [delta_rate(pairs(first), pairs(row)).pchip for row, first in found]
        ends = [row["points"][-1] for row, _ in found]
        last = " ".join(f"{statistics.mean(end[key] for end in ends):.3f}" for key in ("bpp", "psnr"))
        lines.append([name, steps, len(found), over_seeds(bits), last])
    heads = ["", "steps", "seeds", "bits at equal PSNR", "bits, PSNR at the last position"]
    return markdown_table(heads, lines) + "\n"


def as_long(one: Row, other: Row) -> bool:
    """Whether two runs took as many steps, within 2 %, or were given as many minutes."""
    steps = one["steps"] / other["steps"]
    return bool(0.98 <= steps <= 1.02 or one["minutes"] == other["minutes"])


def pairs(row: dict[str, Any]) -> list[tuple[float, float]]:
    return [(point["bpp"], point["psnr"]) for point in row["points"]]


if __name__ == "__main__":
    main()
