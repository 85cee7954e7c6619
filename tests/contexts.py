"""Context networks with random weights, for bundles that are too small to train some for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from softstair.bundle import CONTEXT, Bundle
from softstair.quantize.context import (
    AROUND,
    BLOCK,
    HYPER_ROWS,
    MEAN_PARTS,
    MEAN_PLACES,
    NEAR,
    OWN,
    Context,
    HyperContext,
    PlaceContext,
    SignContext,
    to_tensors,
)
from softstair.quantize.setting import Integers
from softstair.quantize.tables import gaussian, integer_cdf, join

ROWS = 78


def random_place(group: int, seed: int = 0) -> PlaceContext:
    """Weights that change most rows by a few."""
    rng = np.random.default_rng(seed)
    block = np.arange(group) % (group // BLOCK)
    weight = rng.integers(-3000, 3000, (4, group, group)) * (block[:, None] > block[None, :])
    return PlaceContext(
        weight.astype(np.int16),
        rng.integers(-3000, 3000, (4, 4, len(NEAR) + len(MEAN_PLACES), group)).astype(np.int16),
        rng.integers(0, 200, ROWS).astype(np.int16),
        rng.integers(100, 400, ROWS).astype(np.int16),
        rng.integers(-300, 300, ROWS).astype(np.int16),
    )


def random_signs(group: int, seed: int = 0) -> SignContext:
    """Weights by which signs of most rows lean to one side or the other."""
    rng = np.random.default_rng(seed)
    block = np.arange(group) // BLOCK
    weight = rng.integers(-3000, 3000, (4, group, group)) * (block[:, None] < block[None, :])
    return SignContext(
        weight.astype(np.int16),
        rng.integers(-3000, 3000, (4, 4, len(NEAR), group)).astype(np.int16),
        rng.integers(100, 400, ROWS).astype(np.int16),
        rng.integers(0, 20000, ROWS).astype(np.int16),
        rng.integers(0, 300, ROWS).astype(np.int16),
        np.array([60, 130, 200, 255], np.int16),
    )


def random_hyper(channels: int, points: int, hidden: int = 16, seed: int = 0) -> HyperContext:
    """Weights that spread means and scales over many rows, for two channels of three."""
    rng = np.random.default_rng(seed)
    live = np.array([c for c in range(channels) if c % 3 != 1], np.int32)
    n = len(live)

    def small(*shape: int) -> npt.NDArray[np.int16]:
        return rng.integers(-200, 200, shape).astype(np.int16)

    return HyperContext(
        live,
        small(hidden, len(AROUND), n),
        small(hidden, n),
        small(n, 2, hidden),
        small(n, 2, len(OWN)),
        rng.integers(-40000, 40000, (points, hidden + 2 * n)).astype(np.int32),
        join([_two_sided(row // MEAN_PARTS) for row in range(HYPER_ROWS * MEAN_PARTS)]),
    )


def _two_sided(scale: int) -> npt.NDArray[np.uint16]:
    sigma = 2 ** ((scale - 6) / 4)
    return integer_cdf(gaussian(sigma, int(np.ceil(4 * sigma))))


def with_context(
    integers: Integers, *, place: bool = True, hyper: bool = True, signs: bool = False, seed: int = 0
) -> Integers:
    """The same codec with random context networks."""
    context = Context(
        random_place(integers.channels // 4, seed) if place else None,
        random_hyper(integers.hyper_channels, integers.points, seed=seed) if hyper else None,
        random_signs(integers.channels // 4, seed) if signs else None,
    )
    return replace(integers, context=context)


def context_entry(integers: Integers) -> bytes:
    """The entry of a bundle that holds the context of integers."""
    return save(to_tensors(integers.context))


def bundle_with_context(bundle: Bundle, *, place: bool = True, hyper: bool = True) -> Bundle:
    """The same bundle with random context networks."""
    integers = with_context(bundle.integers, place=place, hyper=hyper)
    return Bundle({**bundle.entries, CONTEXT: context_entry(integers)}, "with context")
