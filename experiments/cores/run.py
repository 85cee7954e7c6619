r"""Two cores on one run: what makes most progress in so many minutes of a clock.

    python -m experiments.cores.run time ARM --data-root DATA -o TIMES.json
    torchrun --nproc-per-node 2 -m experiments.cores.run time ARM --data-root DATA -o TIMES.json
    python -m experiments.cores.run train ARM --seed S --data-root DATA --times TIMES.json -o ROWS.json
    python -m experiments.cores.run table ROWS.json --times TIMES.json

The arms are those of ``arms.py``; one with two processes is timed under torchrun, with OMP_NUM_THREADS=1. A
figure is added to what was measured before: the least of three rounds of eight steps of photo-s from its
beginning, in float32.

``train`` takes as many steps as the minutes hold by the median of these, the second half of them with falling
rates. It is one thread: processes that average weights take turns, and their arithmetic stays what it is.
Held-out pictures judge, by the model, at equal PSNR.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from experiments.compare.run import CPU, POSITIONS, pairs, points_of
from experiments.compare.variants import RECIPE
from experiments.cores.arms import ARMS, AVERAGED, FIRST, SUMMED, Apart, Arm
from experiments.harness import Row, over_seeds, read_rows, write_rows
from torch import Tensor

from softstair.evaluate import delta_rate, markdown_table
from softstair.learn.codec import Codec
from softstair.learn.data import Crops, load_pictures, training_crops
from softstair.learn.log import Log, commit
from softstair.learn.precision import Choice
from softstair.learn.processes import Processes, join
from softstair.learn.recipe import Batches, Recipe, read_recipe
from softstair.learn.stages.pretrain import Design, Pretraining
from softstair.learn.validation import validate

BATCH = Batches(0, 24, 128)
ROUND, ROUNDS = 8, 4  # steps between two looks at the clock; the first round warms up
Times = dict[str, list[float]]  # seconds of a step by arm, of several windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    timing, training, tabling = (commands.add_parser(name) for name in ("time", "train", "table"))
    for command in (timing, training):
        command.add_argument("arm", choices=ARMS)
        command.add_argument("--data-root", type=Path, required=True)
        command.add_argument("-o", "--output", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=2.0)
    training.add_argument("--seed", type=int, default=1)
    tabling.add_argument("rows", type=Path)
    for command in (training, tabling):
        command.add_argument("--times", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "time":
        torch.set_num_threads(2 // ARMS[arguments.arm].processes)
        measure(arguments.arm, arguments.data_root, arguments.output)
        return
    times = json.loads(arguments.times.read_text())
    if arguments.command == "table":
        print(table(read_rows(arguments.rows), times), end="")
    else:
        torch.set_num_threads(1)
        row = train(arguments.arm, arguments.minutes, arguments.seed, arguments.data_root, times)
        write_rows(arguments.output, [*read_rows(arguments.output), row])


def recipe_of(steps: int, seed: int) -> Recipe:
    """photo-s from its beginning, so many steps, the second half with falling rates on integer grids."""
    recipe = read_recipe(RECIPE)
    settings = msgspec.structs.replace(
        recipe.pretrain,
        batches=[BATCH],
        steps=steps,
        decay_from=steps // 2,
        fixed_from=steps // 2,
        muon_rate=1.5e-3,
        adam_rate=1.2e-3,
        checkpoint_every=steps + 1,
    )
    data = msgspec.structs.replace(recipe.data, saturated=0.0)
    return msgspec.structs.replace(recipe, pretrain=settings, data=data, seed=seed, precision="float32")


def measure(name: str, data_root: Path, output: Path) -> None:
    """Add the seconds that a step takes: the least of some rounds, each of several steps."""
    arm = ARMS[name]
    with join(CPU) as processes:
        assert processes.count == arm.processes
        speaking = processes if arm.every is None else Apart(CPU, processes.rank, processes.count)
        design = Design(optimiser=arm.optimiser)
        stage = Pretraining(recipe_of(1000, 1), speaking, Log(None), Choice("float32"), design)
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


def train(name: str, minutes: float, seed: int, data_root: Path, times: Times) -> Row:
    """As many steps of an arm as its minutes hold, in one thread."""
    arm = ARMS[name]
    steps = int(60 * minutes / seconds_of(name, times))
    recipe = recipe_of(steps, seed)
    crops = training_crops(recipe.data, data_root, seed, 256, device=CPU)
    stages = [alone(arm, recipe, Processes(CPU))]
    stages[0].start(None, crops)
    for step in range(steps):
        if arm.every is not None and step == int(arm.after * steps):
            stages = parted(stages[0], arm, recipe)
        for stage in stages:
            stage.learn(share_of(crops, step, stage.processes))
        if arm.every is not None and (step + 1) % arm.every == 0:
            average([stage.codec for stage in stages])
        if step % 50 == 0:
            print(stages[0].report(), flush=True)
    averaged = [stage.averaged() for stage in stages]
    average(averaged)
    held_out = load_pictures([data_root / part for part in recipe.data.validation])
    return {
        "arm": name,
        "seed": seed,
        "minutes": minutes,
        "steps": steps,
        "skipped": sum(stage.skipped for stage in stages),
        "commit": commit(),
        "recipe": msgspec.to_builtins(recipe),
        "points": points_of(validate(averaged[0], held_out, POSITIONS)),
    }


def alone(arm: Arm, recipe: Recipe, processes: Processes) -> Pretraining:
    """An arm's run, or one process's share of it, in this process."""
    return Pretraining(recipe, processes, Log(None), Choice("float32"), Design(optimiser=arm.alone))


def parted(stage: Pretraining, arm: Arm, recipe: Recipe) -> list[Pretraining]:
    """As many runs as an arm has processes, which go on from one, each with its share of a batch."""
    runs = [alone(arm, recipe, Apart(CPU, rank, arm.processes)) for rank in range(arm.processes)]
    for run in runs:
        run.load(stage.state())
    return runs


@torch.no_grad()
def average(codecs: Sequence[Codec]) -> None:
    """The mean of all weights, in each of them."""
    for alike in zip(*(codec.parameters() for codec in codecs), strict=True):
        mean = torch.stack(list(alike)).mean(0)
        for parameter in alike:
            parameter.copy_(mean)


def seconds_of(name: str, times: Times) -> float:
    """What a step takes; where weights are averaged late, the mean of both ways."""
    after = ARMS[name].after
    if after:
        return after * seconds_of(SUMMED, times) + (1 - after) * seconds_of(AVERAGED, times)
    return statistics.median(times[name])


def table(rows: list[Row], times: Times) -> str:
    """A row an arm: the median of its windows and each; steps a minute and bits against the first arm's.

    Bits are against the run with the same seed and minutes.
    """
    lines = []
    base = {(row["seed"], row["minutes"]): row for row in rows if row["arm"] == FIRST}
    for name in ARMS:
        found = [row for row in rows if row["arm"] == name]
        bits = [delta_rate(pairs(base[row["seed"], row["minutes"]]), pairs(row)).pchip for row in found]
        each = ", ".join(f"{one:.3f}" for one in times.get(name, []))
        seconds = seconds_of(name, times)
        line = [name, f"{seconds:.3f}" + f" ({each})" * bool(each)]
        line.append(f"{100 * (seconds_of(FIRST, times) / seconds - 1):+.0f} %")
        lines.append([*line, over_seeds(bits) if bits else "-"])
    heads = ["", "seconds a step", "steps a minute", "bits at equal PSNR after as many minutes"]
    return markdown_table(heads, lines) + "\n"


if __name__ == "__main__":
    main()
