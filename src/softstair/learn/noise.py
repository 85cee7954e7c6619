"""What a training step draws at random for a crop: its rate position and its noise.

All of it depends on the seed, the step and the crop's index in the whole batch alone. A resumed run
repeats it, and it is the same however a batch is divided among processes and passes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from softstair.quantize.grids import STRIDE

from .networks import HYPER_STRIDE
from .shape import Shape


class Noise(NamedTuple):
    """Uniform in [-0.5, 0.5), a step wide. y: (B, C, h, w). z: (B, Z, h / 2, w / 2)."""

    y: Tensor
    z: Tensor


def draw_spread(seed: int, step: int, count: int) -> Tensor:
    """A number in [0, 1) for every crop of a batch, float64 (count,), evenly spread over it."""
    start = np.random.default_rng(_stream(seed, step, count)).random()
    return torch.from_numpy((start + np.arange(count) / count) % 1.0)


def draw_noise(
    shape: Shape, seed: int, step: int, count: int, crops: range, side: int, device: torch.device
) -> Noise:
    """Noise of some crops of a batch, made on the device.

    Args:
        count: crops of the whole batch, whose noise is drawn.
        crops: their indices in the whole batch.
        side: of a crop, a multiple of 32.
    """
    fine, coarse = side // STRIDE, side // HYPER_STRIDE
    # torch's generator of the CPU looks at 32 bits of a seed; these are well mixed.
    generator = torch.Generator(device)
    generator.manual_seed(int(_stream(seed, step, 0).generate_state(1)[0]))
    y = torch.empty(count, shape.latents, fine, fine, device=device).uniform_(-0.5, 0.5, generator=generator)
    z = torch.empty(count, shape.hyper_latents, coarse, coarse, device=device)
    z.uniform_(-0.5, 0.5, generator=generator)
    mine = slice(crops.start, crops.stop, crops.step)
    return Noise(y[mine], z[mine])


def _stream(seed: int, step: int, index: int) -> np.random.SeedSequence:
    # As a key, not as entropy: those of [seed, step, 0] and of [seed, step], the crops', are the same.
    return np.random.SeedSequence([seed, step], spawn_key=(index,))
