"""Crops against a second way of cutting them: numpy's slices, flips and padding."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.learn.data import Crops, Cut  # noqa: E402

from ..tiny import photograph  # noqa: E402

PICTURES = [photograph(90, 120, 1), photograph(40, 70, 2), photograph(64, 10, 3)]


def cut(pixels, one: Cut, side: int):
    short = [max(0, side - length) for length in pixels.shape[:2]]
    pixels = np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
    patch = pixels[one.top : one.top + side, one.left : one.left + side]
    patch = patch[:, ::-1] if one.mirrored else patch
    patch = patch.transpose(1, 0, 2) if one.transposed else patch
    return patch.transpose(2, 0, 1)


def test_crops_are_slices_of_pictures_flipped_and_mirrored():
    crops = Crops(PICTURES, 1)
    cuts = crops.cuts(0, 60, 64)
    gathered = crops.gather(cuts, 64)
    assert gathered.dtype == torch.uint8
    for one, found in zip(cuts, gathered, strict=True):
        np.testing.assert_array_equal(found.numpy(), cut(PICTURES[one.picture], one, 64))
    assert {one.picture for one in cuts} == {0, 1, 2}
    assert {(one.mirrored, one.transposed) for one in cuts} == {(a, b) for a in (0, 1) for b in (0, 1)}


def test_crops_are_those_of_earlier_versions():
    """So that the tables of an export, which training crops decide, stay the same."""
    found = [tuple(map(int, one)) for one in Crops(PICTURES, 1).cuts(7, 4, 64)]
    assert found == [(0, 14, 49, 1, 1, 1), (1, 0, 3, 0, 1, 1), (1, 0, 1, 0, 0, 1), (0, 20, 28, 0, 1, 1)]


def test_a_share_of_crops_has_stronger_colours():
    """Against Pillow, whose saturation works on the same grey, rounded."""
    crops = Crops(PICTURES, 1, saturated=0.5)
    cuts = crops.cuts(0, 60, 64)
    changed = [one.saturation != 1 for one in cuts]
    assert 15 < sum(changed) < 45
    assert all(1 <= one.saturation <= 2.5 for one in cuts)
    for one, found in zip(cuts, crops.gather(cuts, 64), strict=True):
        plain = Image.fromarray(cut(PICTURES[one.picture], one, 64).transpose(1, 2, 0))
        expected = np.asarray(ImageEnhance.Color(plain).enhance(one.saturation)).transpose(2, 0, 1)
        assert np.abs(found.numpy().astype(int) - expected).max() <= 2
