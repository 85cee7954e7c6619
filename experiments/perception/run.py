"""One stream, two decoders: a synthesis for squared error and one for the eye, on the same latents, judged.

    python -m experiments.perception.run RECIPE SNAPSHOT --data-root DATA [--ending NAME] -o ROWS.json
    python -m experiments.perception.run --table ROWS.json

The stage ``finetune`` trains both from one snapshot; the encoder is frozen, so bits are the same and
what judges say differs. Pixels half of one and half of the other are judged, too (as arXiv 2206.10082 mixes).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import torch
from experiments.harness import Row, asked, write_rows
from experiments.judging import (
    JUDGES,
    HeldOut,
    Measured,
    coding_of,
    interleaved,
    load_held_out,
    pixels_of,
    read_ending,
)

from softstair.evaluate import markdown_table
from softstair.learn.checkpoint import load_codec
from softstair.learn.codec import Codec
from softstair.learn.recipe import Recipe
from softstair.learn.stages.finetune import finetune
from softstair.mode import Mode

MODE, POSITIONS, CROPS, EVERY = Mode.TCQ32, (24, 56, 88), 24, 3
AIMS = ("mse", "eye")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?")
    parser.add_argument("snapshot", type=Path, nargs="?")
    parser.add_argument("--ending", help="of a recipe that has several")
    parser.add_argument("--steps", type=int, default=300)
    arguments = asked(parser, table)
    torch.set_num_threads(1)
    recipe = read_ending(arguments.recipe, arguments.ending)
    codecs = trained(recipe, arguments.snapshot, arguments.data_root, arguments.steps)
    held_out = load_held_out(recipe, arguments.data_root, CROPS)
    write_rows(arguments.output, judged(recipe, load_codec(recipe, arguments.snapshot), codecs, held_out))


def trained(recipe: Recipe, snapshot: Path, data_root: Path, steps: int) -> dict[str, Codec]:
    """A codec for each aim; they differ in the synthesis alone."""
    codecs = {}
    settings = msgspec.structs.replace(recipe.finetune, steps=steps, validate_every=steps)
    with tempfile.TemporaryDirectory() as folder:
        for aim in AIMS:
            rates = msgspec.structs.replace(recipe.rates, distortion=aim)
            one = msgspec.structs.replace(recipe, rates=rates, finetune=settings)
            codecs[aim] = finetune(one, snapshot, data_root, Path(folder) / aim, say=print).eval()
    return codecs


def judged(recipe: Recipe, encoder: Codec, codecs: dict[str, Codec], held_out: HeldOut) -> list[Row]:
    """A row for every position and way to decode: means over pictures."""
    of = Measured.of(encoder, held_out.crops)
    coder = of.coder(MODE, coding_of(of, MODE, recipe.export.modes[MODE]))
    rows = []
    for position in POSITIONS:
        marks: dict[str, list[list[float]]] = {}
        bits = []
        for picture in held_out.pictures[::EVERY]:
            decided, original = of.decide(coder, picture, position), interleaved(picture)
            bits.append(decided.table_bits / picture[0].size)
            shown = {aim: pixels_of(codecs[aim], decided.latents, position) for aim in AIMS}
            both = shown["mse"].astype(np.uint16) + shown["eye"]
            shown["half of each"] = ((both + 1) // 2).astype(np.uint8)
            for aim, pixels in shown.items():
                marks.setdefault(aim, []).append([judge(original, pixels) for judge in JUDGES.values()])
        for aim, values in marks.items():
            means = dict(zip(JUDGES, np.mean(values, 0).round(4).tolist(), strict=True))
            rows.append(
                {"position": position, "synthesis": aim, "bpp": round(float(np.mean(bits)), 4), **means}
            )
            print(rows[-1], flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """As they are; butteraugli is better where it is lower."""

    def mark(row: Row, name: str) -> str:
        value = -row[name] if name == "butteraugli" else row[name]
        return f"{value:.3f}" if name == "cvvdp" else f"{value:.2f}"

    cells = ([row["synthesis"], f"{row['bpp']:.3f}", *(mark(row, name) for name in JUDGES)] for row in rows)
    return markdown_table(["synthesis for", "bpp", *JUDGES], cells)


if __name__ == "__main__":
    main()
