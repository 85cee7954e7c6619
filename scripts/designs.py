"""Designs of the network against each other: equal training time, decoder milliseconds beside it.

    python scripts/designs.py time [DESIGN...] -o results/rows/designs.json
    python scripts/designs.py train DESIGN --data-root DATA --run FOLDER [--minutes 20]
    python scripts/designs.py table FOLDER... --times results/rows/designs.json

Each starts from principal components and takes as many steps as fit into the same minutes of one thread,
by the time a step takes on an idle machine; the last half with falling rates. Judged are held-out crops
as in training: bits by the model, at equal PSNR of the curve over the rates.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from softstair.engine.onnx_runtime import OnnxNetworks
from softstair.evaluate import delta_rate
from softstair.learn import networks
from softstair.learn.codec import Codec
from softstair.learn.data import Crops
from softstair.learn.export.graphs import export_graphs
from softstair.learn.layers.blocks import Residual, convolution
from softstair.learn.log import Log
from softstair.learn.processes import join
from softstair.learn.recipe import Batches, Recipe, read_recipe
from softstair.learn.stages import pretrain as stage

RECIPE = Path(__file__).parent.parent / "recipes" / "photo-s.toml"
BATCH = Batches(0, 16, 128)
ROWS, COLUMNS = 32, 48  # latents of 768x512 pixels


class Gated(nn.Module):
    """x + project(a * b): pointwise to twice the width, depthwise 3x3, halves multiplied, pointwise."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.widen = convolution(channels, 2 * inner, 1)
        self.near = convolution(2 * inner, 2 * inner, 3, groups=2 * inner)
        self.project = convolution(inner, channels, 1)
        with torch.no_grad():
            self.project.weight.mul_(0.05)
            self.project.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.near(self.widen(x)).chunk(2, 1)
        result: Tensor = x + self.project(a * b)
        return result


