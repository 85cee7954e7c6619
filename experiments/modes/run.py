"""What steps, rate weights and skips are worth: held-out pictures, really quantized and decoded.

    python -m experiments.modes.run RECIPE SNAPSHOT --data-root DATA [--try tcq8:step:skip:weight ...]
        [--by ssimulacra2 butteraugli cvvdp]

FLAGS: s for staircases of --staircases: thresholds of z, and of y levels in scalar and rdoq and
thresholds in scalar. Prints, for every setting tried, Bjontegaard delta rates against the first one, over
the rate positions: bits by the tables; PSNR, and what other judges say, of decoded 8-bit pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.judging import JUDGES, Measured, coding_of, curves, gains, load_held_out

from softstair.learn.checkpoint import load_codec
from softstair.learn.recipe import Quantizer, read_recipe
from softstair.learn.staircases import read_derivation
from softstair.mode import Mode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=60, help="training crops to measure tables on")
    parser.add_argument("--positions", type=int, nargs="+", default=[24, 56, 88, 120])
    parser.add_argument("--staircases", type=Path, help="of softstair derive")
    parser.add_argument("--by", nargs="*", default=[], choices=[name for name in JUDGES if name != "psnr"])
    parser.add_argument(
        "--try", dest="settings", nargs="+", required=True, metavar="MODE:STEP:SKIP:WEIGHT[:FLAGS]"
    )
    arguments = parser.parse_args()
    names = ["psnr", *arguments.by]
    recipe = read_recipe(arguments.recipe)
    codec = load_codec(recipe, arguments.snapshot)
    held_out = load_held_out(recipe, arguments.data_root, arguments.crops)
    plain, derivation = Measured.of(codec, held_out.crops), None
    derived = plain
    if arguments.staircases is not None:
        derivation = read_derivation(arguments.staircases)
        derived = Measured.of(codec, held_out.crops, derivation)

    print("| mode | step | skip | rate weight |", *names, "| bpp and judges at", *arguments.positions, "|")
    anchor = None
    for setting in arguments.settings:
        name, step, skip, weight, *flags = setting.split(":")
        mode, quantizer = Mode(name), Quantizer(int(step), int(skip), float(weight))
        of, given = (derived, derivation) if "s" in flags else (plain, None)
        coding = coding_of(of, mode, quantizer, given)
        found = curves(of, coding, mode, held_out.pictures, arguments.positions, names)
        anchor = found if anchor is None else anchor
        print(f"| {name} | {step} | {skip} | {weight} {' '.join(flags)}", end=" | ")
        print(*(f"{gain:+.2f} %" for gain in gains(anchor, found)), sep=" | ", end=" | ")
        print(*("/".join(f"{value:.3f}" for value in row) for row in found), "|", flush=True)


if __name__ == "__main__":
    main()
