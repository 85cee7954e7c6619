"""How the learning rate runs: it warms up, stays for as long as one likes, and falls to zero."""

from __future__ import annotations

import math

import msgspec

from .recipe import Pretrain, Recipe


def rate_factor(settings: Pretrain, step: int) -> float:
    """What the learning rates are multiplied by at a step, in [0, 1]."""
    warm = min(1.0, (step + 1) / settings.warm_up)
    if settings.steps is None or settings.decay_from is None or step < settings.decay_from:
        return warm
    progress = (step - settings.decay_from) / (settings.steps - settings.decay_from)
    return warm * falling(min(progress, 1.0))


def falling(progress: float) -> float:
    """From 1 to 0 along a cosine, by the share of steps that were taken."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def with_decay(recipe: Recipe, start: int, end: int) -> Recipe:
    """The recipe of a run that ends: rates fall from step ``start`` on and are zero at ``end``.

    The scale network is on its integer grids from half-way on, as it will be in a bundle.
    """
    settings = recipe.pretrain
    half = (start + end) // 2
    fixed = half if settings.fixed_from is None else min(settings.fixed_from, half)
    ending = msgspec.structs.replace(settings, steps=end, decay_from=start, fixed_from=fixed)
    return msgspec.structs.replace(recipe, pretrain=ending)
