"""What steps, rate weights and skips are worth: held-out pictures, really quantized and decoded.

    python scripts/choose_modes.py RECIPE SNAPSHOT --data-root DATA [--try tcq8:step:skip:weight ...]

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

from softstair.evaluate import delta_rate
from softstair.learn.checkpoint import load_codec
from softstair.learn.codec import Codec
from softstair.learn.data import Crops, load_pictures
from softstair.learn.export.bundle import integers_of, learned_of
from softstair.learn.export.measure import (
    Integers,
    Sample,
    latents_of,
    measure_z_tables,
    sample,
    samples,
)
from softstair.learn.export.modes import NOTHING_LEARNED, Learned, measure_mode, quantize
from softstair.learn.layers.rates import hat_weights
from softstair.learn.recipe import Quantizer, read_recipe
from softstair.learn.staircases import Derivation, read_derivation
from softstair.quantize.staircase import STATES
from softstair.quantize.tables import TableSet

MEASURING, SIDE = 2**31, 256


@dataclass(frozen=True)
class Measured:
    """A codec's integers, samples of training crops at all rates, and z's tables of them."""

    integers: Integers
    taken: list[Sample]
    z_tables: TableSet


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

    def curve(mode: str, quantizer: Quantizer, flags: Collection[str] = ()) -> list[tuple[float, float]]:
        of = derived if "s" in flags else plain
        learned = learned_in(mode, codec, derivation) if "s" in flags else NOTHING_LEARNED
        measured = measure_mode(codec, of.integers, of.taken, of.z_tables, mode, quantizer, learned)
        points = []
        for position in arguments.positions:
            figures = []
            for picture in pictures:
                one = sample(codec, of.integers, latents_of(codec, picture), position)
                decided = quantize(codec, of.integers, one, of.z_tables, measured)
                figures.append(
                    (
                        sum(decided.tile.cross_entropy()) / picture[0].size,
                        _psnr(codec, decided.decoded, position, picture),
                    )
                )
            points.append(tuple(map(float, np.mean(figures, axis=0))))
        return points

    anchor = curve("scalar", Quantizer())
    print("| mode | step | skip | rate weight | BD-rate | bpp at", *arguments.positions, "|", flush=True)
    for setting in arguments.settings:
        mode, step, skip, weight, *flags = setting.split(":")
        points = curve(mode, Quantizer(int(step), int(skip), float(weight)), flags)
        shown = f"{mode} | {step} | {skip} | {weight} {' '.join(flags)}"
        print(
            f"| {shown} | {delta_rate(anchor, points).pchip:+.2f} % |",
            *(f"{bpp:.3f}/{psnr:.2f}" for bpp, psnr in points),
            flush=True,
        )


def prepare(codec: Codec, crops: np.ndarray, derivation: Derivation | None) -> Measured:
    integers = integers_of(codec, derivation)
    taken = samples(codec, integers, crops)
    return Measured(integers, taken, measure_z_tables(codec, taken))


def learned_in(mode: str, codec: Codec, derivation: Derivation | None) -> Learned:
    """What a mode takes of a derivation: a search decides by itself, a trellis has levels of its own."""
    learned = learned_of(codec, derivation)
    if STATES[mode] > 1:
        return NOTHING_LEARNED
    return learned if mode == "scalar" else replace(learned, thresholds=[])


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
