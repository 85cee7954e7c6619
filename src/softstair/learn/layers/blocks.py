"""Convolutional building blocks of the transforms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SLOPE = 0.1  # of every LeakyReLU


def convolution(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> nn.Conv2d:
    """Convolution of stride one that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, groups=groups)


class Float32(nn.Module):
    """Runs a layer in float32 under autocast: bfloat16 would lose the latents' low bits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            result: Tensor = self.layer(x.float())
        return result


class Residual(nn.Module):
    """x + conv3x3(LeakyReLU(conv3x3(x))), with an inner width of its own."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.first = convolution(channels, inner)
        self.second = convolution(inner, channels)
        self.activation = nn.LeakyReLU(SLOPE)
        nn.init.kaiming_normal_(self.first.weight, SLOPE)
        nn.init.zeros_(self.first.bias)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.second(self.activation(self.first(x)))
        return result


class Gated(nn.Module):
    """x + W (a * b): what two pairs of a 1x1 and a depthwise 3x3 convolution make of x, multiplied.

    It does what ``Residual`` does in fewer milliseconds of a CPU (docs/decisions/designs.md), without
    normalisation (L. Chen et al., "Simple Baselines for Image Restoration", ECCV 2022, has one).
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.a, self.b = (
            nn.Sequential(convolution(channels, inner, 1), convolution(inner, inner, 3, groups=inner))
            for _ in range(2)
        )
        self.project = convolution(inner, channels, 1)
        with torch.no_grad():  # products of random features are noise: begin almost as the identity
            self.project.weight.mul_(0.05)
            self.project.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.project(self.a(x) * self.b(x))
        return result


def downscale(inputs: int, outputs: int, factor: int = 2) -> nn.Sequential:
    """A part of the resolution: square patches become channels, then a 1x1 convolution."""
    return nn.Sequential(nn.PixelUnshuffle(factor), convolution(factor**2 * inputs, outputs, 1))


def upscale(inputs: int, outputs: int, factor: int = 2) -> nn.Sequential:
    """More resolution, the transpose of ``downscale``."""
    return nn.Sequential(convolution(inputs, factor**2 * outputs, 1), nn.PixelShuffle(factor))


def overlap(channels: int, kernel: int = 5) -> nn.Conv2d:
    """What a pixel holds, spread over its neighbours channel by channel; the identity to begin with."""
    layer = convolution(channels, channels, kernel, channels)
    nn.init.dirac_(layer.weight, channels)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
