r"""Two cores on one run: how long a step takes, by how they share it.

    python -m experiments.cores.run time ARM --data-root DATA -o TIMES.json
    torchrun --nproc-per-node 2 -m experiments.cores.run time ARM --data-root DATA -o TIMES.json
    python -m experiments.cores.run table TIMES.json

The arms are those of ``ARMS``; one with two processes is timed under torchrun, with OMP_NUM_THREADS=1. A
figure is added to what was measured before: the least of three rounds of eight steps of photo-s from its
beginning, in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from experiments.compare.run import CPU
from experiments.compare.variants import RECIPE
from torch import Tensor, nn

from softstair.evaluate import markdown_table
from softstair.learn.data import Crops, load_pictures
from softstair.learn.log import Log
from softstair.learn.optimiser import Optimiser
from softstair.learn.precision import Choice
from softstair.learn.processes import Processes, join
from softstair.learn.recipe import Batches, Recipe, read_recipe
from softstair.learn.stages.pretrain import Design, Pretraining

BATCH = Batches(0, 24, 128)
ROUND, ROUNDS = 8, 4  # steps between two looks at the clock; the first round warms up


class Apart(Processes):
    """Of processes that do not speak in a step: what one finds on its own share stands for all."""

    def add(self, tensors: Sequence[Tensor]) -> None:
        torch._foreach_mul_(list(tensors), float(self.count))


class Part:
    """Some parameters of a module, by name: what an optimiser is made of."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.parameters.items()


def matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that Newton-Schulz iterations are for: weights of dense convolutions."""
    return {name: p for name, p in model.named_parameters() if p.ndim == 4 and p.shape[1] > 1}


def others(model: nn.Module) -> dict[str, nn.Parameter]:
    dense = matrices(model)
    return {name: p for name, p in model.named_parameters() if name not in dense}


class EveryOther(Optimiser):
    """Muon moves every other step, with the mean of two gradients, twice as far."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float, dtype: torch.dtype) -> None:
        self.dense = list(matrices(model).values())
        nothing = nn.Parameter(torch.zeros(1))  # AdamW wants something
        self.muon = Optimiser(Part({**matrices(model), "nothing": nothing}), 2 * muon_rate, 0.0, dtype)
        self.adam = Optimiser(Part(others(model)), muon_rate, adam_rate, dtype)
        self.first: list[Tensor] = []

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.adam.step(factor)
        gradients = [p.grad for p in self.dense if p.grad is not None]
        if not self.first:
            self.first = [gradient.clone() for gradient in gradients]
            return
        torch._foreach_add_(gradients, self.first)
        torch._foreach_mul_(gradients, 0.5)
        self.first = []
        self.muon.step(factor)

    def state(self) -> dict[str, Any]:
        return {"muon": self.muon.state(), "adam": self.adam.state(), "first": self.first}

    def load_state(self, state: dict[str, Any]) -> None:
        self.muon.load_state(state["muon"])
        self.adam.load_state(state["adam"])
        self.first = state["first"]


