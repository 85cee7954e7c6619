"""What experiments share: arms, files of a data set by ``evaluate()``, means and rows that are kept.

An arm is a bundle and a mode at some rate positions. What was measured is resumed by ``evaluate`` and not
measured again; its rows stay in the folder of the runs, their means are kept beside the experiment.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from softstair.evaluate import delta_rate, evaluate, find_data_set, softstair_codec
from softstair.mode import Mode

Row = dict[str, Any]
Point = tuple[int, float, float]  # rate position, bits a pixel, quality in dB
METRICS = {"psnr": "psnr", "ms_ssim": "ms_ssim_db"}


@dataclass(frozen=True)
class Arm:
    """What is measured under a name."""

    name: str
    bundle: Path
    mode: Mode
    positions: Sequence[int]


class Means(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Means over the pictures of a data set by arm. metric: one of ``METRICS``, in dB."""

    data_set: str
    data_hash: str
    pictures: int
    metric: str
    arms: dict[str, list[Point]]

    def curve(self, arm: str) -> list[tuple[float, float]]:
        """Bits a pixel and quality of an arm, by rate position."""
        return [(bpp, value) for _, bpp, value in sorted(self.arms[arm])]

    def bits(self, anchor: str, arm: str) -> float:
        """Per cent of bits that an arm takes more than another at equal quality (BD-rate, PCHIP)."""
        return delta_rate(self.curve(anchor), self.curve(arm)).pchip


def measure(
    arms: Sequence[Arm], data_set: Path, runs: Path, output: Path, metric: str = "psnr", jobs: int = 1
) -> Means:
    """Measure arms, or go on; write their means to ``output``.

    data_set: a folder of pictures. runs: where the rows of all files are kept.
    """
    codecs = [
        replace(softstair_codec(arm.bundle, arm.positions, mode=arm.mode), name=arm.name) for arm in arms
    ]
    runs.mkdir(parents=True, exist_ok=True)
    results = evaluate(codecs, find_data_set(data_set), runs / f"{output.stem}.json", jobs=jobs)
    points: dict[str, list[Point]] = {arm.name: [] for arm in arms}
    for mean in results.means:
        points[mean.codec].append((int(mean.quality), mean.bpp, getattr(mean, METRICS[metric])))
    means = Means(results.data_set, results.data_hash, results.pictures, metric, points)
    output.write_bytes(msgspec.json.encode(means) + b"\n")
    return means


def read_means(path: Path) -> Means:
    return msgspec.json.decode(path.read_bytes(), type=Means)


def over_seeds(values: Sequence[float]) -> str:
    """Per cents of several seeds, for a table: their mean, and each."""
    return f"{statistics.mean(values):+.2f} % ({', '.join(f'{value:+.2f}' for value in values)})"


def read_rows(path: Path) -> list[Row]:
    """Rows that an experiment keeps; none where there are none yet."""
    return json.loads(path.read_text()) if path.exists() else []


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    path.write_text(json.dumps(rows, indent=1) + "\n")


def asked(
    parser: argparse.ArgumentParser, table: Callable[[list[Row]], str], *paths: str
) -> argparse.Namespace:
    """What is asked for, by ``paths`` too, data and a file for rows included; --table prints one and ends."""
    for name in paths:
        parser.add_argument(name, type=Path, nargs="?")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(read_rows(arguments.table)))
        sys.exit()
    return arguments
