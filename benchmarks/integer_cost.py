"""What integers cost: bits of the scale network on integer grids against the same one in float.

    python benchmarks/integer_cost.py RECIPE SNAPSHOT PICTURE... [--positions 0 40 80 120 160]

Both price the same symbols with the model's Gaussians, so nothing else differs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from softstair.evaluate.data import read_rgb
from softstair.learn.checkpoint import load_snapshot
from softstair.learn.codec import Codec
from softstair.learn.recipe import read_recipe
from softstair.learn.validation import validate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--positions", nargs="+", type=int, default=[0, 40, 80, 120, 160])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec = Codec(read_recipe(arguments.recipe).shape).eval()
    load_snapshot(arguments.snapshot, codec)
    pictures = [read_rgb(path) for path in arguments.pictures]
    print("| rate position | bpp in float | bpp in integers | cost |")
    print("| --- | --- | --- | --- |")
    # The gains keep their integer grid in both: they move the symbols themselves.
    codec.set_fixed(True)
    fixed = validate(codec, pictures, arguments.positions)
    codec.scale_network.set_fixed(False)
    floating = validate(codec, pictures, arguments.positions)
    for one, other in zip(floating, fixed, strict=True):
        cost = 100 * (other.bpp / one.bpp - 1)
        print(f"| {one.position} | {one.bpp:.4f} | {other.bpp:.4f} | {cost:+.3f} % |")


if __name__ == "__main__":
    main()
