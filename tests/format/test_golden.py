"""Streams of every released format version decode to the same symbols, for ever.

Those of version 1 cannot be written any more. ``python -m tests.make_golden CASE...`` adds cases of
version 2; to write one anew needs a line in the changelog: it breaks people's files.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import softstair
from softstair import _core
from softstair.bundle import CONTEXT, Bundle, find_bundle, read_bundle
from softstair.codec import decode_picture, read_symbols, truncate
from softstair.errors import BundleNotFound
from softstair.mode import Mode
from softstair.pictures import Picture
from softstair.stream import NO_BUNDLE, Metadata, read_stream

from ..conftest import GOLDEN
from ..tiny import photograph, screen, screen_with_photograph, smoothed_letters, with_512_states

FOLDER = GOLDEN / "v1"
SHIPPED = GOLDEN / "shipped"
OLDER = GOLDEN / "older"  # bundles that were shipped once, under their fingerprints, and a stream of each
SHIPPED_BUNDLES = ("photo", "photo-psnr")
CASES = {
    "plain": (photograph(75, 90), 80),
    "one-pixel": (photograph(1, 1), 120),
    "four-lanes": (photograph(300, 257, 5), 48),
    "grey": (photograph(40, 33)[..., 0], 100),
    "alpha": (np.dstack([photograph(40, 33), photograph(40, 33, 9)[..., 0]]), 100),
    **{name: (photograph(260, 250, 7), 90) for name in ("scalar", "rdoq", "tcq4", "tcq8", "tcq16", "tcq32")},
    "tiled": (photograph(300, 530, 11), 72),
    "noise": (np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8), 160),
}
V2 = GOLDEN / "v2"
KINDS = Metadata(b"icc", b"exif", b"xmp", b"iptc")
SCREEN, PLACE = screen_with_photograph(160, 192, slice(48, 112), slice(64, 144))
# Pictures, rate positions; None is lossless.
V2_CASES: dict[str, tuple[Picture, int | None]] = {
    "plain": (Picture(photograph(75, 90)), 80),
    "metadata": (Picture(photograph(40, 33)[..., 0], None, KINDS), 100),
    "exact-alpha": (Picture(photograph(40, 33), photograph(40, 33, 9)[..., 0], Metadata(xmp=b"xmp")), 100),
    "exact": (Picture(screen(50, 70)), None),
    "exact-grey": (Picture(screen(50, 70)[..., 0], screen(50, 70)[..., 1]), None),
    "exact-photograph": (Picture(photograph(60, 45)), None),
    "exact-tiles": (Picture(screen(40, 2100)), None),
    "exact-in-part": (Picture(SCREEN), 90),
    "reduced": (Picture(smoothed_letters()), 60),
    "smoothed": (Picture(photograph(75, 90)), 80),
    "small": (Picture(photograph(8, 8224)[..., 0], None, KINDS), 80),
    "exact-in-part-grey": (Picture(SCREEN[..., 0]), 90),
    "exact-in-part-tiles": (
        Picture(screen_with_photograph(96, 2100, slice(16, 96), slice(32, 800))[0]),
        60,
    ),
}

# Of streams in layers: pictures, rate positions of the last layer, how many layers.
LAYER_CASES = {
    "layers": (Picture(photograph(75, 90), SCREEN[:75, :90, 0], KINDS), 150, 4),
    "layers-four-lanes": (Picture(photograph(260, 257, 5)[..., 0]), 100, 3),
    "layers-tiles": (Picture(photograph(48, 2100)[..., 0]), 90, 2),
}

CONTEXT_FOLDER = (
    GOLDEN / "context"
)  # context networks of bundles that lie in v1 and older, and streams with them
CONTEXT_BUNDLES = {
    "tiny": FOLDER / "tiny.stairs",
    "states": FOLDER / "tiny.stairs",
    "older": OLDER / "56d89959ce8c243b.stairs",
    "signs": OLDER / "56d89959ce8c243b.stairs",
    "means": OLDER / "56d89959ce8c243b.stairs",
}
# Of which bundle, pictures, rate positions, modes.
CONTEXT_CASES = {
    "tiny-scalar": ("tiny", photograph(75, 90), 80, Mode.SCALAR),
    "tiny-tcq8": ("tiny", photograph(300, 257, 5), 90, Mode.TCQ8),
    "states-tcq512": ("states", photograph(300, 257, 5), 90, Mode.TCQ512),
    "older-tcq32": ("older", photograph(100, 290, 3), 60, Mode.TCQ32),
    "signs-scalar": ("signs", photograph(75, 90, 7), 70, Mode.SCALAR),
    "signs-tcq32": ("signs", photograph(290, 260, 8), 60, Mode.TCQ32),
    "means-scalar": ("means", photograph(75, 90, 9), 70, Mode.SCALAR),
    "means-tcq32": ("means", photograph(290, 260, 10), 60, Mode.TCQ32),
}


def context_bundle(name: str) -> Bundle:
    """A golden bundle with its context networks; "states" has mode tcq512."""
    bundle = read_bundle(CONTEXT_BUNDLES[name].read_bytes(), name)
    bundle = with_512_states(bundle) if name == "states" else bundle
    return Bundle({**bundle.entries, CONTEXT: (CONTEXT_FOLDER / f"{name}.safetensors").read_bytes()}, name)


def example():
    with Image.open(Path(__file__).parents[2] / "examples" / "casa-mila.jpg") as image:
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


@pytest.mark.parametrize("name", CONTEXT_CASES)
def test_golden_streams_of_bundles_with_context(name):
    expected = json.loads((CONTEXT_FOLDER / "expected.json").read_text())[name]
    data, bundle = (CONTEXT_FOLDER / f"{name}.stair").read_bytes(), context_bundle(CONTEXT_CASES[name][0])
    assert bundle.fingerprint.hex() == expected["bundle"]
    assert symbol_hash(data, bundle) == expected["symbols"]


@pytest.mark.parametrize("name", V2_CASES)
def test_golden_streams_of_version_2(name, tiny_bundle):
    expected = json.loads((V2 / "expected.json").read_text())[name]
    data = (V2 / f"{name}.stair").read_bytes()
    assert data[4] == 2
    assert symbol_hash(data, tiny_bundle) == expected["symbols"]
    stream, picture = read_stream(data), decode_picture(data, tiny_bundle)
    assert sorted(stream.exact) == expected["exact"]
    assert stream.metadata == V2_CASES[name][0].metadata
    with np.load(V2 / expected["pixels"]) as stored:
        reference = stored["arr_0"].astype(int)
    exact = stream.header.fingerprint == NO_BUNDLE
    assert exact == (V2_CASES[name][1] is None or stream.is_reduced)
    assert stream.is_reduced == (name == "reduced")
    assert np.abs(picture.array - reference).max() <= (0 if exact else 1)
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, reference[..., -1])


@pytest.mark.parametrize("name", LAYER_CASES)
def test_golden_streams_in_layers(name, tiny_bundle):
    """The file, and what it is cut to behind each layer."""
    expected = json.loads((V2 / "expected.json").read_text())[name]
    data, (original, _, layers) = (V2 / f"{name}.stair").read_bytes(), LAYER_CASES[name]
    with np.load(V2 / pixel_file(name)) as stored:
        reference = [stored[f"arr_{layer}"].astype(int) for layer in range(layers)]
    for layer in range(layers):
        cut = truncate(data, layers=layer + 1)
        assert symbol_hash(cut, tiny_bundle) == expected["symbols"][layer]
        picture = decode_picture(cut, tiny_bundle)
        assert picture.metadata == original.metadata
        assert np.abs(picture.array - reference[layer]).max() <= 1
    assert cut == data


@pytest.mark.parametrize("name", LAYER_CASES)
def test_golden_streams_in_layers_without_vector_kernels(name, tiny_bundle):
    stream = read_stream((V2 / f"{name}.stair").read_bytes())
    header, digest = stream.header, hashlib.sha256()
    models = [
        tiny_bundle.at(header.position, header.mode, simd=False, layer=layer).model
        for layer in range(header.layers)
    ]
    for index, payload in enumerate(stream.tiles):
        cells = header.grid.box(index).cells(16)
        tile = _core.TileDecoder(models[0], payload, cells.rows, cells.columns, layered=True)
        for _ in range(4):
            tile.read_phase()
        reader, read = _core.LayerReader(models[0], tile.z, tile.y), tile.bytes_read
        for model in models[1:]:
            read += reader.read(model, payload[read:])
        assert read == len(payload)
        digest.update(tile.z.tobytes() + reader.levels.tobytes())
    assert digest.hexdigest() == json.loads((V2 / "expected.json").read_text())[name]["symbols"][-1]


@pytest.mark.parametrize("name", SHIPPED_BUNDLES)
def test_a_stream_of_a_shipped_bundle(name):
    """Made once on one machine; the same symbols, and the photograph, everywhere else."""
    expected = json.loads((SHIPPED / "expected.json").read_text())[name]
    bundle = softstair.open_bundle(name)
    assert bundle.fingerprint.hex() == expected["bundle"]
    data = (SHIPPED / f"{name}.stair").read_bytes()
    assert symbol_hash(data, bundle) == expected["symbols"]
    error = np.square(softstair.decode(data).astype(float) - example()).mean()
    assert 10 * np.log10(255**2 / error) > 25


@pytest.mark.parametrize("path", sorted(OLDER.glob("*.stairs")), ids=lambda path: path.stem)
def test_a_stream_of_a_bundle_that_was_replaced(path):
    """Whoever keeps the bundle with the files can still open them, and is told where it is."""
    bundle = read_bundle(path.read_bytes(), path.name)
    with pytest.raises(BundleNotFound, match=rf"{bundle.name} of an earlier release, .*/{path.name}"):
        find_bundle(bundle.fingerprint)
    assert bundle.fingerprint.hex() == path.stem
    data = path.with_suffix(".stair").read_bytes()
    assert symbol_hash(data, bundle) == json.loads((OLDER / "expected.json").read_text())[path.stem]
    error = np.square(softstair.decode(data, bundle=bundle).astype(float) - example()).mean()
    assert 10 * np.log10(255**2 / error) > 25
