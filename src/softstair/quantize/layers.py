"""Layers: quantizers of the mode rdoq whose steps are halved, each splitting the cells of the one before.

Levels of a layer are those of the next one without their lowest bit, towards zero, so that around zero cells
are wider than elsewhere. docs/format/stream.md says how layers are read, and where in its cell a latent is
taken to lie; the core reads them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from softstair import _core

from .setting import Setting

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int16]

_IN_CELL, _IN_LAST_CELL = np.float32(_core.IN_CELL), np.float32(_core.IN_LAST_CELL)  # steps beyond a level
_FIRST = np.array([0, (1 + _IN_CELL) / 2, 1 + _IN_CELL], np.float32)  # members of the first layer's fine grid
_WEIGHT = 2.0  # times the mode's rate weight: what layers to come lose by a level is minded by itself


def in_layers(setting: Setting) -> Setting:
    """What a layer has of a setting of rdoq; levels that were learned for it are for one layer alone."""
    return replace(setting, grid=_FIRST, rate_weight=_WEIGHT * setting.rate_weight, thresholds=None)


def value_in_layer(levels: Levels, behind: int) -> Floats:
    """Where levels lie, in steps of their layer. behind: how many layers come after it."""
    beyond = _IN_CELL if behind else _IN_LAST_CELL
    values: Floats = levels + beyond * np.sign(levels).astype(np.float32)
    return values


def level_before(levels: Levels, layers: int) -> Levels:
    """The levels that so many layers before had."""
    before: Levels = np.sign(levels) * (np.abs(levels) >> layers)
    return before


def in_planes(values: Floats) -> Floats:
    """(height, width, C) as (C, height, width)."""
    return values.transpose(2, 0, 1)
