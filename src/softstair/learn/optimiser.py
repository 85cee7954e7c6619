"""Orthogonalised momentum (Muon) for dense convolutions, AdamW for everything else.

Muon: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the
update is scaled to AdamW's size as in J. Liu et al., "Muon is scalable for LLM training",
arXiv 2502.16982, section 2.2. The gradient is ``torch.optim``'s; Muon there takes matrices only.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5
_MOMENTUM = 0.95
_ADAM_BETAS = (0.9, 0.98)
_FAST = ("gains.", "z_density.")  # few parameters with a long way to go
_FAST_FACTOR = 3.0
# All that the synthesis makes passes through these few: at the full rate they shake it.
_SLOW = ("synthesis.middle_overlap.", "synthesis.stem_overlap.")
_SLOW_FACTOR = 0.05


def orthogonalise(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly, by a quintic Newton-Schulz iteration in ``dtype``."""
    a, b, c = _NEWTON_SCHULZ
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Optimiser:
    """One step over all parameters of a codec, with learning rates scaled by a schedule.

    dtype: what Newton-Schulz iterations are computed in; bfloat16 is enough where it is faster.
    """

    def __init__(
        self, model: nn.Module, muon_rate: float, adam_rate: float, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self._muon_rate, self._dtype = muon_rate, dtype
        self._muon: dict[str, Tensor] = {}
        groups: dict[float, list[Tensor]] = {1.0: [], _FAST_FACTOR: [], _SLOW_FACTOR: []}
        for name, parameter in model.named_parameters():
            if parameter.ndim == 4 and parameter.shape[1] > 1:
                self._muon[name] = parameter
            else:
                groups[_factor(name)].append(parameter)
        self._momentum = {name: torch.zeros_like(p) for name, p in self._muon.items()}
        used = {factor: parameters for factor, parameters in groups.items() if parameters}
        self._rates = [factor * adam_rate for factor in used]
        self._adam = torch.optim.AdamW(
            [{"params": parameters} for parameters in used.values()],
            betas=_ADAM_BETAS,
            weight_decay=0.0,
            foreach=True,
        )

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Update with every learning rate multiplied by ``factor``."""
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._adam.step()
        for name, parameter in self._muon.items():
            momentum, gradient = self._momentum[name], parameter.grad
            if gradient is None:
                continue
            momentum.lerp_(gradient, 1 - _MOMENTUM)
            update = orthogonalise(gradient.lerp(momentum, _MOMENTUM).flatten(1), self._dtype)
            size = 0.2 * math.sqrt(max(update.shape))
            parameter.add_(update.view_as(parameter), alpha=-self._muon_rate * factor * size)

    def state(self) -> dict[str, Any]:
        return {"adam": self._adam.state_dict(), "momentum": self._momentum}

    def load_state(self, state: dict[str, Any]) -> None:
        self._adam.load_state_dict(state["adam"])
        for name, momentum in self._momentum.items():
            momentum.copy_(state["momentum"][name])


def _factor(name: str) -> float:
    """What AdamW's rate is multiplied by for a parameter."""
    if name.startswith(_FAST):
        return _FAST_FACTOR
    return _SLOW_FACTOR if name.startswith(_SLOW) else 1.0
