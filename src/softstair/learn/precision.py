"""What training computes convolutions and matrix products in: float32, or bfloat16 where that is faster.

Processors differ: without bfloat16 units float32 is nearly twice as fast, with them half as fast. What
needs float32's bits stays in float32 either way (``layers.blocks.Float32``).
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Literal

import torch

from .codec import Codec
from .noise import draw_noise
from .processes import Processes
from .recipe import Recipe
from .shape import Shape

Precision = Literal["float32", "bfloat16"]
_CHOICES: tuple[Precision, ...] = ("float32", "bfloat16")
_CROPS, _SIDE, _ROUNDS = 4, 128, 5


@dataclass(frozen=True)
class Choice:
    """What a run computes in. seconds: of a small pass by precision, where it was measured."""

    precision: Precision
    seconds: dict[str, float] | None = None

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def autocast(self, device: torch.device, *, cache_enabled: bool = True) -> torch.autocast:
        """The context of a forward pass."""
        enabled = self.precision == "bfloat16"
        return torch.autocast(
            device.type, torch.bfloat16, enabled=enabled, cache_enabled=enabled and cache_enabled
        )


def choose_precision(recipe: Recipe, processes: Processes) -> Choice:
    """What the recipe says, or, for ``auto``, what takes less time here; all processes choose alike.

    GPUs all have units for bfloat16, and a small pass there measures how fast kernels start.
    """
    if recipe.precision != "auto":
        return Choice(recipe.precision)
    if processes.device.type == "cuda":
        return Choice("bfloat16")
    seconds = _measure(recipe.shape, processes.device)
    slower = processes.agree(processes.leads and seconds["float32"] > seconds["bfloat16"])
    return Choice("bfloat16" if slower else "float32", seconds)


def faster_precision(shape: Shape) -> Precision:
    """What takes a CPU less time with a codec of a shape."""
    seconds = _measure(shape, torch.device("cpu"))
    return min(_CHOICES, key=lambda precision: seconds[precision])


def _measure(shape: Shape, device: torch.device) -> dict[str, float]:
    """Median seconds of a small pass forward and back; the two take turns."""
    codec = Codec(shape).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    picture = torch.full((_CROPS, 3, _SIDE, _SIDE), 0.5, device=device)
    picture = picture.contiguous(memory_format=torch.channels_last)
    position = torch.zeros(_CROPS, dtype=torch.int64, device=device)
    noise = draw_noise(shape, 0, 0, _CROPS, range(_CROPS), _SIDE, device)
    taken: dict[str, list[float]] = {precision: [] for precision in _CHOICES}
    for _ in range(_ROUNDS):
        for precision in _CHOICES:
            start = time.perf_counter()
            with Choice(precision).autocast(device):
                passage = codec(picture, position, noise)
            (passage.picture.mean() + passage.y_bits.mean()).backward()
            taken[precision].append(time.perf_counter() - start)
    return {precision: statistics.median(rounds[1:]) for precision, rounds in taken.items()}
