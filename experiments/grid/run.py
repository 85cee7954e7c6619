"""Where the grid comes from: held-out pictures from exact latents, and from quantized ones.

python -m experiments.grid.run RECIPE SNAPSHOT --data-root DATA [--name NAME] -o ROWS.json
python -m experiments.grid.run --table ROWS.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from experiments.judging import HeldOut, Measured, coding_of, load_held_out, pixels_of

from softstair.codec.tile import TileCoder
from softstair.evaluate import measure_grid
from softstair.learn.checkpoint import load_codec
from softstair.learn.integer.measure import analysed
from softstair.learn.recipe import Quantizer, Recipe, read_recipe
from softstair.learn.torch_networks import TorchNetworks
from softstair.mode import Mode
from softstair.quantize.grids import STRIDE

POSITIONS = (24, 48, 72)
PICTURES, CROPS = 12, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?")
    parser.add_argument("snapshot", type=Path, nargs="?")
    parser.add_argument("--name", help="of the network in the table; by default the recipe's")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())), end="")
        return
    recipe = read_recipe(arguments.recipe)
    name = arguments.name or recipe.name
    codec = load_codec(recipe, arguments.snapshot)
    held_out = load_held_out(recipe, arguments.data_root, CROPS)
    found = grids(recipe, Measured.of(codec, held_out.crops), held_out)
    rows = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    rows = [row for row in rows if row["name"] != name]
    rows += [{"name": name, "position": position, **values} for position, values in found.items()]
    arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


def grids(recipe: Recipe, of: Measured, held_out: HeldOut) -> dict[int, dict[str, float]]:
    """Grid by position and by what latents the synthesis was given."""
    trellis = recipe.export.modes[Mode.TCQ32]
    ways = {
        "rounding": (Mode.SCALAR, Quantizer()),
        "trellis, no zeros": (Mode.TCQ32, Quantizer(trellis.step)),
        "trellis": (Mode.TCQ32, trellis),
    }
    coders = {}
    for way, (mode, quantizer) in ways.items():
        integers = replace(of.integers, codings={mode: coding_of(of, mode, quantizer)})
        coders[way] = TileCoder(integers, TorchNetworks(of.codec), mode)
    pictures = held_out.pictures[:PICTURES]
    return {
        position: {
            way: round(_grid(of, coders.get(way), pictures, position), 3) for way in ("exact", *coders)
        }
        for position in POSITIONS
    }


def _grid(
    of: Measured, coder: TileCoder | None, pictures: list[npt.NDArray[np.uint8]], position: int
) -> float:
    """Steps across the lines over those beside them, all smooth places of the pictures together."""
    across = beside = 0.0
    for picture in pictures:
        latents = analysed(of.codec, picture)
        decoded = latents.latents if coder is None else coder.decide(coder.begin(latents, position)).latents
        original = np.ascontiguousarray(picture.transpose(1, 2, 0))
        grid = measure_grid(original, pixels_of(of.codec, decoded, position), STRIDE)
        places = grid.smooth * picture.size
        across += places * grid.across
        beside += places * grid.beside
    return across / beside


def table(rows: list[dict[str, Any]]) -> str:
    ways = [key for key in rows[0] if key not in ("name", "position")]
    lines = [f"| network, position | {' | '.join(ways)} |", "| --- |" + " --: |" * len(ways)]
    for row in rows:
        lines.append(
            f"| {row['name']}, {row['position']} | " + " | ".join(f"{row[w]:.2f}" for w in ways) + " |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
