"""Weights in 8 bits: what each part of a network loses by them, and what a bundle would save.

python -m experiments.weights.run RECIPE SNAPSHOT --data-root DATA [--arms ...] [--rounding ...] -o ROWS.json
python -m experiments.weights.run --table ROWS.json

A weight is a whole number of at most 127 times a factor of its output channel, the largest there over 127.
Rounding is to the nearest, or tuned layer by layer on ten training pictures, where a layer may have factors
of its inputs, too (``tuning.py``). Held-out pictures, coded by the product's coder in mode tcq32 with tables
measured anew; bits by the tables.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from experiments.harness import Row, asked, read_rows, write_rows
from experiments.judging import Measured, coding_of, curves, even, gains, load_held_out, read_ending
from experiments.weights.tuning import Rounded, Run, nearest, runs_on, tune
from torch import nn

from softstair.evaluate import markdown_table
from softstair.learn.checkpoint import load_codec
from softstair.learn.codec import Codec
from softstair.learn.data import load_pictures
from softstair.learn.recipe import Recipe
from softstair.mode import Mode

MODE, POSITIONS, CROPS, EVERY = Mode.TCQ32, (24, 72, 120, 168), 24, 4
PICTURES = 10  # that are tuned on
BASE, NEAREST, TUNED = "as it is", "nearest", "tuned"
ENCODER = ("analysis.", "hyper_analysis.")
ENCODER_BLOCKS = (
    "analysis.stem_blocks.",
    "analysis.middle_blocks.",
    "analysis.deep_blocks.",
    "hyper_analysis.body.",
)
SYNTHESIS_BLOCKS = ("synthesis.stem_blocks.", "synthesis.middle_blocks.", "synthesis.deep_blocks.")
# Of each arm: how names of its layers begin.
ARMS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "all of the encoder": ENCODER,
    "residual blocks of the encoder": ENCODER_BLOCKS,
    "all of the decoder": ("synthesis.", "mean_network."),
    "mean network": ("mean_network.",),
    "blocks of the synthesis": SYNTHESIS_BLOCKS,
    "all blocks, mean network": (*ENCODER_BLOCKS, *SYNTHESIS_BLOCKS, "mean_network."),
}
DIGITS = 6  # of weights of the encoder's residual blocks in bundles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ending", help="of a recipe that has several")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rounding", nargs="+", choices=(NEAREST, TUNED), default=[NEAREST, TUNED])
    arguments = asked(parser, table, "recipe", "snapshot")
    torch.set_num_threads(1)
    recipe = read_ending(arguments.recipe, arguments.ending)
    codec = load_codec(recipe, arguments.snapshot)
    held_out = load_held_out(recipe, arguments.data_root, CROPS)
    rows = read_rows(arguments.output)
    runs = runs_of(codec, recipe, arguments.data_root, held_out.crops) if TUNED in arguments.rounding else {}
    for rounding in arguments.rounding:
        for name in arguments.arms:
            about = {"arm": name, "rounding": NEAREST if name == BASE else rounding}
            if about in [{key: row[key] for key in about} for row in rows]:
                continue
            changed = deepcopy(codec)
            layers = rounded(changed, codec, ARMS[name], rounding, runs) if ARMS[name] else {}
            measured = Measured.of(changed, held_out.crops)
            coding = coding_of(measured, MODE, recipe.export.modes[MODE])
            points = curves(measured, coding, MODE, held_out.pictures[::EVERY], POSITIONS, ("psnr",))
            saved = dict(zip(("bytes", "deflated"), saving(codec, layers), strict=True))
            rows.append({**about, **saved, "curve": np.round(points, 5).tolist()})
            print(rows[-1], flush=True)
            write_rows(arguments.output, rows)


def runs_of(
    codec: Codec, recipe: Recipe, data_root: Path, crops: npt.NDArray[np.uint8]
) -> dict[str, list[Run]]:
    """What the codec's parts are given where it codes ten training pictures."""
    measured = Measured.of(codec, crops)
    coder = measured.coder(MODE, coding_of(measured, MODE, recipe.export.modes[MODE]))
    pictures = load_pictures([data_root / recipe.data.train[0]])
    some = [
        np.ascontiguousarray(even(one).transpose(2, 0, 1)) for one in pictures[:: len(pictures) // PICTURES]
    ]
    return runs_on(some[:PICTURES], measured, coder)


@torch.no_grad()
def rounded(
    changed: Codec,
    codec: Codec,
    beginnings: tuple[str, ...],
    rounding: str,
    runs: Mapping[str, list[Run]],
) -> dict[str, Rounded]:
    """Put layers of a copy of a codec in 8 bits; what they became, by name."""
    if rounding == TUNED:
        return tune(changed, codec, beginnings, runs)
    layers = {}
    for name, layer in changed.named_modules():
        if isinstance(layer, nn.Conv2d) and name.startswith(beginnings):
            layers[name] = nearest(layer.weight)
            layer.weight.copy_(layers[name].values)
    return layers


def saving(codec: Codec, layers: Mapping[str, Rounded]) -> tuple[int, int]:
    """Bytes that layers in 8 bits save a bundle, and the same where it is compressed."""
    half, whole = b"", b""
    for name, found in layers.items():
        values = codec.get_submodule(name).get_parameter("weight").detach().numpy()
        if name.startswith(ENCODER_BLOCKS):
            fraction, exponent = np.frexp(values)
            values = np.ldexp(np.round(fraction * 2**DIGITS) / 2**DIGITS, exponent)
        half += values.astype(np.float16).tobytes()
        whole += found.numbers.tobytes() + b"".join(factor.tobytes() for factor in found.factors)
    return len(half) - len(whole), len(zlib.compress(half, 9)) - len(zlib.compress(whole, 9))


def table(rows: list[Row]) -> str:
    """Bits at equal PSNR against the network as it is, and PSNR lost at the finest position."""
    (base,) = (np.array(row["curve"]) for row in rows if row["arm"] == BASE)
    places = {name: index for index, name in enumerate(ARMS)}
    cells = []
    for row in sorted(rows, key=lambda row: (places[row["arm"]], row["rounding"])):
        curve = np.array(row["curve"])
        (bits,) = gains(base, curve)
        lost = curve[-1, 1] - base[-1, 1]
        saved = (f"{row[key] / 1000:.0f}" for key in ("bytes", "deflated"))
        rounding = "-" if row["arm"] == BASE else row["rounding"]
        cells.append((row["arm"], rounding, *saved, f"{bits:+.2f} %", f"{lost:+.2f}"))
    heads = ("in 8 bits", "rounding", "kB saved", "kB saved, deflated", "bits at equal PSNR")
    return markdown_table((*heads, f"dB at position {POSITIONS[-1]}"), cells)


if __name__ == "__main__":
    main()
