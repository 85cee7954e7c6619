"""Where the latents lie in a codec's weights."""

from __future__ import annotations

import torch
from torch import Tensor

_FIRST = (  # layers with an output channel a latent
    "mean_network.head.layer",
    "scale_network.log_scale_head",
    "scale_network.correction_head",
    "scale_network.neighbours",
)
_SECOND = ("scale_network.gather", "scale_network.log_scale_entry", "mean_network.known")  # with an input
BY_FIRST = tuple(f"{layer}.{part}" for layer in _FIRST for part in ("weight", "bias"))
BY_SECOND = (*(f"{layer}.weight" for layer in _SECOND), "deviation", "gains.offset")
TWICE_BY_SECOND = "hyper_analysis.entry.weight"  # latents, then their magnitudes


def take(weights: dict[str, Tensor], kept: Tensor) -> None:
    """Leave some latents in what prices them; ``kept``: their indices."""
    for name in BY_FIRST:
        weights[name] = weights[name][kept]
    for name in BY_SECOND:
        weights[name] = weights[name][:, kept]
    entry = weights[TWICE_BY_SECOND]
    weights[TWICE_BY_SECOND] = entry[:, torch.cat([kept, kept + entry.shape[1] // 2])]


def put(weights: dict[str, Tensor], name: str, value: Tensor, kept: Tensor, latents: int) -> bool:
    """Set a weight of ``latents`` latents to one of fewer, zero for those not in ``kept``; False if none."""
    place: dict[str, Tensor] = {TWICE_BY_SECOND: torch.cat([kept, kept + latents])}
    if name in BY_FIRST:
        weights[name].zero_()[kept] = value
    elif name in BY_SECOND or name in place:
        weights[name].zero_()[:, place.get(name, kept)] = value
    else:
        return False
    return True
