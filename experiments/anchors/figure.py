"""Draw what was measured.

    python -m experiments.anchors.figure PLAN.toml experiments/anchors/kodak.json docs/images

Writes anchors.svg: the rate-distortion plot with anchors, derivations and interpolations, and what one to
six anchors take more than one network a rate.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import msgspec
import numpy as np
from experiments.anchors.run import Plan, Point, curve, extra_bits
from experiments.harness import read_means
from matplotlib.axes import Axes
from matplotlib.figure import Figure

REFERENCE, ONE, GREY = "#334155", "#c2410c", "#94a3b8"
# What the plan calls the systems that are drawn, and how.
MARKED = {
    "one network a rate": ("o", REFERENCE, "anchors: a network each"),
    "(c) derived staircases": ("s", ONE, "derived from the anchor"),
    "(c) between the derived rates": ("x", ONE, "interpolated"),
}
COMPARED = {
    "(a) frozen anchor, uniform steps": ("--", GREY, "one anchor, nothing learned"),
    "(c) derived staircases": ("-", ONE, "one anchor, derived"),
    "two anchors, derived": ("-", "#a16207", "two"),
    "three anchors, derived": ("-", "#15803d", "three"),
    "six anchors, derived": ("-", REFERENCE, "six"),
    "(f) gains and staircases": ("-.", "#1d4ed8", "one network of all rates"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("means", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    plan = msgspec.toml.decode(arguments.plan.read_bytes(), type=Plan)
    means = read_means(arguments.means)
    curves = {name: curve(means, points) for name, points in plan.system.items()}
    mpl.rcParams["svg.hashsalt"] = "softstair"
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_curves(left, curves)
    draw_extra(right, curves, curves[plan.reference])
    figure.savefig(arguments.folder / "anchors.svg", metadata={"Date": None})


def draw_curves(axes: Axes, curves: dict[str, list[Point]]) -> None:
    for name, (marker, colour, label) in MARKED.items():
        rate, quality = np.array(curves[name]).T
        axes.plot(rate, quality, marker, color=colour, fillstyle="none", label=label)
    rate, quality = np.array(curves["one network a rate"]).T
    axes.plot(rate, quality, color=REFERENCE, linewidth=0.8)
    axes.set_xlabel("bits a pixel, Kodak")
    axes.set_ylabel("PSNR, dB")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_extra(axes: Axes, curves: dict[str, list[Point]], reference: list[Point]) -> None:
    for name, (style, colour, label) in COMPARED.items():
        rates = np.geomspace(curves[name][0][0], curves[name][-1][0], 80)
        axes.plot(
            rates,
            [extra_bits(reference, curves[name], rate) for rate in rates],
            style,
            color=colour,
            label=label,
        )
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.set_xlabel("bits a pixel, Kodak")
    axes.set_ylabel("extra bits against one network a rate, %")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
