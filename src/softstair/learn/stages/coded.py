"""Crops as the decoders of a finished bundle see them, to train what comes after entropy decoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair.bundle import Bundle
from softstair.codec import networks_of
from softstair.codec.tile import TileCoder
from softstair.mode import Mode


@dataclass(frozen=True)
class CodedCrops:
    """latents: y^, float16 (N, C, h, w). position: (N,). pixels: of the originals, uint8 (N, 3, H, W)."""

    latents: Tensor
    position: Tensor
    pixels: Tensor

    @property
    def picture(self) -> Tensor:
        """The originals, (N, 3, H, W) in [0, 1]."""
        return self.pixels.float() / 255

    def part(self, chosen: Tensor) -> CodedCrops:
        return CodedCrops(self.latents[chosen], self.position[chosen], self.pixels[chosen])

    def __len__(self) -> int:
        return len(self.position)


def code_crops(
    bundle: Bundle, pixels: npt.NDArray[np.uint8], positions: npt.NDArray[np.int64], mode: Mode, threads: int
) -> CodedCrops:
    """Crops (N, 3, H, W), each at a rate position, in a mode of the bundle. Sides: multiples of 32."""
    coder = TileCoder(bundle, networks_of(bundle, threads, mode), mode)
    latents = [
        coder.decide(
            coder.begin(coder.analyse(np.ascontiguousarray(one.transpose(1, 2, 0))), int(at))
        ).latents
        for one, at in zip(pixels, positions, strict=True)
    ]
    halves = torch.from_numpy(np.concatenate(latents).astype(np.float16))
    return CodedCrops(halves, torch.from_numpy(positions), torch.from_numpy(pixels))
