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

from .recorded import Recorded

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5
_MOMENTUM = 0.95
_ADAM_BETAS = (0.9, 0.98)
_FAST = ("gains.", "z_density.")  # few parameters with a long way to go
_FAST_FACTOR = 3.0
# All that the synthesis makes passes through these few: at the full rate they shake it.
_SLOW = ("synthesis.middle_overlap.", "synthesis.stem_overlap.")
_SLOW_FACTOR = 0.05


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly, by a quintic Newton-Schulz iteration in ``dtype``.

    matrices: (B, rows, columns).
    """
    a, b, c = _NEWTON_SCHULZ
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


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
        self._alike = _of_one_size(list(self._muon.values()))
        self._move = Recorded(self._move_muon)
        used = {factor: parameters for factor, parameters in groups.items() if parameters}
        self._rates = [factor * adam_rate for factor in used]
        self._adam = torch.optim.AdamW(
            [{"params": parameters} for parameters in used.values()],
            betas=_ADAM_BETAS,
            weight_decay=0.0,
            fused=True,
        )

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Update with every learning rate multiplied by ``factor``."""
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._adam.step()
        if self._muon:
            device = next(iter(self._muon.values())).device
            self._move(torch.full((), self._muon_rate * factor, device=device))

    def _move_muon(self, rate: Tensor) -> Tensor:
        parameters, momenta = list(self._muon.values()), list(self._momentum.values())
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, _MOMENTUM)
        for group in self._alike:
            updates = orthogonalise(torch.stack([ahead[index].flatten(1) for index in group]), self._dtype)
            updates *= rate * (0.2 * math.sqrt(max(updates.shape[1:])))
            for index, update in zip(group, updates, strict=True):
                parameters[index] -= update.view_as(parameters[index])
        return rate

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


def _of_one_size(parameters: list[Tensor]) -> list[list[int]]:
    """Indices of the parameters whose matrices have one size: they are orthogonalised together."""
    groups: dict[torch.Size, list[int]] = {}
    for index, parameter in enumerate(parameters):
        groups.setdefault(parameter.flatten(1).shape, []).append(index)
    return list(groups.values())
