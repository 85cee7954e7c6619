"""What steps, rate weights and skips are worth: held-out pictures, really quantized and decoded.

    python scripts/choose_modes.py RECIPE SNAPSHOT --data-root DATA [--try tcq8:step:skip:weight ...]

FLAGS: c for centroids, w for errors weighted by what they matter to the picture. Prints, for every
setting tried, the Bjontegaard delta rate against plain rounding with measured
tables, over four rate positions: bits by the tables, PSNR of decoded 8-bit pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from softstair.evaluate import delta_rate
from softstair.learn.checkpoint import load_snapshot
from softstair.learn.codec import Codec
from softstair.learn.data import Crops, load_pictures
from softstair.learn.export.bundle import ROW_RULE
from softstair.learn.export.integers import integer_gains, integer_weights
from softstair.learn.export.measure import (
    Integers,
    latents_of,
    measure_z_tables,
    sample,
    samples,
)
from softstair.learn.export.modes import measure_mode, quantize
from softstair.learn.export.sensitivity import channel_weights
from softstair.learn.layers.rates import hat_weights
from softstair.learn.recipe import Quantizer, read_recipe
from softstair.quantize.staircase import UNWEIGHTED

POSITIONS = (24, 56, 88, 120)
MEASURING, SIDE = 2**31, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=60, help="training crops to measure tables on")
    parser.add_argument(
        "--try", dest="settings", nargs="*", default=[], metavar="MODE:STEP:SKIP:WEIGHT[:FLAGS]"
    )
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    codec = Codec(recipe.shape)
    load_snapshot(arguments.snapshot, codec)
    codec.set_fixed(True)
    codec.eval()
    integers = Integers(integer_weights(codec), integer_gains(codec), ROW_RULE)
    train = load_pictures([arguments.data_root / name for name in recipe.data.train])
    taken = samples(codec, integers, Crops(train, recipe.seed).batch(MEASURING, arguments.crops, SIDE))
    z_tables = measure_z_tables(codec, taken)
    held_out = load_pictures([arguments.data_root / name for name in recipe.data.validation])
    pictures = [np.ascontiguousarray(_even(p).transpose(2, 0, 1)) for p in held_out]

    channels = channel_weights(codec, integers, taken[:: max(len(taken) // 40, 1)], z_tables)

    def curve(mode: str, quantizer: Quantizer, weights: np.ndarray = UNWEIGHTED) -> list[tuple[float, float]]:
        measured = measure_mode(codec, integers, taken, z_tables, mode, quantizer, weights)
        points = []
        for position in POSITIONS:
            figures = []
            for picture in pictures:
                one = sample(codec, integers, latents_of(codec, picture), position)
                decided = quantize(codec, integers, one, z_tables, measured)
                figures.append(
                    (
                        sum(decided.tile.cross_entropy()) / picture[0].size,
                        _psnr(codec, decided.decoded, position, picture),
                    )
                )
            points.append(tuple(map(float, np.mean(figures, axis=0))))
        return points

    anchor = curve("scalar", Quantizer())
    print("| mode | step | skip | rate weight | BD-rate | bpp at", *POSITIONS, "|", flush=True)
    for setting in arguments.settings:
        mode, step, skip, weight, *flags = setting.split(":")
        centroids, weighted = "c" in flags, "w" in flags
        quantizer = Quantizer(int(step), int(skip), float(weight), centroids)
        points = curve(mode, quantizer, channels if weighted else UNWEIGHTED)
        shown = f"{mode} | {step} | {skip} | {weight} {' '.join(flags)}"
        print(
            f"| {shown} | {delta_rate(anchor, points).pchip:+.2f} % |",
            *(f"{bpp:.3f}/{psnr:.2f}" for bpp, psnr in points),
            flush=True,
        )


@torch.no_grad()
def _psnr(codec: Codec, decoded: np.ndarray, position: int, picture: np.ndarray) -> float:
    hat = hat_weights(torch.tensor([position]), codec.shape.rate_points)
    pixels = codec.synthesis(torch.from_numpy(decoded)[None], hat)[0]
    rounded = (pixels.clamp(0, 1) * 255).round().numpy()
    return float(10 * np.log10(255**2 / np.square(rounded - picture).mean()))


def _even(pixels: np.ndarray) -> np.ndarray:
    """Cut to sides that need no padding, and to 512, for time."""
    height, width = (min(side, 512) // 32 * 32 for side in pixels.shape[:2])
    return pixels[:height, :width]


if __name__ == "__main__":
    main()
