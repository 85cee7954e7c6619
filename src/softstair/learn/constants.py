"""Numbers that training uses in every step, kept on the device that uses them."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor


@functools.lru_cache(maxsize=64)
def constant(numbers: Any, device: torch.device) -> Tensor:
    """Numbers, or tuples of them, as a float32 tensor on a device: made once, to be read only."""
    return torch.tensor(numbers, dtype=torch.float32, device=device)
