"""Latents without pixels: pooled, and enough to find a picture again."""

from __future__ import annotations

import numpy as np
import pytest

import softstair
from softstair.codec import networks_of
from softstair.codec.tile import TileCoder
from softstair.errors import UsageError
from softstair.mode import Mode

from ..tiny import encode_tiled, photograph, screen


def test_they_are_what_the_synthesis_would_see(tiny_bundle):
    pixels = photograph(96, 160)
    data = softstair.encode(pixels, rate_position=80, mode="scalar", bundle=tiny_bundle)
    coder = TileCoder(tiny_bundle, networks_of(tiny_bundle, 1), Mode.SCALAR)
    y = coder.code(coder.analyse(pixels), 80).latents[0]
    found = softstair.latents(data, cells=2, bundle=tiny_bundle)
    assert found.fingerprint == tiny_bundle.fingerprint.hex()
    assert found.means.shape == (tiny_bundle.channels, 2, 2)
    quarter = y[:, 3:, :5]
    assert np.abs(found.means[:, 1, 0] - quarter.mean((1, 2))).max() < 1e-4
    assert np.abs(found.deviations[:, 1, 0] - quarter.std((1, 2))).max() < 1e-3


def test_tiles_make_no_difference_to_where_they_lie(tiny_bundle):
    pixels = np.concatenate([np.full((256, 256, 3), 40, np.uint8), photograph(256, 256)], axis=1)
    whole = softstair.encode(pixels, rate_position=80, mode="scalar", bundle=tiny_bundle)
    tiled = encode_tiled(pixels, tiny_bundle, 80, layout=1)
    first, second = (softstair.latents(one, cells=2, bundle=tiny_bundle).means for one in (whole, tiled))
    assert np.abs(first - second).max() < 0.2 * np.abs(first).max()


def test_a_picture_of_another_quality_is_found_among_others(tiny_bundle):
    pictures = [photograph(96, 128, seed) for seed in range(6)]

    def vectors(position: int) -> np.ndarray:
        files = [softstair.encode(one, rate_position=position, bundle=tiny_bundle) for one in pictures]
        means = np.stack([softstair.latents(one, cells=4, bundle=tiny_bundle).means.ravel() for one in files])
        means -= means.mean(0)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    assert (np.argmax(vectors(60) @ vectors(120).T, axis=1) == np.arange(6)).all()


def test_an_exact_picture_has_none(tiny_bundle):
    data = softstair.encode(screen(60, 80), lossless=True, bundle=tiny_bundle)
    with pytest.raises(UsageError, match="no latents"):
        softstair.latents(data)


def test_there_is_no_such_lattice(tiny_bundle):
    data = softstair.encode(photograph(32, 32), bundle=tiny_bundle)
    with pytest.raises(UsageError, match="1 to 16"):
        softstair.latents(data, cells=17, bundle=tiny_bundle)
