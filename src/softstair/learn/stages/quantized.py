"""Crops as decoders see them: analysed, quantized for real, through the integer path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair.codec.tile import Begun, Decided, Symbols, TileCoder
from softstair.quantize.phases import PHASES, phase_map
from softstair.quantize.rates import POSITIONS_PER_OCTAVE, interpolate

from ..codec import Codec
from ..data import Crops, Pixels
from ..distortion import PEAK, distortion
from ..integer.measure import analysed, integers_of, measured
from ..layers.rates import draw_positions, hat_weights
from ..recipe import Recipe
from ..staircases import Derivation
from ..torch_networks import TorchNetworks

Floats = npt.NDArray[np.float32]

_MEASURING = 2**31  # as a step of the crops: one that no run reaches
_MEASURING_SIDE = 256
_LARGEST = 512  # of a held-out picture: the upper left of a larger one


@dataclass(frozen=True)
class Batch:
    """What a step sees.

    picture: (B, 3, H, W) in [0, 1]. position: (B,). decoded: y^. symbols, values: q and where it
    lies, in steps. z_hat: (B, Z, h / 2, w / 2). octaves: log2 of one over the step, (B, C, 1, 1). kept:
    1 where a symbol is there, 0 where it was cut off: q is zero there, and y^ the mean. (B, C, h, w) where
    nothing else is said.
    """

    picture: Tensor
    position: Tensor
    decoded: Tensor
    symbols: Tensor
    values: Tensor
    z_hat: Tensor
    octaves: Tensor
    kept: Tensor

    @property
    def whole(self) -> Tensor:
        """Of which crops nothing was cut off, (B,)."""
        return self.kept.amin((1, 2, 3)) > 0


@dataclass(frozen=True)
class HeldOutCosts:
    """Held-out pictures at a rate position: bits a pixel by the tables, PSNR in dB, distortion."""

    bpp: float
    psnr: float
    distortion: float


class _Crop(NamedTuple):
    """A crop as coded: z^ (Z, h / 2, w / 2); q in steps, y^ and what is there of it, (C, h, w)."""

    z_hat: Floats
    symbols: Floats
    decoded: Floats
    kept: Floats


class Quantized:
    """The codec as it is, its tables measured, coding crops in one mode."""

    def __init__(
        self, recipe: Recipe, codec: Codec, crops: Crops, derivation: Derivation | None = None
    ) -> None:
        self._recipe, self._codec, self._crops = recipe, codec, crops
        settings = recipe.finetune
        quantizers = {settings.mode: recipe.export.modes[settings.mode]}
        self._integers = measured(
            codec,
            integers_of(codec, quantizers, derivation),
            crops.batch(_MEASURING, settings.measured_crops, _MEASURING_SIDE),
        )
        self._staircase = self._integers.codings[settings.mode].staircase
        self._coder = TileCoder(self._integers, TorchNetworks(codec), settings.mode)

    def batch(self, step: int) -> Batch:
        """The batch of a step; the same whenever it is asked for."""
        settings = self._recipe.finetune
        pixels = self._crops.batch(step, settings.count, settings.side)
        rng = np.random.default_rng((self._recipe.seed, step))
        spread = torch.from_numpy((rng.random() + np.arange(len(pixels)) / len(pixels)) % 1.0)
        positions = draw_positions(spread, self._recipe.shape.rate_points, self._recipe.rates.anchor)
        is_cut = rng.random(len(pixels)) < settings.cut
        phases = np.where(is_cut, rng.integers(0, PHASES, len(pixels)), PHASES)
        crops = zip(pixels, positions, phases, strict=True)
        coded = [self._code(crop, int(at), int(known)) for crop, at, known in crops]
        symbols = [one.symbols for one in coded]
        grids = [self._staircase.grid(int(at)) for at in positions]
        return Batch(
            picture=torch.from_numpy(pixels).float() / 255,
            position=positions,
            decoded=_stack([one.decoded for one in coded]),
            symbols=_stack(symbols),
            values=_stack([_values(one, grid) for one, grid in zip(symbols, grids, strict=True)]),
            z_hat=_stack([one.z_hat for one in coded]),
            octaves=self._octaves(positions),
            kept=_stack([one.kept for one in coded]),
        )

    @torch.no_grad()
    def figures(self, codec: Codec, pictures: list[Pixels], position: int) -> HeldOutCosts:
        """Code held-out pictures (H, W, 3); ``codec`` makes pictures of what is decoded."""
        rows, rates, across = [], self._recipe.rates, self._recipe.finetune.across
        hat = hat_weights(torch.tensor([position]), codec.shape.rate_points)
        for pixels in pictures:
            height, width = (min(side, _LARGEST) // 32 * 32 for side in pixels.shape[:2])
            planes = np.ascontiguousarray(pixels[:height, :width].transpose(2, 0, 1))
            decided = self._decide(planes, position)[1]
            picture = codec.synthesis(torch.from_numpy(decided.latents), hat)[0]
            rounded = ((picture.clamp(0, 1) * 255).round() / 255)[None]
            original = torch.from_numpy(planes)[None].float() / 255
            bpp = decided.table_bits / (height * width)
            psnr = 10 * np.log10(PEAK**2 / distortion("mse", rounded, original).item())
            cost = distortion(rates.distortion, rounded, original, rates.mixture, across).item()
            rows.append((bpp, psnr, cost))
        return HeldOutCosts(*map(float, np.mean(rows, axis=0)))

    def _decide(self, pixels: Pixels, position: int) -> tuple[Begun, Decided]:
        """Pixels (3, H, W), sides multiples of 32."""
        begun = self._coder.begin(analysed(self._codec, pixels), position)
        return begun, self._coder.decide(begun)

    def _code(self, pixels: Pixels, position: int, known: int) -> _Crop:
        """A crop of which the first phases alone are known, so many."""
        begun, decided = self._decide(pixels, position)
        y, decoded = decided.tile.symbols, decided.latents
        rows, columns, channels = y.shape
        kept = phase_map(channels, rows, columns) < known
        if known < PHASES:
            y = np.where(kept.transpose(1, 2, 0), y, np.int16(0))
            decoded = self._coder.reconstruct(Symbols(begun.z, y), position)
        unit = np.float32(0.5 if self._coder.mode.is_trellis else 1)
        symbols = y.transpose(2, 0, 1).astype(np.float32) * unit
        z_hat = begun.z.transpose(2, 0, 1).astype(np.float32)
        return _Crop(z_hat, symbols, decoded[0], kept.astype(np.float32))

    def _octaves(self, positions: Tensor) -> Tensor:
        gains = self._integers.gains
        exponents = [interpolate(gains, int(at)) + int(at) - self._staircase.step for at in positions]
        return _stack([one.astype(np.float32) for one in exponents])[..., None, None] / POSITIONS_PER_OCTAVE


def _values(symbols: Floats, grid: Floats) -> Floats:
    """Where symbols lie on a fine grid, in steps, the shape of ``symbols``."""
    if not len(grid):
        return symbols
    member = np.abs(2 * symbols)
    last = len(grid) - 1
    inside = grid[np.minimum(member, last).astype(np.int64)]
    return np.sign(symbols) * (inside + np.maximum(member - last, 0) / 2)


def _stack(arrays: list[Floats]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
