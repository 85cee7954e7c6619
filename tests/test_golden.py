"""Streams of every released format version decode to the same symbols, for ever.

``python -m tests.make_golden`` writes them anew, which needs a line in the changelog: it breaks
people's files. With the name of a case it only adds that.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import softstair
from softstair.bundle import read_bundle
from softstair.codec import read_symbols
from softstair.mode import Mode
from softstair.stream import read_stream

from .conftest import GOLDEN
from .tiny import photograph

FOLDER = GOLDEN / "v1"
SHIPPED = GOLDEN / "shipped"
OLDER = GOLDEN / "older"  # bundles that were shipped once, under their fingerprints, and a stream of each
SHIPPED_BUNDLES = ("photo", "small", "photo-s")
CASES = {
    "plain": (photograph(75, 90), 80),
    "one-pixel": (photograph(1, 1), 120),
    "four-lanes": (photograph(300, 257, 5), 48),
    "grey": (photograph(40, 33)[..., 0], 100),
    "alpha": (np.dstack([photograph(40, 33), photograph(40, 33, 9)[..., 0]]), 100),
    **{mode.value: (photograph(260, 250, 7), 90) for mode in Mode},
    "tiled": (photograph(300, 530, 11), 72),
    "noise": (np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8), 160),
}
LAYOUTS = {"tiled": 1}  # others are one tile


def example():
    with Image.open(Path(__file__).parent.parent / "examples" / "casa-mila.jpg") as image:
        return np.asarray(image.convert("RGB"))


def pixel_file(name: str) -> str:
    return f"{name}.npz"


def symbol_hash(data: bytes, bundle) -> str:
    digest = hashlib.sha256()
    for tile in read_symbols(data, bundle):
        digest.update(tile.z.tobytes() + tile.y.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", CASES)
def test_golden_streams(name, tiny_bundle):
    expected = json.loads((FOLDER / "expected.json").read_text())[name]
    data = (FOLDER / f"{name}.stair").read_bytes()
    assert symbol_hash(data, tiny_bundle) == expected["symbols"]
    with np.load(FOLDER / expected["pixels"]) as stored:
        reference = stored["arr_0"].astype(int)
    decoded = softstair.decode(data, bundle=tiny_bundle)
    assert np.abs(decoded - reference).max() <= 1


@pytest.mark.parametrize("name", CASES)
def test_golden_streams_without_vector_kernels(name, tiny_bundle):
    expected = json.loads((FOLDER / "expected.json").read_text())[name]
    stream = read_stream((FOLDER / f"{name}.stair").read_bytes())
    header = stream.header
    model = tiny_bundle.at(header.position, header.mode, simd=False).model
    digest = hashlib.sha256()
    for index, payload in enumerate(stream.tiles):
        cells = header.grid.box(index).cells(16)
        z, y = model.decode(payload, cells.rows, cells.columns)
        digest.update(z.tobytes() + y.tobytes())
    assert digest.hexdigest() == expected["symbols"]


@pytest.mark.parametrize("name", SHIPPED_BUNDLES)
def test_a_stream_of_a_shipped_bundle(name):
    """Made once on one machine; the same symbols, and the photograph, everywhere else."""
    expected = json.loads((SHIPPED / "expected.json").read_text())[name]
    bundle = softstair.open_bundle(name)
    assert bundle.fingerprint.hex() == expected["bundle"]
    data = (SHIPPED / f"{name}.stair").read_bytes()
    assert symbol_hash(data, bundle) == expected["symbols"]
    error = np.square(softstair.decode(data).astype(float) - example()).mean()
    assert 10 * np.log10(255**2 / error) > 24


@pytest.mark.parametrize("path", sorted(OLDER.glob("*.stairs")), ids=lambda path: path.stem)
def test_a_stream_of_a_bundle_that_was_replaced(path):
    """Whoever keeps the bundle with the files can still open them."""
    bundle = read_bundle(path.read_bytes(), path.name)
    assert bundle.fingerprint.hex() == path.stem
    data = path.with_suffix(".stair").read_bytes()
    assert symbol_hash(data, bundle) == json.loads((OLDER / "expected.json").read_text())[path.stem]
    error = np.square(softstair.decode(data, bundle=bundle).astype(float) - example()).mean()
    assert 10 * np.log10(255**2 / error) > 24
