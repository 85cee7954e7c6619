"""A picture of learned staircases for the documentation.

    python docs/build/derive_figures.py STAIRCASES.json docs/images [--at D D D]

Writes learned-staircases.svg: levels and thresholds of three rate points against rounding.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from softstair.learn.staircases import LearnedPoint, read_derivation
from softstair.quantize.staircase import LEVELS_PER_STEP

RANGE = 4.2  # steps
LEARNED, PLAIN = "#1b6ca8", "#9a9a9a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("staircases", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--at", type=int, nargs="+", help="rate positions; lowest, middle and highest")
    arguments = parser.parse_args()
    points = read_derivation(arguments.staircases).points
    positions = sorted(points)
    at = arguments.at or [positions[0], positions[len(positions) // 2], positions[-1]]
    plt.rcParams.update({"svg.hashsalt": "softstair", "font.size": 9})
    figure = draw_learned({position: points[position] for position in at})
    figure.savefig(arguments.folder / "learned-staircases.svg", metadata={"Date": None})


def draw_learned(points: dict[int, LearnedPoint]) -> plt.Figure:
    """A panel a rate point: the hard staircase over the rounding it started from."""
    figure, panels = plt.subplots(1, len(points), figsize=(3.1 * len(points), 3.3), squeeze=False)
    for panel, (position, point) in zip(panels[0], points.items(), strict=True):
        panel.plot(*steps(point.rounding()), color=PLAIN, linewidth=1, label="rounding")
        panel.plot(*steps(point), color=LEARNED, linewidth=1.6, label="learned")
        for start in point.thresholds:
            panel.axvline(start / LEVELS_PER_STEP, color=LEARNED, linewidth=0.5, linestyle=":")
        for start in point.z_thresholds:
            panel.plot(start / LEVELS_PER_STEP, 0, marker="^", color="#c2571a", clip_on=False)
        panel.set(
            title=f"rate position {position}", xlabel="residual, steps", xlim=(0, RANGE), ylim=(0, RANGE)
        )
        panel.set(yticks=range(5), aspect="equal")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("level, steps")
    panels[0][0].plot([], [], "^", color="#c2571a", label="thresholds of z")
    panels[0][0].legend(frameon=False, loc="upper left", fontsize=8)
    figure.tight_layout()
    return figure


def steps(point: LearnedPoint) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the hard staircase from zero on."""
    levels = [0.0, *(level / LEVELS_PER_STEP for level in point.levels[1::2])]
    starts = [start / LEVELS_PER_STEP for start in point.thresholds]
    while starts[-1] < RANGE:
        starts.append(levels[-1] + 0.5 if len(levels) > len(point.thresholds) else starts[-1] + 1)
        levels.append(levels[-1] + 1)
    x = np.repeat([0, *starts], 2)[1:]
    return np.append(x, RANGE + 1), np.repeat(levels[: len(starts) + 1], 2)


if __name__ == "__main__":
    main()
