"""Pages: ink in few colours on learned paper, where that costs less."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest

import softstair
from softstair.codec.flatness import look_at_cells
from softstair.codec.ink import find_ink

from ..tiny import photograph, typescript

_FIND = "softstair.codec.encoder.find_ink"


@pytest.mark.parametrize("is_grey", [False, True])
def test_a_page_is_smaller_and_better_than_all_learned(bundle, is_grey):
    pixels = typescript(256, 320)
    pixels = pixels[..., 1] if is_grey else pixels
    assert look_at_cells(pixels) is None
    data = softstair.encode(pixels, quality=75, bundle=bundle)
    with patch(_FIND, lambda pixels: None):
        learned = softstair.encode(pixels, quality=75, bundle=bundle)
    assert softstair.info(data).reduced_tiles == 1
    assert softstair.info(learned).exact_tiles == softstair.info(learned).reduced_tiles == 0
    assert len(data) < 0.9 * len(learned)
    errors = [
        np.square(softstair.decode(one, bundle=bundle).astype(float) - pixels).mean()
        for one in (data, learned)
    ]
    assert errors[0] < errors[1]


def test_ink_is_what_is_darker_than_the_paper_around_it():
    pixels = typescript(200, 260)
    ink = find_ink(pixels)
    assert ink is not None
    levels = pixels[..., 1].astype(int)
    assert ink[levels < 150].all()
    assert not ink[levels > 195].any()


def test_ink_is_the_same_however_high_the_page_is():
    """Pages are looked at in stripes."""
    tall = typescript(2300, 80)
    ink, part = find_ink(tall), find_ink(tall[512:1536])
    assert ink is not None
    assert part is not None
    np.testing.assert_array_equal(ink[560:1488], part[48:976])


def test_neither_a_photograph_nor_an_empty_page_has_ink(photo):
    for pixels in (photo, photograph(200, 200), typescript(40, 40), np.full((1, 1, 3), 9, np.uint8)):
        assert find_ink(pixels) is None


def test_targets_of_a_page_are_met(bundle):
    pixels = typescript(200, 260)
    data = softstair.encode(pixels, target_size=6000, bundle=bundle)
    assert len(data) <= 6000
    fine = softstair.encode(pixels, target_psnr=39, bundle=bundle)
    error = np.square(softstair.decode(fine, bundle=bundle).astype(float) - pixels).mean()
    assert 0 < error <= 255**2 / 10**3.9
    with_layers = softstair.encode(pixels, quality=75, layers=2, bundle=bundle)
    assert softstair.info(with_layers).exact_tiles == 0
