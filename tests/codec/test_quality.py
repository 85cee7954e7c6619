"""The scale of quality: the same look in bundles of any reach, and all of each bundle's range."""

from __future__ import annotations

import pytest

from softstair.codec import position_of_quality
from softstair.codec.quality import quality_of_position


@pytest.mark.parametrize(("quality", "position"), [(0, 0), (50, 80), (67, 107), (75, 120), (80, 128)])
@pytest.mark.parametrize("last", [160, 192])
def test_a_quality_is_the_same_position_in_every_bundle(quality, position, last):
    assert position_of_quality(quality, last) == position


@pytest.mark.parametrize("last", [16, 32, 160, 192, 255])
def test_the_scale_ends_where_the_bundle_does_and_never_falls(last):
    positions = [position_of_quality(quality, last) for quality in range(101)]
    assert (positions[0], positions[-1]) == (0, last)
    assert positions == sorted(positions)


@pytest.mark.parametrize("last", [32, 160, 192])
def test_every_position_has_a_quality(last):
    for position in range(last + 1):
        assert position_of_quality(quality_of_position(position, last), last) == position
