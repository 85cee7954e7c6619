"""Crops as decoders see them: analysed, quantized for real, through the integer path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair.quantize.rates import POSITIONS_PER_OCTAVE, interpolate

from ..codec import Codec
from ..data import Crops, Pixels
from ..distortion import PEAK, distortion
from ..export.bundle import integers_of, learned_of
from ..export.measure import Sample, latents_of, measure_z_tables, sample, samples
from ..export.modes import NOTHING_LEARNED, Decided, measure_mode, quantize, values
from ..layers.rates import draw_positions, hat_weights
from ..recipe import Recipe
from ..staircases import Derivation

_MEASURING = 2**31  # as a step of the crops: one that no run reaches
_MEASURING_SIDE = 256
_LARGEST = 512  # of a held-out picture: the upper left of a larger one


@dataclass(frozen=True)
class Batch:
    """What a step sees.

    picture: (B, 3, H, W) in [0, 1]. position: (B,). decoded: y^. symbols, values: q and where it
    lies, in steps. The last three are (B, C, h, w). z_hat: (B, Z, h / 2, w / 2). octaves: log2 of
    one over the step, (B, C, 1, 1).
    """

    picture: Tensor
    position: Tensor
    decoded: Tensor
    symbols: Tensor
    values: Tensor
    z_hat: Tensor
    octaves: Tensor


@dataclass(frozen=True)
class Figures:
    """Held-out pictures at a rate position: bits a pixel by the tables, PSNR in dB, distortion."""

    bpp: float
    psnr: float
    distortion: float


class Quantized:
    """The codec as it is, its tables measured, coding crops in one mode."""

    def __init__(
        self, recipe: Recipe, codec: Codec, crops: Crops, derivation: Derivation | None = None
    ) -> None:
        self._recipe, self._codec, self._crops = recipe, codec, crops
        settings = recipe.finetune
        self._integers = integers_of(codec, derivation)
        measured = crops.batch(_MEASURING, settings.measured_crops, _MEASURING_SIDE)
        taken = samples(codec, self._integers, measured)
        self._z_tables = measure_z_tables(codec, taken)
        quantizer = recipe.export.modes[settings.mode]
        self._mode = measure_mode(
            codec,
            self._integers,
            taken,
            self._z_tables,
            settings.mode,
            quantizer,
            learned=learned_of(codec, derivation) if settings.mode == "scalar" else NOTHING_LEARNED,
        )

    def batch(self, step: int) -> Batch:
        """The batch of a step; the same whenever it is asked for."""
        settings = self._recipe.finetune
        pixels = self._crops.batch(step, settings.count, settings.side)
        rng = np.random.default_rng((self._recipe.seed, step))
        spread = torch.from_numpy((rng.random() + np.arange(len(pixels)) / len(pixels)) % 1.0)
        positions = draw_positions(spread, self._recipe.shape.rate_points, self._recipe.rates.anchor)
        coded = [self._decide(crop, int(at)) for crop, at in zip(pixels, positions, strict=True)]
        grids = [self._mode.staircase.grid(int(at)) for at in positions]
        return Batch(
            picture=torch.from_numpy(pixels).float() / 255,
            position=positions,
            decoded=_stack([decided.decoded for _, decided in coded]),
            symbols=_stack([decided.symbols for _, decided in coded]),
            values=_stack([values(one.symbols, grid) for (_, one), grid in zip(coded, grids, strict=True)]),
            z_hat=_stack([one.z.transpose(2, 0, 1).astype(np.float32) for one, _ in coded]),
            octaves=self._octaves(positions),
        )

    @torch.no_grad()
    def figures(self, codec: Codec, pictures: list[Pixels], position: int) -> Figures:
        """Code held-out pictures (H, W, 3); ``codec`` makes pictures of what is decoded."""
        rows, rates = [], self._recipe.rates
        hat = hat_weights(torch.tensor([position]), codec.shape.rate_points)
        for pixels in pictures:
            height, width = (min(side, _LARGEST) // 32 * 32 for side in pixels.shape[:2])
            planes = np.ascontiguousarray(pixels[:height, :width].transpose(2, 0, 1))
            decided = self._decide(planes, position)[1]
            picture = codec.synthesis(torch.from_numpy(decided.decoded)[None], hat)[0]
            rounded = ((picture.clamp(0, 1) * 255).round() / 255)[None]
            original = torch.from_numpy(planes)[None].float() / 255
            bpp = sum(decided.tile.cross_entropy()) / (height * width)
            psnr = 10 * np.log10(PEAK**2 / distortion("mse", rounded, original).item())
            cost = distortion(rates.distortion, rounded, original, rates.mixture).item()
            rows.append((bpp, psnr, cost))
        return Figures(*map(float, np.mean(rows, axis=0)))

    def _decide(self, pixels: Pixels, position: int) -> tuple[Sample, Decided]:
        """Pixels (3, H, W), sides multiples of 32."""
        one = sample(self._codec, self._integers, latents_of(self._codec, pixels), position)
        return one, quantize(self._codec, self._integers, one, self._z_tables, self._mode)

    def _octaves(self, positions: Tensor) -> Tensor:
        gains = self._integers.gains
        exponents = [interpolate(gains, int(at)) + int(at) - self._mode.staircase.step for at in positions]
        return _stack([one.astype(np.float32) for one in exponents])[..., None, None] / POSITIONS_PER_OCTAVE


def _stack(arrays: list[npt.NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
