"""Where the grid comes from: held-out pictures from exact latents, and from quantized ones.

python -m experiments.grid.run RECIPE SNAPSHOT --data-root DATA [--name NAME] -o ROWS.json
python -m experiments.grid.run --table ROWS.json
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
from experiments.harness import Row, asked, read_rows, write_rows
from experiments.judging import HeldOut, Measured, coding_of, interleaved, load_held_out, pixels_of

from softstair.codec.tile import TileCoder
from softstair.evaluate import markdown_table, measure_grid
from softstair.learn.checkpoint import load_codec
from softstair.learn.integer.measure import analysed
from softstair.learn.recipe import Quantizer, Recipe, read_recipe
from softstair.mode import Mode
from softstair.quantize.grids import STRIDE

POSITIONS = (24, 48, 72)
PICTURES, CROPS = 12, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--name", help="of the network in the table; by default the recipe's")
    arguments = asked(parser, table, "recipe", "snapshot")
    recipe = read_recipe(arguments.recipe)
    name = arguments.name or recipe.name
    codec = load_codec(recipe, arguments.snapshot)
    held_out = load_held_out(recipe, arguments.data_root, CROPS)
    found = grids(recipe, Measured.of(codec, held_out.crops), held_out)
    rows = [row for row in read_rows(arguments.output) if row["name"] != name]
    rows += [{"name": name, "position": position, **values} for position, values in found.items()]
    write_rows(arguments.output, rows)


def grids(recipe: Recipe, of: Measured, held_out: HeldOut) -> dict[int, dict[str, float]]:
    """Grid by position and by what latents the synthesis was given."""
    trellis = recipe.export.modes[Mode.TCQ32]
    ways = {
        "rounding": (Mode.SCALAR, Quantizer()),
        "trellis, no zeros": (Mode.TCQ32, Quantizer(trellis.step)),
        "trellis": (Mode.TCQ32, trellis),
    }
    coders = {way: of.coder(one[0], coding_of(of, *one)) for way, one in ways.items()}
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
        known = analysed(of.codec, picture) if coder is None else of.decide(coder, picture, position)
        grid = measure_grid(interleaved(picture), pixels_of(of.codec, known.latents, position), STRIDE)
        places = grid.smooth * picture.size
        across += places * grid.across
        beside += places * grid.beside
    return across / beside


def table(rows: list[Row]) -> str:
    ways = [key for key in rows[0] if key not in ("name", "position")]
    cells = ([f"{row['name']}, {row['position']}", *(f"{row[way]:.2f}" for way in ways)] for row in rows)
    return markdown_table(["network, position", *ways], cells)


if __name__ == "__main__":
    main()
