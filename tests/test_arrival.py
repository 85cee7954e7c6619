"""Files that arrive piece by piece."""

from __future__ import annotations

import numpy as np
import pytest

import softstair
from softstair.errors import CorruptStream, StreamError

from .conftest import GOLDEN

V1 = GOLDEN / "v1"


def shown(data: bytes, step: int, bundle) -> tuple[list[int], list[np.ndarray]]:
    """After how many bytes something was shown, and what."""
    reader, lengths, pictures = softstair.Reader(bundle=bundle, threads=1), [], []
    for start in range(0, len(data), step):
        if (pixels := reader.feed(data[start : start + step])) is not None:
            lengths.append(start + step)
            pictures.append(pixels)
    assert reader.complete
    return lengths, pictures


@pytest.mark.parametrize("name", ["plain", "four-lanes", "grey", "alpha", "tiled"])
def test_pictures_get_better_and_the_last_is_the_whole(name, tiny_bundle):
    data = (V1 / f"{name}.stair").read_bytes()
    whole = softstair.decode(data, bundle=tiny_bundle, threads=1)
    lengths, pictures = shown(data, 7, tiny_bundle)
    assert 4 <= len(pictures) <= 7
    assert lengths[0] < len(data) / 2
    assert {picture.shape for picture in pictures} == {whole.shape}
    errors = [np.square(picture.astype(int) - whole).mean() for picture in pictures]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0
    np.testing.assert_array_equal(pictures[-1], whole)


def test_all_at_once_is_decoded_once(tiny_bundle):
    data = (V1 / "tiled.stair").read_bytes()
    assert shown(data, len(data), tiny_bundle)[0] == [len(data)]


def test_damage_and_what_follows_the_end_are_told(tiny_bundle):
    data = (V1 / "tiled.stair").read_bytes()
    damaged = bytearray(data)
    damaged[200] ^= 1
    with pytest.raises(CorruptStream, match="tile 0"):
        shown(bytes(damaged), 50, tiny_bundle)
    with pytest.raises(CorruptStream, match="follow"):
        shown(data + b"x", len(data), tiny_bundle)
    with pytest.raises(StreamError, match="does not start"):
        softstair.Reader().feed(b"GIF89a")
    assert softstair.Reader().feed(b"") is None
