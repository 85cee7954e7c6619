"""What do the first phases of a picture tell of it at small sizes?

    python -m experiments.phases.run PICTURES... [--bundle photo]

Least squares from z^ and the latents of the first phases, of the four places of a 2 x 2 square, to means of
8 x 8 pixels of the original; learned on crops of training pictures, of which every eighth is kept to say how
good it is. PSNR in dB, a mean over these crops.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from softstair.bundle import open_bundle
from softstair.codec import networks_of
from softstair.codec.tile import TileCoder
from softstair.learn.data import Crops, load_pictures
from softstair.mode import Mode
from softstair.quantize.phases import PHASES, phase_map

_SIDE, _CROPS, _HELD_OUT = 256, 480, 8
_MODE = Mode.RDOQ
_BLOCK = 4  # pixels of an eighth that a 2 x 2 square of places stands for, each way
_RIDGE = 1e-4

Floats = npt.NDArray[np.float32]


def places(planes: Floats, side: int) -> Floats:
    """(N, C, h, w) to a row a square of ``side`` positions, (N h w / side^2, C side^2)."""
    count, channels, height, width = planes.shape
    cut = planes.reshape(count, channels, height // side, side, width // side, side)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels * side * side)


def means(planes: Floats, side: int) -> Floats:
    """Of side x side pixels."""
    count, channels, height, width = planes.shape
    return planes.reshape(count, channels, height // side, side, width // side, side).mean((3, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--bundle", default="photo")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    coder = TileCoder(bundle, networks_of(bundle, 1, _MODE), _MODE)
    pixels = Crops(load_pictures(arguments.pictures), 0).batch(0, _CROPS, _SIDE)
    positions = np.random.default_rng(0).integers(0, bundle.last_position + 1, _CROPS)
    z, y = [], []
    for one, position in zip(pixels, positions.tolist(), strict=True):
        begun = coder.begin(coder.analyse(np.ascontiguousarray(one.transpose(1, 2, 0))), position)
        z.append(begun.z.transpose(2, 0, 1).astype(np.float32))
        y.append(coder.decide(begun).latents[0])
    latents, eighth = np.stack(y), means(pixels.astype(np.float32) / 255, 8)
    wanted = places(eighth, _BLOCK)
    kept = np.arange(_CROPS) % _HELD_OUT == 0
    rows = np.repeat(kept, len(wanted) // _CROPS)
    phases = phase_map(bundle.channels, *latents.shape[2:])
    print("| phases | 1/8 | 1/16 | 1/32 |\n| --: | --: | --: | --: |")
    for count in range(1, PHASES + 1):
        seen = places(latents * (phases < count), 2)
        seen = np.hstack([places(np.stack(z), 1), seen[:, seen.any(0)], np.ones((len(seen), 1), np.float32)])
        square = seen[~rows].T @ seen[~rows]
        square[np.diag_indices_from(square)] += _RIDGE * square.diagonal().mean()
        solution = np.linalg.solve(square.astype(np.float64), seen[~rows].T @ wanted[~rows])
        errors = (seen[rows] @ solution - wanted[rows]).reshape(kept.sum(), -1, 3, _BLOCK, _BLOCK)
        figures = []
        for divisor in (1, 2, 4):
            side = _BLOCK // divisor
            less = errors.reshape(*errors.shape[:3], side, divisor, side, divisor).mean((4, 6))
            figures.append(-10 * np.log10(np.square(less).mean((1, 2, 3, 4))).mean())
        print(f"| {count} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |", flush=True)


if __name__ == "__main__":
    main()
