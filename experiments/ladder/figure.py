"""The ladder from plain rounding to a finetuned trellis, one bar each.

    python -m experiments.ladder.figure kodak docs/images/ladder.svg

Bits at equal PSNR (BD-rate, PCHIP, whole files) against rounding with the tables of the model's own
Gaussians. Means of files are those of ``ladder`` and ``two_stage`` on one data set and one snapshot; the
last bar is the shipped bundle, which was finetuned from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
from docs.build.figures import RESULTS, own_curve
from experiments.harness import read_means
from matplotlib.figure import Figure

from softstair.evaluate import delta_rate, read_results
from softstair.evaluate.curve_files import METRICS

# Title, experiment (of the two), and its arm.
STEPS = [
    ("rounding, the model's Gaussian tables", 0, "gaussian/scalar"),
    ("measured tables", 0, "measured/scalar"),
    ("a dead zone", 0, "measured/dead zone"),
    ("learned staircases (STanH)", 1, "staircases/scalar"),
    ("RDOQ", 0, "measured/rdoq"),
    ("trellis, 8 states", 0, "measured/tcq8"),
    ("trellis, 8 states, finetuned on its latents", 1, "tcq8 synthesis/tcq8"),
    ("trellis, 32 states", 0, "measured/tcq32"),
]
SHIPPED = "trellis, 32 states, finetuned: shipped"
BAR = "#c2410c"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data_set")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    experiments = Path(__file__).parent.parent
    means = [
        read_means(experiments / name / f"{arguments.data_set}.json") for name in ("ladder", "two_stage")
    ]
    if means[0].data_hash != means[1].data_hash:
        raise SystemExit("The two experiments are of different data sets.")
    anchor = means[0].curve(STEPS[0][2])
    bars = [(title, delta_rate(anchor, means[number].curve(arm)).pchip) for title, number, arm in STEPS]
    shipped = own_curve(read_results(RESULTS / f"small_{arguments.data_set}.json"), METRICS["psnr"]).points
    bars.append((SHIPPED, delta_rate(anchor, shipped).pchip))
    draw(bars, arguments.output)
    for title, bits in bars:
        print(f"| {title} | {bits:+.1f} % |")


def draw(bars: list[tuple[str, float]], path: Path) -> None:
    figure = Figure(figsize=(7.5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(bars))
    axes.barh(places, [bits for _, bits in bars], color=BAR, height=0.55)
    axes.set_yticks(places, [title for title, _ in bars])
    axes.invert_yaxis()
    for place, (_, bits) in zip(places, bars, strict=True):
        axes.annotate(
            f"{bits:+.1f} %", (bits, place), (-4, 0), textcoords="offset points", ha="right", va="center"
        )
    axes.set_xlim(1.25 * min(bits for _, bits in bars), 0)
    axes.set_xlabel("bits at equal PSNR, %")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    mpl.rcParams["svg.hashsalt"] = "softstair"
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
