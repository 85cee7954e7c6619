"""What judges say of a network in training: held-out pictures, quantized by the product's coder and decoded.

It takes no bundle: bits are those of tables that are measured for the occasion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from softstair.codec.tile import Begun, Decided, TileCoder
from softstair.evaluate import delta_rate, psnr, ssimulacra2
from softstair.evaluate.data import Pixels
from softstair.evaluate.judges import find_judges
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
from softstair.learn.recipe import Quantizer, Recipe, ending_of, read_recipe
from softstair.learn.staircases import Derivation
from softstair.learn.torch_networks import TorchNetworks
from softstair.mode import Mode
from softstair.quantize.setting import Coding, Integers
from softstair.quantize.staircase import Staircase

MEASURING, SIDE = 2**31, 256
HELD_OUT = Path("train/heldout.tar")
LONGEST = 512  # side of a held-out picture, for time


def _mark(name: str, picture: Pixels, decoded: Pixels) -> float:
    (judge,) = find_judges([name])
    return float(judge.judge(picture, decoded, None)[name])


JUDGES: dict[str, Callable[[Pixels, Pixels], float]] = {
    "psnr": psnr,
    "ssimulacra2": ssimulacra2,
    "butteraugli": lambda picture, decoded: -_mark("butteraugli", picture, decoded),  # rises as others do
    "cvvdp": partial(_mark, "cvvdp"),
}
Curves = npt.NDArray[np.float64]  # a row a position: bits a pixel, then what every judge says


@dataclass(frozen=True)
class HeldOut:
    """Crops to measure tables on, uint8 (N, 3, 256, 256), and pictures to judge, uint8 (3, H, W)."""

    crops: npt.NDArray[np.uint8]
    pictures: list[npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Measured:
    """A codec's integers with measured tables of z, and samples of training crops at all rates."""

    codec: Codec
    integers: Integers
    samples: list[Begun]

    @classmethod
    def of(cls, codec: Codec, crops: npt.NDArray[np.uint8], derivation: Derivation | None = None) -> Measured:
        integers = integers_of(codec, {Mode.SCALAR: Quantizer()}, derivation)
        samples = begin_crops(codec, integers, crops)
        return cls(codec, replace(integers, z_tables=measure_z_tables(codec, samples)), samples)

    def coder(self, mode: Mode, coding: Coding) -> TileCoder:
        """The product's coder with these integers and a coding of a mode."""
        return TileCoder(replace(self.integers, codings={mode: coding}), TorchNetworks(self.codec), mode)

    def decide(self, coder: TileCoder, picture: npt.NDArray[np.uint8], position: int) -> Decided:
        """A picture (3, H, W), its symbols decided."""
        return coder.decide(coder.begin(analysed(self.codec, picture), position))


def read_ending(path: Path, name: str | None) -> Recipe:
    """A recipe, or the one of its endings that has a name."""
    recipe = read_recipe(path)
    return next((ending_of(recipe, one) for one in recipe.endings if one.name == name), recipe)


def load_held_out(recipe: Recipe, data_root: Path, crops: int) -> HeldOut:
    """The pictures that a recipe holds out, and crops of those that it trains on."""
    train = load_pictures([data_root / name for name in recipe.data.train])
    pictures = load_pictures([data_root / name for name in recipe.data.validation])
    return HeldOut(
        Crops(train, recipe.seed).batch(MEASURING, crops, SIDE),
        [np.ascontiguousarray(even(picture).transpose(2, 0, 1)) for picture in pictures],
    )


def coding_of(of: Measured, mode: Mode, quantizer: Quantizer, derivation: Derivation | None = None) -> Coding:
    """A mode with tables measured for its quantizer; with a derivation, on the levels that it learned."""
    coding = integers_of(of.codec, {mode: quantizer}, derivation).codings[mode]
    if mode is Mode.RDOQ and derivation is not None:  # learned levels, and a search instead of thresholds
        learned = of.integers.codings[Mode.SCALAR].staircase.levels
        coding = replace(coding, staircase=Staircase(quantizer.step, quantizer.skip, learned))
    integers = replace(of.integers, codings={mode: coding})
    return measure_coding(TorchNetworks(of.codec), integers, of.samples, mode)


def curves(
    of: Measured,
    coding: Coding,
    mode: Mode,
    pictures: Sequence[npt.NDArray[np.uint8]],
    positions: Sequence[int],
    names: Sequence[str],
) -> Curves:
    """Means over pictures: a row a position, bits a pixel and what the named judges say."""
    coder, rows = of.coder(mode, coding), []
    for position in positions:
        for picture in pictures:
            decided = of.decide(coder, picture, position)
            decoded = pixels_of(of.codec, decided.latents, position)
            marks = [JUDGES[name](interleaved(picture), decoded) for name in names]
            rows.append([decided.table_bits / picture[0].size, *marks])
    return np.reshape(rows, (len(positions), len(pictures), -1)).mean(1)


def gains(anchor: Curves, found: Curves) -> list[float]:
    """Bits that ``found`` takes more than ``anchor`` at equal quality, in per cent, judge by judge."""
    return [
        delta_rate(anchor[:, [0, k]].tolist(), found[:, [0, k]].tolist()).pchip
        for k in range(1, anchor.shape[1])
    ]


@torch.no_grad()
def pixels_of(codec: Codec, decoded: npt.NDArray[np.float32], position: int) -> Pixels:
    """What decoded latents look like, uint8 (H, W, 3)."""
    hat = hat_weights(torch.tensor([position]), codec.shape.rate_points)
    pixels = codec.synthesis(torch.from_numpy(decoded), hat)[0]
    return interleaved((pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def interleaved(planes: npt.NDArray[np.uint8]) -> Pixels:
    """(3, H, W) as (H, W, 3)."""
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def even(pixels: Pixels) -> Pixels:
    """Cut to at most 512 pixels a side, and to sides that need no padding."""
    height, width = (min(side, LONGEST) // 32 * 32 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])
