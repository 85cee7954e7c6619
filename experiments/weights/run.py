"""Weights in 8 bits: what each part of a network loses by them, and what a bundle would save.

python -m experiments.weights.run RECIPE SNAPSHOT --data-root DATA [--arms ...] -o ROWS.json
python -m experiments.weights.run --table ROWS.json

A weight is a whole number of at most 127 times a factor of its output channel, the largest there over 127.
Held-out pictures, coded by the product's coder in mode tcq32 with tables measured anew; bits by the tables.
"""

from __future__ import annotations

import argparse
from copy import deepcopy

import numpy as np
import torch
from experiments.harness import Row, asked, write_rows
from experiments.judging import Measured, coding_of, curves, gains, load_held_out, read_ending

from softstair.evaluate import markdown_table
from softstair.learn.checkpoint import load_codec
from softstair.learn.codec import Codec
from softstair.mode import Mode

MODE, POSITIONS, CROPS, EVERY = Mode.TCQ32, (24, 72, 120, 168), 24, 4
BASE = "as it is"
# Of each arm: how names of its weights begin.
ARMS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "all of the encoder": ("analysis.", "hyper_analysis."),
    "residual blocks of the encoder": (
        "analysis.stem_blocks.",
        "analysis.middle_blocks.",
        "analysis.deep_blocks.",
        "hyper_analysis.body.",
    ),
    "all of the decoder": ("synthesis.", "mean_network."),
    "mean network": ("mean_network.",),
    "blocks of the synthesis": (
        "synthesis.stem_blocks.",
        "synthesis.middle_blocks.",
        "synthesis.deep_blocks.",
    ),
    "blocks of the synthesis at 1/16": ("synthesis.deep_blocks.",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ending", help="of a recipe that has several")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    arguments = asked(parser, table, "recipe", "snapshot")
    recipe = read_ending(arguments.recipe, arguments.ending)
    codec = load_codec(recipe, arguments.snapshot)
    held_out = load_held_out(recipe, arguments.data_root, CROPS)
    rows: list[Row] = []
    for name in arguments.arms:
        changed, saved = in_eight_bits(codec, ARMS[name])
        measured = Measured.of(changed, held_out.crops)
        coding = coding_of(measured, MODE, recipe.export.modes[MODE])
        points = curves(measured, coding, MODE, held_out.pictures[::EVERY], POSITIONS, ("psnr",))
        rows.append({"arm": name, "bytes": saved, "curve": np.round(points, 5).tolist()})
        print(name, saved, points.round(4).tolist(), flush=True)
        write_rows(arguments.output, rows)


@torch.no_grad()
def in_eight_bits(codec: Codec, beginnings: tuple[str, ...]) -> tuple[Codec, int]:
    """The codec with weights of convolutions in 8 bits, and how many bytes that saves."""
    changed, saved = deepcopy(codec), 0
    for name, weight in changed.named_parameters():
        if name.startswith(beginnings or ("-",)) and weight.ndim == 4:
            factor = weight.abs().amax((1, 2, 3), keepdim=True) / 127
            weight.copy_((weight / factor).round() * factor)
            saved += weight.numel() - 4 * len(weight)
    return changed, saved


def table(rows: list[Row]) -> str:
    """Bits at equal PSNR against the network as it is, and PSNR lost at the finest position."""
    (base,) = (np.array(row["curve"]) for row in rows if row["arm"] == BASE)
    cells = []
    for row in rows:
        curve = np.array(row["curve"])
        (bits,) = gains(base, curve)
        lost = curve[-1, 1] - base[-1, 1]
        cells.append((row["arm"], f"{row['bytes'] / 1000:.0f}", f"{bits:+.2f} %", f"{lost:+.2f}"))
    heads = ("in 8 bits", "kB saved", "bits at equal PSNR", f"dB at position {POSITIONS[-1]}")
    return markdown_table(heads, cells)


if __name__ == "__main__":
    main()