class Shrinking(Residual):
    """The block of the product with hard shrinkage between its layers: small values become zeros."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__(channels, inner)
        self.activation = nn.Hardshrink(0.5)


class NoMeans(networks.MeanNetwork):
    """All means are zero."""

    def forward(self, known: Tensor, base: Tensor, deviation: Tensor, phase: Tensor) -> Tensor:
        return torch.zeros_like(known) + 0 * phase.sum()


@dataclass(frozen=True)
class Design:
    """What differs from photo-s: widths, and what stands for a class of ``learn.networks``."""

    shape: dict[str, Any] = field(default_factory=dict)
    block: type[nn.Module] = Residual
    is_conditioned: bool = True
    has_means: bool = True


# Widths of others are chosen so that their float networks take about as long to decode as photo-s.
DESIGNS = {
    "dense": Design(),
    "gated": Design({"synthesis_inner": (16, 48, 128), "analysis_inner": (24, 64, 160)}, block=Gated),
    "shrinking": Design(block=Shrinking),
    "unconditioned": Design(is_conditioned=False),
    "no means": Design({"synthesis_inner": (16, 64, 128)}, has_means=False),
    "at 1/4": Design({"synthesis_inner": (32, 40, 64)}),
    "at 1/8": Design({"synthesis_inner": (8, 64, 80)}),
    "at 1/16": Design({"synthesis_inner": (8, 32, 192)}),
    "small encoder": Design({"analysis_inner": (16, 48, 96)}),
    "large encoder": Design({"analysis_inner": (32, 96, 192)}),
    "narrow scales": Design({"scale": 32}),
    "wide scales": Design({"scale": 96}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    timing, training, tabling = (commands.add_parser(name) for name in ("time", "train", "table"))
    timing.add_argument("designs", nargs="*", default=list(DESIGNS))
    timing.add_argument("-o", "--output", type=Path, required=True)
    training.add_argument("design", choices=DESIGNS)
    training.add_argument("--data-root", type=Path, required=True)
    training.add_argument("--run", type=Path, required=True)
    training.add_argument("--times", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=20.0)
    training.add_argument("--seed", type=int, default=1)
    tabling.add_argument("runs", nargs="+", type=Path)
    tabling.add_argument("--times", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "time":
        times = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
        for name in arguments.designs:
            times[name] = measure(name)
            print(name, times[name], flush=True)
            arguments.output.write_text(json.dumps(times, indent=1) + "\n")
    elif arguments.command == "train":
        seconds = json.loads(arguments.times.read_text())[arguments.design]["step"]
        steps = int(60 * arguments.minutes / seconds)
        train(arguments.design, arguments.data_root, arguments.run, steps, arguments.seed)
    else:
        print(table(arguments.runs, json.loads(arguments.times.read_text())), end="")


def use(design: Design) -> None:
    """Let codecs that are made from now on be of a design."""
    networks.Residual = design.block  # type: ignore[misc]
    stage.Codec = made_by(design)  # type: ignore[misc]


def made_by(design: Design) -> Callable[..., Codec]:
    def make(shape: Any) -> Codec:
        codec = Codec(shape)
        if not design.has_means:
            codec.mean_network = NoMeans(shape)
        if not design.is_conditioned:
            codec.synthesis.rate.table.requires_grad_(False)
        return codec

    return make


def recipe_of(design: Design, steps: int, seed: int) -> Recipe:
    recipe = read_recipe(RECIPE)
    pretrain = msgspec.structs.replace(
        recipe.pretrain,
        batches=[BATCH],
        steps=steps,
        decay_from=steps // 2,
        fixed_from=steps // 2,
        warm_up=100,
        validate_every=steps,
        checkpoint_every=200,
    )
    shape = msgspec.structs.replace(recipe.shape, **design.shape)
    return msgspec.structs.replace(recipe, shape=shape, pretrain=pretrain, seed=seed)


def train(name: str, data_root: Path, run: Path, steps: int, seed: int) -> None:
    torch.set_num_threads(1)
    use(DESIGNS[name])
    recipe = recipe_of(DESIGNS[name], steps, seed)
    run.mkdir(parents=True, exist_ok=True)
    (run / "design.txt").write_text(name + "\n")
    stage.pretrain(recipe, data_root, run, torch.device("cpu"), say=print)


def measure(name: str) -> dict[str, float]:
    """Seconds of a training step, ms of a decoder's float networks with one and two threads."""
    torch.set_num_threads(1)
    use(DESIGNS[name])
    recipe = recipe_of(DESIGNS[name], 1000, 1)
    codec = stage.Codec(recipe.shape).eval()
    times = {f"decoder_{threads}": decoder_ms(codec, threads) for threads in (1, 2)}
    picture = np.random.default_rng(1).integers(0, 255, (3, 512, 512), np.uint8)
    with join(torch.device("cpu")) as processes:
        trainer = stage._Trainer(recipe, processes, Log(None))
        crops = Crops([picture], 1, torch.device("cpu"))
        trainer.start(None, crops)
        batch = crops.gather(crops.cuts(0, BATCH.count, BATCH.side), BATCH.side)
        seconds = []
        for _ in range(8):
            start = time.perf_counter()
            trainer.advance(batch)
            seconds.append(time.perf_counter() - start)
    return {"step": round(statistics.median(seconds[2:]), 3), **times}


def decoder_ms(codec: Codec, threads: int) -> float:
    """Milliseconds of means and synthesis of 768x512 pixels."""
    shape = codec.shape
    graphs = OnnxNetworks(export_graphs(codec).__getitem__, threads)
    hat = np.eye(shape.rate_points, dtype=np.float32)[5:6]
    z = np.zeros((1, shape.hyper_latents, ROWS // 2, COLUMNS // 2), np.float32)
    y = np.random.default_rng(0).normal(0, 1, (1, shape.latents, ROWS, COLUMNS)).astype(np.float32)
    has_means = not isinstance(codec.mean_network, NoMeans)

    def decode() -> None:
        if has_means:
            base = graphs.mean_base(z, hat)
            for phase in range(4):
                graphs.mean(y, base, np.eye(4, dtype=np.float32)[phase : phase + 1])
        graphs.synthesis(y, hat)

    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        decode()
        seconds.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(seconds[2:]), 1)


def table(runs: list[Path], times: dict[str, dict[str, float]]) -> str:
    """A row a run, bits against the first."""
    lines = [
        "| design | seed | steps | decoder ms, one thread | two threads | bits at equal PSNR |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    first: list[tuple[float, float]] = []
    for run in runs:
        name = (run / "design.txt").read_text().strip()
        events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        last = [event for event in events if event["event"] == "validate"][-1]
        points = [(point["bpp"], point["psnr"]) for point in last["points"]]
        first = first or points
        bits = delta_rate(first, points).pchip
        seed = next(event for event in events if event["event"] == "start")["recipe"]["seed"]
        ms = " | ".join(f"{times[name][f'decoder_{threads}']:.0f}" for threads in (1, 2))
        lines.append(f"| {name} | {seed} | {last['step']} | {ms} | {bits:+.1f} % |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
