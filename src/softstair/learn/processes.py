"""The processes of a run: one alone, or several that torchrun started together.

Every process holds the whole network and computes a share of a step's crops. Gradients are summed
over all of them, so each takes the same step, and the batch of a step is the recipe's however many
there are. The first one writes and speaks; the others follow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = timedelta(hours=1)  # the longest that one process may be ahead of another


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    device: where this process computes. rank: its number, from 0. count: how many there are.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of ``count`` things fall to this process: every ``self.count``-th."""
        return range(self.rank, count, self.count)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums over all processes, the same bits everywhere."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of the first process."""
        if self.count == 1:
            return
        for tensor in tensors:
            held = tensor.contiguous()
            dist.broadcast(held, 0)
            tensor.copy_(held)

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes something: clocks differ, what is done about them must not."""
        wishes = torch.tensor([float(wish)], device=self.device)
        self.add([wishes])
        return wishes.item() > 0

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.agree(False)


@contextmanager
def join(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    With ``cuda`` every process of a machine takes a device of its own, in their order.
    """
    if not dist.is_torchelastic_launched():
        yield Processes(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(device, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
