"""What steps, rate weights and skips are worth: held-out pictures, really quantized and decoded.

    python -m experiments.modes.run RECIPE SNAPSHOT --data-root DATA [--try tcq8:step:skip:weight ...]

FLAGS: s for staircases of --staircases: thresholds of z, and of y levels in scalar and rdoq and
thresholds in scalar. Prints, for every setting tried, the Bjontegaard delta rate against plain rounding
with measured tables, over the rate positions: bits by the tables, PSNR of decoded 8-bit pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from softstair.codec.tile import Begun, TileCoder
from softstair.evaluate import delta_rate
from softstair.learn.checkpoint import load_codec
from softstair.learn.codec import Codec
from softstair.learn.data import Crops, load_pictures
from softstair.learn.integer.measure import (
    analysed,
    begin_crops,
    integers_of,
    measure_coding,
    measure_z_tables,
)
from softstair.learn.layers.rates import hat_weights
from softstair.learn.recipe import Quantizer, read_recipe
from softstair.learn.staircases import Derivation, read_derivation
from softstair.learn.torch_networks import TorchNetworks
from softstair.mode import Mode
from softstair.quantize.setting import Integers
from softstair.quantize.staircase import Staircase

MEASURING, SIDE = 2**31, 256


@dataclass(frozen=True)
class Measured:
    """A codec's integers with measured tables of z, and samples of training crops at all rates."""

    integers: Integers
    samples: list[Begun]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=60, help="training crops to measure tables on")
    parser.add_argument("--positions", type=int, nargs="+", default=[24, 56, 88, 120])
    parser.add_argument("--staircases", type=Path, help="of softstair derive")
    parser.add_argument(
        "--try", dest="settings", nargs="*", default=[], metavar="MODE:STEP:SKIP:WEIGHT[:FLAGS]"
    )
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    codec = load_codec(recipe, arguments.snapshot)
    train = load_pictures([arguments.data_root / name for name in recipe.data.train])
    crops = Crops(train, recipe.seed).batch(MEASURING, arguments.crops, SIDE)
    plain, derivation = prepare(codec, crops, None), None
    if arguments.staircases is not None:
        derivation = read_derivation(arguments.staircases)
    derived = plain if derivation is None else prepare(codec, crops, derivation)
    held_out = load_pictures([arguments.data_root / name for name in recipe.data.validation])
    pictures = [np.ascontiguousarray(_even(p).transpose(2, 0, 1)) for p in held_out]

    def curve(mode: Mode, quantizer: Quantizer, flags: Collection[str] = ()) -> list[tuple[float, float]]:
        of = derived if "s" in flags else plain
        coding = integers_of(codec, {mode: quantizer}, derivation if "s" in flags else None).codings[mode]
        if mode is Mode.RDOQ and "s" in flags:  # learned levels, and a search instead of thresholds
            learned = of.integers.codings[Mode.SCALAR].staircase.levels
            coding = replace(coding, staircase=Staircase(quantizer.step, quantizer.skip, learned))
        integers = replace(of.integers, codings={mode: coding})
        networks = TorchNetworks(codec)
        coding = measure_coding(networks, integers, of.samples, mode)
        coder = TileCoder(replace(integers, codings={mode: coding}), networks, mode)
        points = []
        for position in arguments.positions:
            figures = []
            for picture in pictures:
                decided = coder.decide(coder.begin(analysed(codec, picture), position))
                figures.append(
                    (
                        decided.table_bits / picture[0].size,
                        _psnr(codec, decided.latents, position, picture),
                    )
                )
            points.append(tuple(map(float, np.mean(figures, axis=0))))
        return points

    anchor = curve(Mode.SCALAR, Quantizer())
    print("| mode | step | skip | rate weight | BD-rate | bpp at", *arguments.positions, "|", flush=True)
    for setting in arguments.settings:
        mode, step, skip, weight, *flags = setting.split(":")
        points = curve(Mode(mode), Quantizer(int(step), int(skip), float(weight)), flags)
        shown = f"{mode} | {step} | {skip} | {weight} {' '.join(flags)}"
        print(
            f"| {shown} | {delta_rate(anchor, points).pchip:+.2f} % |",
            *(f"{bpp:.3f}/{psnr:.2f}" for bpp, psnr in points),
            flush=True,
        )


def prepare(codec: Codec, crops: np.ndarray, derivation: Derivation | None) -> Measured:
    integers = integers_of(codec, {Mode.SCALAR: Quantizer()}, derivation)
    samples = begin_crops(codec, integers, crops)
    return Measured(replace(integers, z_tables=measure_z_tables(codec, samples)), samples)


@torch.no_grad()
def _psnr(codec: Codec, decoded: np.ndarray, position: int, picture: np.ndarray) -> float:
    hat = hat_weights(torch.tensor([position]), codec.shape.rate_points)
    pixels = codec.synthesis(torch.from_numpy(decoded), hat)[0]
    rounded = (pixels.clamp(0, 1) * 255).round().numpy()
    return float(10 * np.log10(255**2 / np.square(rounded - picture).mean()))


def _even(pixels: np.ndarray) -> np.ndarray:
    """Cut to sides that need no padding, and to 512, for time."""
    height, width = (min(side, 512) // 32 * 32 for side in pixels.shape[:2])
    return pixels[:height, :width]


if __name__ == "__main__":
    main()
