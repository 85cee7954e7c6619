"""How two cores share a run: what is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from experiments.compare.run import CPU
from torch import Tensor, nn

from softstair.learn.optimiser import Optimiser
from softstair.learn.processes import Processes


class Apart(Processes):
    """Of processes that do not speak in a step: what one finds on its own share stands for all."""

    def add(self, tensors: Sequence[Tensor]) -> None:
        torch._foreach_mul_(list(tensors), float(self.count))


class Part:
    """Some parameters of a module, by name: what an optimiser is made of."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.parameters.items()


def matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that Newton-Schulz iterations are for: weights of dense convolutions."""
    return {name: p for name, p in model.named_parameters() if p.ndim == 4 and p.shape[1] > 1}


def others(model: nn.Module) -> dict[str, nn.Parameter]:
    dense = matrices(model)
    return {name: p for name, p in model.named_parameters() if name not in dense}


class EveryOther(Optimiser):
    """Muon moves every other step, with the mean of two gradients, twice as far."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float, dtype: torch.dtype) -> None:
        self.dense = list(matrices(model).values())
        nothing = nn.Parameter(torch.zeros(1))  # AdamW wants something
        self.muon = Optimiser(Part({**matrices(model), "nothing": nothing}), 2 * muon_rate, 0.0, dtype)
        self.adam = Optimiser(Part(others(model)), muon_rate, adam_rate, dtype)
        self.first: list[Tensor] = []

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.adam.step(factor)
        gradients = [p.grad for p in self.dense if p.grad is not None]
        if not self.first:
            self.first = [gradient.clone() for gradient in gradients]
            return
        torch._foreach_add_(gradients, self.first)
        torch._foreach_mul_(gradients, 0.5)
        self.first = []
        self.muon.step(factor)

    def state(self) -> dict[str, Any]:
        return {"muon": self.muon.state(), "adam": self.adam.state(), "first": self.first}

    def load_state(self, state: dict[str, Any]) -> None:
        self.muon.load_state(state["muon"])
        self.adam.load_state(state["adam"])
        self.first = state["first"]


class SharedOut(Optimiser):
    """Each of the processes moves a share of the matrices, of about as many weights, and all tell all."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float, dtype: torch.dtype) -> None:
        self.processes = Processes(CPU, dist.get_rank(), dist.get_world_size())
        self.dense = list(matrices(model).values())
        shares: list[dict[str, nn.Parameter]] = [{} for _ in range(self.processes.count)]
        for name, parameter in sorted(matrices(model).items(), key=lambda item: -item[1].numel()):
            least = min(shares, key=lambda share: sum(p.numel() * p.shape[0] for p in share.values()))
            least[name] = parameter
        own = shares[self.processes.rank]
        self.foreign = [p for name, p in matrices(model).items() if name not in own]
        self.own = Optimiser(Part({**own, **others(model)}), muon_rate, adam_rate, dtype)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.own.step(factor)
        torch._foreach_zero_(self.foreign)
        self.processes.add(self.dense)

    def state(self) -> dict[str, Any]:
        return self.own.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.own.load_state(state)


@dataclass(frozen=True)
class Arm:
    """How two cores share a run.

    every: steps between two averages of weights; without it gradients are summed in every step. after: share
    of the steps whose gradients are summed before that. optimiser: what a process moves weights with. alone:
    what does the same in one process.
    """

    processes: int = 1
    every: int | None = None
    after: float = 0.0
    optimiser: Callable[..., Optimiser] = Optimiser
    alone: Callable[..., Optimiser] = Optimiser


FIRST, SUMMED = "one process, two threads", "two processes, gradients summed"
AVERAGED = "two processes, weights averaged every 8 steps"
ARMS = {
    FIRST: Arm(),
    SUMMED: Arm(2),
    "two processes, gradients summed, Newton-Schulz shared out": Arm(2, optimiser=SharedOut),
    AVERAGED: Arm(2, 8),
    "two processes, weights averaged every 8 steps of the second half": Arm(2, 8, after=0.5),
    "one process, two threads, Newton-Schulz every other step": Arm(optimiser=EveryOther, alone=EveryOther),
}
