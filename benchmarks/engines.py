"""The transforms on every engine by size of picture, as a Markdown table.

    python benchmarks/engines.py [--sizes 768x512 2208x2208] [--runs 5]

Milliseconds of processor time on one thread, medians, the engines taking turns: other programs on
the machine disturb it little. `start` is what the engine costs a process once: its import, both
graphs, and their first runs beyond a warm one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import numpy as np

from softstair import open_bundle
from softstair.engine import Engine, load_networks

ENGINES = (Engine.ONNX_RUNTIME, Engine.OPENVINO)
SIZES = ["768x512", "1536x1024", "1920x1088", "2208x2208"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--start", choices=ENGINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        print(start(arguments.start))
        return
    print("| picture | analysis: ONNX Runtime | OpenVINO | synthesis: ONNX Runtime | OpenVINO | saved |")
    print("| --- | --: | --: | --: | --: | --: |")
    for size in arguments.sizes:
        print(row(size, arguments.runs), flush=True)
    costs = [
        subprocess.run(
            [sys.executable, __file__, "--start", engine], check=True, capture_output=True, text=True
        ).stdout.strip()
        for engine in ENGINES
    ]
    print(f"\nStart: ONNX Runtime {costs[0]} ms, OpenVINO {costs[1]} ms.")


def row(size: str, runs: int) -> str:
    width, height = map(int, size.split("x"))
    networks = [load_networks(open_bundle(), 1, engine) for engine in ENGINES]
    inputs = Inputs(width, height)
    times: list[list[tuple[float, float]]] = [[], []]
    for _ in range(runs + 1):
        for one, taken in zip(networks, times, strict=True):
            taken.append(inputs.run(one))
    medians = [[statistics.median(stage) for stage in zip(*taken[1:], strict=True)] for taken in times]
    (analysis, synthesis), (their_analysis, their_synthesis) = medians
    saved = 1 - (their_analysis + their_synthesis) / (analysis + synthesis)
    return (
        f"| {size} | {analysis:.0f} | {their_analysis:.0f} | {synthesis:.0f} | {their_synthesis:.0f} "
        f"| {saved:.0%} |"
    )


def start(engine: str) -> int:
    bundle, before = open_bundle(), time.process_time()
    networks = load_networks(bundle, 1, Engine(engine))
    inputs = Inputs(768, 512)
    inputs.run(networks)
    cold = 1e3 * (time.process_time() - before)
    return round(cold - min(sum(inputs.run(networks)) for _ in range(3)))


class Inputs:
    """What both transforms are run on."""

    def __init__(self, width: int, height: int) -> None:
        bundle, noise = open_bundle(), np.random.default_rng(0)
        self.picture = noise.random((1, 3, height, width), np.float32)
        latents = noise.standard_normal((1, bundle.channels, height // 16, width // 16))
        self.latents = latents.astype(np.float32)
        self.hat = np.full((1, bundle.points), 1 / bundle.points, np.float32)

    def run(self, networks: object) -> tuple[float, float]:
        """Milliseconds of analysis and synthesis."""
        marks = [time.process_time()]
        networks.analysis(self.picture)
        marks.append(time.process_time())
        networks.synthesis(self.latents, self.hat)
        marks.append(time.process_time())
        return 1e3 * (marks[1] - marks[0]), 1e3 * (marks[2] - marks[1])


if __name__ == "__main__":
    main()
