"""Errors across the lines between the cells of 16 pixels, where they show: in smooth regions.

The places are those of the judge grid (``softstair.evaluate.grid``): a line's place counts if the
original's luma changes by at most four grey levels a pixel there and over seven pixels on either side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from softstair.quantize.grids import STRIDE

from ..constants import constant

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_REACH = 7
_LARGEST = 4.0 / 255


def steps_across(decoded: Tensor, picture: Tensor) -> Tensor:
    """Squared error of the steps of luma across lines, in smooth regions, over all places of lines, (B,).

    Args:
        decoded, picture: (B, 3, H, W) in [0, 1], cut where a cell begins.
    """
    weights = constant(_LUMA, picture.device)[:, None, None]
    original, error = ((x * weights).sum(1, keepdim=True) for x in (picture, decoded - picture))
    upright = _across(original, error)
    level = _across(original.transpose(2, 3), error.transpose(2, 3))
    return torch.cat([upright, level], 1).mean(1)


def _across(original: Tensor, error: Tensor) -> Tensor:
    """The same for upright lines, for every place of them, (B, places)."""
    largest = max_pool2d(original.diff(dim=3).abs(), (1, 2 * _REACH + 1), 1, (0, _REACH))
    smooth = (largest <= _LARGEST)[..., STRIDE - 1 :: STRIDE]
    steps = error.diff(dim=3)[..., STRIDE - 1 :: STRIDE]
    return (steps.square() * smooth).flatten(1)