class SharedOut(Optimiser):
    """Each of the processes moves a share of the matrices, of about as many weights, and all tell all."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float, dtype: torch.dtype) -> None:
        self.processes = Processes(CPU, dist.get_rank(), dist.get_world_size())
        self.dense = list(matrices(model).values())
        shares: list[dict[str, nn.Parameter]] = [{} for _ in range(self.processes.count)]
        for name, parameter in sorted(matrices(model).items(), key=lambda item: -item[1].numel()):
            least = min(shares, key=lambda share: sum(p.numel() * p.shape[0] for p in share.values()))
            least[name] = parameter
        own = shares[self.processes.rank]
        self.foreign = [p for name, p in matrices(model).items() if name not in own]
        self.own = Optimiser(Part({**own, **others(model)}), muon_rate, adam_rate, dtype)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.own.step(factor)
        torch._foreach_zero_(self.foreign)
        self.processes.add(self.dense)

    def state(self) -> dict[str, Any]:
        return self.own.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.own.load_state(state)


@dataclass(frozen=True)
class Arm:
    """How two cores share a run.

    every: steps between two averages of weights; without it gradients are summed in every step.
    """

    processes: int = 1
    every: int | None = None
    optimiser: Callable[..., Optimiser] = Optimiser


FIRST = "one process, two threads"
ARMS = {
    FIRST: Arm(),
    "two processes, gradients summed": Arm(2),
    "two processes, gradients summed, Newton-Schulz shared out": Arm(2, optimiser=SharedOut),
    "two processes, weights averaged every 8 steps": Arm(2, 8),
    "one process, two threads, Newton-Schulz every other step": Arm(optimiser=EveryOther),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    timing, tabling = commands.add_parser("time"), commands.add_parser("table")
    timing.add_argument("arm", choices=ARMS)
    timing.add_argument("--data-root", type=Path, required=True)
    timing.add_argument("-o", "--output", type=Path, required=True)
    tabling.add_argument("times", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "table":
        print(table(json.loads(arguments.times.read_text())), end="")
    else:
        torch.set_num_threads(2 // ARMS[arguments.arm].processes)
        measure(arguments.arm, arguments.data_root, arguments.output)


def recipe_of() -> Recipe:
    """photo-s from its beginning."""
    recipe = read_recipe(RECIPE)
    settings = msgspec.structs.replace(recipe.pretrain, batches=[BATCH])
    return msgspec.structs.replace(recipe, pretrain=settings, precision="float32")


def stage_of(arm: Arm, recipe: Recipe, processes: Processes) -> Pretraining:
    return Pretraining(recipe, processes, Log(None), Choice("float32"), Design(optimiser=arm.optimiser))


def measure(name: str, data_root: Path, output: Path) -> None:
    """Add the seconds that a step takes: the least of some rounds, each of several steps."""
    arm = ARMS[name]
    with join(CPU) as processes:
        assert processes.count == arm.processes
        speaking = processes if arm.every is None else Apart(CPU, processes.rank, processes.count)
        stage = stage_of(arm, recipe_of(), speaking)
        crops = Crops(load_pictures([data_root / "train/heldout.tar"]), 1, CPU)
        batch = share_of(crops, 0, speaking)
        seconds = []
        for _ in range(ROUNDS):
            processes.wait()
            start = time.perf_counter()
            for step in range(ROUND):
                stage.step = 1  # neither one of a checkpoint nor on integer grids
                stage.learn(batch)
                if arm.every is not None and (step + 1) % arm.every == 0:
                    average_over(processes, stage)
            seconds.append((time.perf_counter() - start) / ROUND)
        if processes.leads:
            times = json.loads(output.read_text()) if output.exists() else {}
            times.setdefault(name, []).append(round(min(seconds[1:]), 4))
            output.write_text(json.dumps(times, indent=1) + "\n")
            print(name, times[name])


def share_of(crops: Crops, step: int, processes: Processes) -> Tensor:
    cuts = crops.cuts(step, BATCH.count, BATCH.side)
    return crops.gather([cuts[index] for index in processes.share(BATCH.count)], BATCH.side)


def average_over(processes: Processes, stage: Pretraining) -> None:
    """The mean of all processes' weights, in each of them."""
    with torch.no_grad():
        weights = list(stage.codec.parameters())
        processes.add(weights)
        torch._foreach_mul_(weights, 1 / processes.count)


def table(times: dict[str, list[float]]) -> str:
    """A row an arm: the median of its windows and each, and steps a minute against the first arm's."""
    lines = []
    first = statistics.median(times[FIRST])
    for name in ARMS:
        seconds = statistics.median(times[name])
        each = ", ".join(f"{one:.3f}" for one in times[name])
        lines.append([name, f"{seconds:.3f} ({each})", f"{100 * (first / seconds - 1):+.0f} %"])
    return markdown_table(["", "seconds a step", "steps a minute"], lines) + "\n"


if __name__ == "__main__":
    main()
