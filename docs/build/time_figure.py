"""Bits and decoding time of everything that was timed, in one picture.

    python docs/build/time_figure.py results/kodak.json results/photo-psnr_kodak.json -o decode_time.svg

The first file has AVIF 4:2:0, which all are compared with. Bits: BD-rate (PSNR) over the range that both
have. Time: one picture on one thread, at the quality nearest to 0.75 bits a pixel.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
from figures import NAMES, TIMED_BPP
from matplotlib.figure import Figure

from softstair.errors import UsageError
from softstair.evaluate import Results, delta_rate, read_results
from softstair.evaluate.curve_files import METRICS, Curve, curves_of

ANCHOR = "avif-420"
# Where a name stands beside its point, in points, and how it is aligned: on the right but for those which
# would lie on each other.
RIGHT, LEFT = ((7, -3), "left"), ((-7, -3), "right")
ABOVE, BELOW = ((0, 6), "center"), ((0, -13), "center")
PLACES = {
    "AVIF 4:2:0, speed 6": LEFT,
    "AVIF 4:4:4, speed 6": BELOW,
    "HEIC 4:4:4 (x265)": ABOVE,
    "Softstair photo-psnr, tcq32": ((7, -8), "left"),
}
OWN, PEERS = "#c2410c", "#334155"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    results = [read_results(path) for path in arguments.results]
    anchor = next(curve for curve in curves_of(results[0], METRICS["psnr"]) if curve.name == ANCHOR)
    draw([place for one in results for place in places(one, anchor)], arguments.output)


def places(results: Results, anchor: Curve) -> list[tuple[str, bool, float, float]]:
    """Codecs with a time: title, whether it is ours, decode milliseconds, per cent more bits."""
    curves = {curve.name: curve.points for curve in curves_of(results, METRICS["psnr"])}
    rate = {(mean.codec, mean.quality): mean.bpp for mean in results.means}
    found = []
    for codec in results.codecs:
        timed = [one for one in results.timings if one.codec == codec.name and one.threads == 1]
        if not timed:
            continue
        nearest = min(timed, key=lambda one: abs(rate[one.codec, one.quality] - TIMED_BPP))
        try:
            bits = delta_rate(anchor.points, curves[codec.name]).pchip
        except UsageError:  # too little in common
            continue
        bundle = codec.name.removeprefix("softstair-").removesuffix(f"-{codec.mode}")
        title = NAMES.get(codec.name) or f"Softstair {bundle}, {codec.mode}"
        found.append((title, codec.mode is not None, 1000 * nearest.decode_seconds, bits))
    return found


def draw(places: list[tuple[str, bool, float, float]], path: Path) -> None:
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.axhline(1, color="#cbd5e1", linewidth=1, zorder=0)
    for title, is_own, milliseconds, bits in places:
        colour = OWN if is_own else PEERS
        axes.plot(milliseconds, 1 + bits / 100, "o", color=colour)
        offset, side = PLACES.get(title, RIGHT)
        place = (milliseconds, 1 + bits / 100)
        axes.annotate(title, place, offset, textcoords="offset points", ha=side, fontsize=8, color=colour)
    axes.set_yscale("log")
    axes.set_yticks([0.9, 1, 1.2, 1.5, 2, 2.5], ["-10 %", "0", "+20 %", "+50 %", "+100 %", "+150 %"])
    axes.set_xticks([2, 5, 10, 20, 50, 100, 200], ["2", "5", "10", "20", "50", "100", "200"])
    axes.minorticks_off()
    axes.set_xlim(1.5, 450)
    axes.set_xlabel("milliseconds to decode 768x512, one thread")
    axes.set_ylabel("bits at equal PSNR, against AVIF 4:2:0")
    axes.spines[["top", "right"]].set_visible(False)
    mpl.rcParams["svg.hashsalt"] = "softstair"
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
