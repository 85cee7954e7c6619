"""A torch codec behind the product's interface: what measures and fine-tunes runs the product's path."""

from __future__ import annotations

import torch
from torch import Tensor

from softstair.engine import MeanInTurn, Planes
from softstair.engine.in_turn import WholeMean
from softstair.quantize.grids import STRIDE
from softstair.tiles import Box

from .codec import Codec


class TorchNetworks:
    """``engine.Networks`` of a codec on the CPU, which may go on changing."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    @torch.no_grad()
    def analysis(self, picture: Planes) -> Planes:
        return _planes(self._codec.analysis(torch.from_numpy(picture)))

    @torch.no_grad()
    def hyper_analysis(self, latents: Planes, gain: Planes, hat: Planes) -> Planes:
        codec, y = self._codec, torch.from_numpy(latents)
        return _planes(
            codec.hyper_analysis(y, codec.deviation, torch.from_numpy(gain), torch.from_numpy(hat))
        )

    @torch.no_grad()
    def mean_base(self, z_hat: Planes, hat: Planes) -> Planes:
        return _planes(self._codec.mean_network.base(torch.from_numpy(z_hat), torch.from_numpy(hat)))

    @torch.no_grad()
    def mean(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        given = torch.from_numpy(known), torch.from_numpy(base), self._codec.deviation
        return _planes(self._codec.mean_network(*given, torch.from_numpy(phase)))

    def mean_in_turn(self, base: Planes, channels: int) -> MeanInTurn:
        return WholeMean(self.mean, base, channels)

    @torch.no_grad()
    def synthesis(self, latents: Planes, hat: Planes, shown: Box | None = None) -> Planes:
        pixels = self._codec.synthesis(torch.from_numpy(latents), torch.from_numpy(hat))
        return _planes(pixels if shown is None else pixels[:, :, *shown.times(STRIDE).slices])


def _planes(tensor: Tensor) -> Planes:
    planes: Planes = tensor.contiguous().numpy()
    return planes
