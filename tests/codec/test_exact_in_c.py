"""Exact tiles through the C library's own VP8L decoder, held to libwebp, which wrote them."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from softstair.exact import pack_samples
from softstair.stream import NO_BUNDLE, Colour, ExactPayload, Header, Mode, Stream, read_stream, write_stream

from .. import c_library
from ..c_library import BUILD, LIBRARY, Failure, Library
from ..format.test_golden import FOLDER, example
from ..tiny import photograph

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="needs the C library (make core-tests)")


def exact_stream(pixels: np.ndarray, *, layout: int = 0, **packing: int) -> bytes:
    """A stream of exact tiles alone: it needs no bundle."""
    colour = Colour.GREY if pixels.ndim == 2 else Colour.RGB
    header = Header(NO_BUNDLE, pixels.shape[1], pixels.shape[0], colour, Mode.SCALAR, 0, layout)
    boxes = [header.grid.box(index) for index in range(header.grid.count)]
    tiles = [ExactPayload(b"", pack_samples(pixels[box.slices], **packing)).pack() for box in boxes]
    return write_stream(Stream(header, tuple(tiles), exact=frozenset(range(len(tiles)))))


def drawn(kind: str, seed: int, height: int, width: int) -> np.ndarray:
    """Pictures that bring out different parts of the format."""
    random = np.random.default_rng(seed)
    if kind == "noise":
        return random.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "few colours":  # indexed; up to sixteen share a byte
        palette = random.integers(0, 256, (int(random.choice([1, 2, 3, 5, 16, 17, 200])), 3), np.uint8)
        return palette[random.integers(0, len(palette), (height, width))]
    if kind == "text":  # long runs, copies and a cache of colours
        glyphs = random.integers(0, 2, (4, 8, 8)).astype(np.uint8) * 255
        letters = glyphs[random.integers(0, 4, (height // 8 + 1, width // 8 + 1))]
        page = letters.swapaxes(1, 2).reshape(letters.shape[0] * 8, -1)[:height, :width]
        return np.dstack([page, 255 - page, page // 2 + random.integers(0, 30, dtype=np.uint8)])
    rows, columns = np.mgrid[:height, :width]
    planes = [rows * 2 + columns, rows + 3 * columns, (rows * columns) // 7]
    return np.dstack(planes).astype(np.uint8)


KINDS = ["noise", "few colours", "text", "gradient"]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**31),
    height=st.integers(1, 90),
    width=st.integers(1, 130),
    method=st.integers(0, 6),
    quality=st.sampled_from([0, 25, 90, 100]),
)
def test_exact_pictures_come_back_bit_for_bit(kind, seed, height, width, method, quality):
    pixels = drawn(kind, seed, height, width)
    decoded = Library.load().decode(None, exact_stream(pixels, method=method, quality=quality))
    assert np.array_equal(decoded, pixels)


@pytest.mark.parametrize("method", [0, 3, 4, 6])
def test_a_photograph_comes_back_bit_for_bit(method, library):
    pixels = example()
    assert np.array_equal(library.decode(None, exact_stream(pixels, method=method)), pixels)


def test_grey_and_tiles_and_regions(library):
    pixels = photograph(300, 530, 3)
    data = exact_stream(pixels, layout=1)
    assert library.info(data).exact_tiles == 6
    assert np.array_equal(library.decode(None, data), pixels)
    reduced = write_stream(replace(read_stream(data), is_reduced=True))
    assert library.info(reduced).exact_tiles == 0
    assert np.array_equal(library.decode(None, reduced), pixels)
    region = library.decode(None, data, left=200, top=250, width=100, height=49)
    assert np.array_equal(region, pixels[250:299, 200:300])
    assert np.array_equal(library.decode(None, exact_stream(pixels[..., 0])), pixels[..., 0])


def test_exact_alpha(library):
    alpha = drawn("text", 5, 300, 280)[..., 0]
    pixels = photograph(300, 280, 4)
    header = Header(NO_BUNDLE, 280, 300, Colour.RGB, Mode.SCALAR, 0, 1)
    boxes = [header.grid.box(index) for index in range(header.grid.count)]
    tiles = tuple(ExactPayload(b"", pack_samples(pixels[box.slices])).pack() for box in boxes)
    stream = Stream(header, tiles, alpha.tobytes(), exact=frozenset(range(len(tiles))))
    data = write_stream(stream)
    assert data[5] & 32, "this alpha is smaller as VP8L"
    decoded = library.decode(None, data)
    assert np.array_equal(decoded[..., :3], pixels)
    assert np.array_equal(decoded[..., 3], alpha)


def test_pixels_that_are_neither_exact_nor_learned_are_corrupt(library):
    pixels = np.dstack([photograph(40, 40), np.full((40, 40), 255, np.uint8)])
    for value in (0, 7):
        pixels[3, 4, 3] = value
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, exact=True)
        header = Header(NO_BUNDLE, 40, 40, Colour.RGB, Mode.SCALAR, 0)
        webp = buffer.getvalue()
        chunk = webp.index(b"VP8L")
        length = int.from_bytes(webp[chunk + 4 : chunk + 8], "little")
        image = webp[chunk + 8 : chunk + 8 + length]
        data = write_stream(Stream(header, (ExactPayload(b"", image).pack(),), exact=frozenset([0])))
        with pytest.raises(Failure) as caught:
            library.decode(None, data)
        assert caught.value.code == c_library.CORRUPT


def test_another_size_than_the_tiles_is_corrupt(library):
    header = Header(NO_BUNDLE, 41, 40, Colour.RGB, Mode.SCALAR, 0)
    payload = ExactPayload(b"", pack_samples(photograph(40, 40))).pack()
    with pytest.raises(Failure, match="40x40 pixels where 41x40 were expected") as caught:
        library.decode(None, write_stream(Stream(header, (payload,), exact=frozenset([0]))))
    assert caught.value.code == c_library.CORRUPT


def test_damaged_exact_streams_never_crash(tmp_path):
    """The same program runs under sanitizers: make sanitize."""
    shutil.copy(FOLDER / "tiny.stairs", tmp_path)
    for seed, kind in enumerate(KINDS):
        (tmp_path / f"{seed}.stair").write_bytes(exact_stream(drawn(kind, seed, 50, 60)))
    subprocess.run([BUILD / "face_fuzz", tmp_path, "3000"], check=True, capture_output=True)
