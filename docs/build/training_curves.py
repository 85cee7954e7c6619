"""What training bought: held-out bits at equal PSNR against what a run had seen by then.

    python docs/build/training_curves.py --chain results/runs/{a,b,d,e}.jsonl \\
        --chain results/runs/{photo-s,photo-s-cooled}.jsonl \\
        --chain results/runs/{photo-s-gated,photo-s-wider}.jsonl \\
        --chain results/runs/{photo,photo-psnr-cooled}.jsonl \\
        --against results/runs/b.jsonl -o docs/images/training --runs results/training-runs.md

Runs of a chain each started from the weights of the one before. Every validation against the last
one of a log: BD-rate over its rate points (the model's own estimate of bits). Writes a picture (.svg) and
a table (.md); below the table, for every run at constant learning rates, what twice the training buys. With
--runs a table of the runs, too: what each took, and where it ended.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from softstair.evaluate import delta_rate, markdown_table

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Validation:
    """megapixels: seen by the run so far. batch: of the last step, as 8x256. decays: whether the learning
    rate was falling."""

    run: str
    step: int
    megapixels: float
    batch: str
    decays: bool
    curve: Curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chain", nargs="+", type=Path, action="append", required=True, help="logs")
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path)
    arguments = parser.parse_args()
    anchor = list(validations(arguments.against))[-1].curve
    chains = [
        [[(one, delta_rate(anchor, one.curve).pchip) for one in validations(path)] for path in chain]
        for chain in arguments.chain
    ]
    found = [run for chain in chains for run in chain]
    arguments.output.with_suffix(".md").write_text(f"{table(found)}\n{slopes(found)}\n")
    draw(chains, arguments.output.with_suffix(".svg"))
    if arguments.runs is not None:
        logs = [path for chain in arguments.chain for path in chain]
        ends = [run[-1][1] for run in found]
        arguments.runs.write_text(runs(logs, ends) + "\n")


def validations(path: Path) -> Iterator[Validation]:
    settings: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "start":
            settings = event["recipe"]["pretrain"]
        elif event["event"] == "validate":
            curve = [(point["bpp"], point["psnr"]) for point in event["points"]]
            step, falls_from = event["step"], settings["decay_from"]
            falls = falls_from is not None and step > falls_from
            part = max((part["start"], part["count"], part["side"]) for part in started(settings, step))
            batch = f"{part[1]}x{part[2]}"
            yield Validation(path.stem, step, megapixels(settings, step), batch, falls, curve)


def started(settings: dict[str, Any], step: int) -> list[dict[str, int]]:
    return [part for part in settings["batches"] if part["start"] < step]


def megapixels(settings: dict[str, Any], steps: int) -> float:
    parts = sorted(settings["batches"], key=lambda part: part["start"])
    ends = [part["start"] for part in parts[1:]] + [steps]
    seen = sum(
        max(min(end, steps) - part["start"], 0) * part["count"] * part["side"] ** 2
        for part, end in zip(parts, ends, strict=True)
    )
    return float(seen / 1e6)


def table(found: list[list[tuple[Validation, float]]]) -> str:
    lines = [
        "| run | step | megapixels seen | learning rate | bits at equal PSNR |",
        "| --- | --: | --: | --- | --: |",
    ]
    for run in found:
        for one, share in run:
            rate = "falling" if one.decays else "constant"
            lines.append(f"| {one.run} | {one.step} | {one.megapixels:.0f} | {rate} | {share:+.1f} % |")
    return "\n".join(lines) + "\n"


def slopes(found: list[list[tuple[Validation, float]]]) -> str:
    """Bits that every doubling of what a run had seen saved at constant rates, by the size of its batches."""
    rows = []
    for run in found:
        steady = [(one, share) for one, share in run[1:] if not one.decays]  # the first is of the start
        for batch, several in groupby(steady, lambda pair: pair[0].batch):
            points = [(one.megapixels, share) for one, share in several]
            if len(points) > 2:
                seen, shares = zip(*points, strict=True)
                slope = float(np.polyfit(np.log2(seen), shares, 1)[0])
                span = f"{seen[0]:.0f} to {seen[-1]:.0f}"
                rows.append((run[0][0].run, batch, span, f"{slope:+.1f} %"))
    return markdown_table(("run, constant rates", "batch", "megapixels", "bits a doubling"), rows)


def runs(logs: list[Path], ends: list[float]) -> str:
    """A row a log: what the run took. ends: bits at equal PSNR, in per cent, at its last validation."""
    heads = ("run", "latents", "steps", "crops", "learning rate", "bits at the end", "minutes")
    rows = []
    for path, end in zip(logs, ends, strict=True):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        recipe = [event["recipe"] for event in events if event["event"] == "start"][-1]
        settings, last = recipe["pretrain"], max(event.get("step", 0) for event in events)
        crops = " then ".join(f"{part['count']}x{part['side']}" for part in started(settings, last))
        falls = "" if settings["decay_from"] is None else f", falling from {settings['decay_from']}"
        rate, minutes = f"{settings['muon_rate']:g}{falls}", (events[-1]["time"] - events[0]["time"]) / 60
        rows.append(
            (path.stem, recipe["shape"]["latents"], last, crops, rate, f"{end:+.1f} %", f"{minutes:.0f}")
        )
    return markdown_table(heads, rows)


def draw(chains: list[list[list[tuple[Validation, float]]]], path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for chain in chains:
        before = last = 0.0
        for run in chain:
            if run[0][0].megapixels < last:  # a new count; a fork goes on with its run's
                before += last
            last = run[-1][0].megapixels
            seen = [before + one.megapixels for one, _ in run]
            axes.plot(seen, [share for _, share in run], "o-", markersize=3, label=f"run {run[0][0].run}")
    axes.set_xscale("log")
    axes.set_xlabel("megapixels of crops seen")
    axes.set_ylabel("bits at equal PSNR, %")
    axes.set_title("Held-out pictures, against the end of run b", loc="left")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    mpl.rcParams["svg.hashsalt"] = "softstair"
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
