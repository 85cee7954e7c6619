"""Files that end early or are damaged, through the C library: what the Python package shows of them."""

from __future__ import annotations

import numpy as np
import pytest

import softstair
from softstair.codec import View, decode_view
from softstair.errors import StreamError

from ..c_library import LIBRARY, TRUNCATED, Failure, golden_stream
from ..tiny import photograph
from .test_exact_in_c import drawn, exact_stream
from .test_tiles import damaged

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="needs the C library (make core-tests)")


@pytest.fixture(scope="module")
def mixed(tiny_bundle):
    """A screen with a photograph in it: tiles that are exact, learned and both."""
    pixels = np.tile(drawn("text", 1, 320, 1100), (1, 2, 1))
    pixels[64:256, 64:320] = photograph(192, 256)
    return softstair.encode(pixels, quality=60, effort=1, bundle=tiny_bundle, threads=1)


def same(library, bundle, data: bytes, tiny_bundle, view: View, **options: object) -> str | None:
    """The picture and sentence of both, or an error of both; the sentence."""
    try:
        expected = decode_view(data, view, tiny_bundle, threads=1)
    except StreamError:
        with pytest.raises(Failure):
            library.decode_partial(bundle, data, **options)
        return "nothing"
    pixels, damage = library.decode_partial(bundle, data, **options)
    assert damage == (expected.damage and f"The picture is not complete: {expected.damage}.")
    assert pixels.shape == expected.picture.array.shape
    assert np.abs(pixels.astype(int) - expected.picture.array).max() <= 1
    return damage


@pytest.mark.parametrize("name", ["plain", "four-lanes", "grey", "alpha", "tiled"])
def test_every_so_many_bytes(name, library, tiny, tiny_bundle):
    data = golden_stream(name)
    lengths = [*range(0, len(data), max(7, len(data) // 25)), len(data) - 4, len(data) - 1]
    found = [same(library, tiny, data[:length], tiny_bundle, View(allow_partial=True)) for length in lengths]
    assert found[0] == "nothing"
    assert any(text not in ("nothing", None) for text in found)
    assert same(library, tiny, data, tiny_bundle, View(allow_partial=True)) is None


def test_without_being_allowed_it_is_an_error(library, tiny):
    with pytest.raises(Failure) as caught:
        library.decode(tiny, golden_stream("tiled")[:-100])
    assert caught.value.code == TRUNCATED


@pytest.mark.parametrize(("name", "top"), [("plain", 9), ("tiled", 240)])
def test_a_region_and_a_scale_of_a_file_that_ends_early(name, top, library, tiny, tiny_bundle):
    data = golden_stream(name)
    view = View((5, top, 70, 50), 4, allow_partial=True)
    cut = data[: len(data) // 2]
    assert same(library, tiny, cut, tiny_bundle, view, left=5, top=top, width=70, height=50, divisor=4)


def test_progressive_order(library, tiny, tiny_bundle):
    pixels = photograph(48, 4200)
    data = softstair.encode(pixels, 60, effort=2, bundle=tiny_bundle, progressive=True)
    lengths = range(50, len(data), len(data) // 9)
    found = [same(library, tiny, data[:length], tiny_bundle, View(allow_partial=True)) for length in lengths]
    assert any(text not in ("nothing", None) for text in found)


@pytest.mark.parametrize("tiles", [(2,), (0, 5), tuple(range(6))])
def test_damaged_tiles(tiles, library, tiny, tiny_bundle):
    data = damaged(golden_stream("tiled"), *tiles)
    assert same(library, tiny, data, tiny_bundle, View(allow_partial=True))


def test_exact_tiles(library, tiny, tiny_bundle, mixed):
    lengths = range(len(mixed) // 9, len(mixed), len(mixed) // 9)
    found = [same(library, tiny, mixed[:length], tiny_bundle, View(allow_partial=True)) for length in lengths]
    assert any(text not in ("nothing", None) for text in found)
    alone = exact_stream(drawn("text", 3, 300, 600), layout=1)
    for length in range(len(alone) // 9, len(alone), len(alone) // 9):
        same(library, None, alone[:length], None, View(allow_partial=True))
    assert same(library, None, damaged(alone, 1), None, View(allow_partial=True))
