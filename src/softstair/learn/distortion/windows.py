"""Gaussian windows of 11 samples and a deviation of 1.5, as SSIM and SSIMULACRA 2 have them.

Windows are cut off at the border of a picture and renormalised, so that small crops keep all their
scales. A blur is a product with a banded matrix on either side: on a CPU faster than convolutions.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_DEVIATION, _RADIUS = 1.5, 5


def blur(planes: Tensor) -> Tensor:
    """Weighted means around every sample of planes (..., H, W)."""
    height, width = planes.shape[-2:]
    rows, columns = (_band(side, planes.device).to(planes.dtype) for side in (height, width))
    return rows @ (planes @ columns.T)


@functools.lru_cache(maxsize=64)
def _band(side: int, device: torch.device) -> Tensor:
    """(side, side): in row i the window around sample i."""
    at = torch.arange(side, dtype=torch.float64)
    distance = at[:, None] - at[None]
    window = torch.exp(-(distance**2) / (2 * _DEVIATION**2)) * (distance.abs() <= _RADIUS)
    return (window / window.sum(1, keepdim=True)).float().to(device)
