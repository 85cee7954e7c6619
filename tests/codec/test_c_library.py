"""The C library decodes what the Python package does: symbols equal, pixels within a grey level."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save as save_safetensors

import softstair
from softstair.bundle import (
    CONTEXT,
    ICON,
    Bundle,
    merged,
    open_bundle,
    packed_bundle,
    read_bundle,
    read_pack,
    write_bundle,
)
from softstair.errors import InvalidBundle
from softstair.quantize.context import Context, to_tensors
from softstair.stream import read_stream, write_stream

from .. import c_library
from ..c_library import CORRUPT, EXIF, LIBRARY, ROOT, TRUNCATED, Failure, golden_stream
from ..conftest import GOLDEN
from ..contexts import random_place, random_signs
from ..format.test_golden import (
    CASES,
    CONTEXT_CASES,
    CONTEXT_FOLDER,
    FOLDER,
    LAYER_CASES,
    OLDER,
    SHIPPED,
    SHIPPED_BUNDLES,
    V2,
    context_bundle,
)
from ..tiny import encode_tiled

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="needs the C library (make core-tests)")


@pytest.mark.parametrize("name", CASES)
def test_golden_streams(name, library, tiny):
    expected = json.loads((FOLDER / "expected.json").read_text())[name]
    assert library.symbol_hash(tiny, golden_stream(name)) == expected["symbols"]
    with np.load(FOLDER / expected["pixels"]) as stored:
        reference = stored["arr_0"].astype(int)
    decoded = library.decode(tiny, golden_stream(name))
    assert decoded.shape == reference.shape
    assert np.abs(decoded - reference).max() <= 1


@pytest.mark.parametrize("name", CONTEXT_CASES)
def test_golden_streams_of_bundles_with_context(name, library, tmp_path):
    of = CONTEXT_CASES[name][0]
    write_bundle(tmp_path / "with.stairs", dict(context_bundle(of).entries))
    bundle = library.open_bundle((tmp_path / "with.stairs").read_bytes())
    expected = json.loads((CONTEXT_FOLDER / "expected.json").read_text())[name]
    data = (CONTEXT_FOLDER / f"{name}.stair").read_bytes()
    assert library.symbol_hash(bundle, data) == expected["symbols"]
    library.free_bundle(bundle)


def test_a_context_that_looks_ahead_is_refused(library, tmp_path):
    place = random_place(64)
    place.weight[0, 0, 1] = 1
    entries = dict(context_bundle("older").entries)
    entries[CONTEXT] = save_safetensors(to_tensors(Context(place)))
    write_bundle(tmp_path / "bad.stairs", entries)
    with pytest.raises(Failure, match="read later"):
        library.open_bundle((tmp_path / "bad.stairs").read_bytes())
    with pytest.raises(InvalidBundle, match="read later"):
        read_bundle((tmp_path / "bad.stairs").read_bytes(), "bad")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ({"weight": np.eye(64, dtype=np.int16)[None].repeat(4, 0)}, "read later"),
        ({"weight": np.zeros((4, 64, 65), np.int16)}, "wrong shape"),
        ({"near": np.zeros((2, 8, 4, 64), np.int16)}, "wrong shape"),
        ({"skew": np.array([256], np.int16)}, "skew"),
        ({"skew": np.arange(64, dtype=np.int16)}, "number of leans"),
        ({"gain": np.zeros(77, np.int16)}, "numbers of rows"),
        ({"unit": np.full(78, -1, np.int16)}, "negative"),
        ({name: np.zeros(77, np.int16) for name in ("gain", "unit", "growth")}, "does not fit"),
    ],
)
def test_impossible_signs_are_refused(damage, why, library, tmp_path):
    signs = replace(random_signs(64), **damage)
    entries = dict(context_bundle("means").entries)
    entries[CONTEXT] = save_safetensors(to_tensors(Context(random_place(64), None, signs)))
    write_bundle(tmp_path / "bad.stairs", entries)
    with pytest.raises(Failure, match=why):
        library.open_bundle((tmp_path / "bad.stairs").read_bytes())
    with pytest.raises(InvalidBundle, match=why):
        read_bundle((tmp_path / "bad.stairs").read_bytes(), "bad")


def bundles_and_streams():
    for name in SHIPPED_BUNDLES:
        yield pytest.param(name, SHIPPED / f"{name}.stair", id=name)
    for path in sorted(OLDER.glob("*.stairs")):
        yield pytest.param(path, path.with_suffix(".stair"), id=path.stem)


def bundle_bytes(source: str | Path) -> bytes:
    if isinstance(source, Path):
        return source.read_bytes()
    return (Path(softstair.__file__).parent / "models" / f"{source}.stairs").read_bytes()


@pytest.mark.parametrize(("source", "path"), list(bundles_and_streams()))
def test_every_bundle_ever_shipped_runs_on_the_own_engine_within_a_grey_level(source, path, library):
    data = path.read_bytes()
    own = library.open_bundle(bundle_bytes(source))
    bundle = open_bundle(source) if isinstance(source, str) else read_bundle(source.read_bytes(), source.name)
    assert library.fingerprint(own) == bundle.fingerprint
    decoded = library.decode(own, data)
    library.free_bundle(own)
    difference = np.abs(decoded.astype(int) - softstair.decode(data, bundle=bundle))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


def test_progressive_order_is_another_way_to_the_same_pixels(library, tiny):
    plain = read_stream(golden_stream("tiled"))
    data = write_stream(replace(plain, cuts=tuple(len(tile) // 3 for tile in plain.tiles)))
    assert np.array_equal(library.decode(tiny, data), library.decode(tiny, golden_stream("tiled")))
    with pytest.raises(Failure):
        library.decode(tiny, data[:-5])


@pytest.mark.parametrize("name", LAYER_CASES)
def test_golden_streams_in_layers(name, library, tiny, tiny_bundle):
    expected = json.loads((V2 / "expected.json").read_text())[name]
    data, (original, position, layers) = (V2 / f"{name}.stair").read_bytes(), LAYER_CASES[name]
    with np.load(V2 / expected["pixels"]) as stored:
        reference = [stored[f"arr_{layer}"].astype(int) for layer in range(layers)]
    for layer in range(layers):
        cut = softstair.truncate(data, layers=layer + 1)
        assert library.symbol_hash(tiny, cut) == expected["symbols"][layer]
        assert np.abs(library.decode(tiny, cut) - reference[layer]).max() <= 1
        assert library.info(cut).rate_position == position - 32 * (layers - 1 - layer)
        assert library.metadata(cut, EXIF) == original.metadata.exif
        shown, damage = library.decode_partial(tiny, cut[:-1])
        with pytest.warns(softstair.PartialPicture):
            same = softstair.decode(cut[:-1], bundle=tiny_bundle, allow_partial=True)
        assert np.abs(shown.astype(int) - same).max() <= 1
        assert ("layers are shown" in damage) == (layer > 0)
        if layer:
            assert (
                damage
                == f"The picture is not complete: the file ends early: {layer} of {layers} layers are shown."
            )
        with pytest.raises(Failure) as failure:
            library.decode(tiny, cut[:-1])
        assert failure.value.code == TRUNCATED
    with pytest.raises(Failure) as failure:
        library.decode(tiny, data + b"x")
    assert failure.value.code == CORRUPT


@pytest.mark.parametrize("divisor", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("name", ["tiled", "alpha", "grey", "plain"])
def test_regions_and_scales_are_those_of_the_package(name, divisor, library, tiny, tiny_bundle):
    info = library.info(golden_stream(name))
    region = (5, 9, info.width - 7, info.height - 20)
    left, top, width, height = region
    decoded = library.decode(
        tiny, golden_stream(name), left=left, top=top, width=width, height=height, divisor=divisor
    )
    expected = softstair.decode(golden_stream(name), bundle=tiny_bundle, region=region, scale=1 / divisor)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("divisor", [16, 32, 64])
@pytest.mark.parametrize("name", ["tiled", "alpha", "grey", "plain", "layers"])
def test_icons_are_those_of_the_package(name, divisor, library, tiny_bundle):
    with_icon = {**tiny_bundle.entries, ICON: (GOLDEN / "icon" / "tiny.onnx").read_bytes()}
    data = (V2 / f"{next(iter(LAYER_CASES))}.stair").read_bytes() if name == "layers" else golden_stream(name)
    own = library.open_bundle(packed_bundle(with_icon))
    expected = softstair.decode(data, bundle=Bundle(with_icon, "with"), scale=1 / divisor)
    decoded = library.decode(own, data, divisor=divisor)
    library.free_bundle(own)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("source", SHIPPED_BUNDLES)
def test_small_pictures_are_made_by_the_bundle_s_head_as_in_the_package(source, library, photo):
    bundle = open_bundle(source)
    data = encode_tiled(photo[:371, :571], bundle, 75, layout=1)
    own = library.open_bundle(bundle_bytes(source))
    part = {"left": 64, "top": 96, "width": 400, "height": 256}
    for divisor in (4, 8, 32):
        small = softstair.decode(data, scale=1 / divisor, bundle=bundle).astype(int)
        assert np.abs(library.decode(own, data, divisor=divisor) - small).max() <= 1
        cut = library.decode(own, data, divisor=divisor, **part)
        assert (
            np.abs(
                cut
                - small[96 // divisor : 352 // divisor, 64 // divisor : 464 // divisor + (464 % divisor > 0)]
            ).max()
            <= 1
        )
    library.free_bundle(own)


def test_four_channels_where_they_are_asked_for(library, tiny):
    grey = library.decode(tiny, golden_stream("grey"))
    as_rgba = library.decode(tiny, golden_stream("grey"), channels=4)
    assert np.array_equal(as_rgba[..., 0], grey)
    assert np.array_equal(as_rgba[..., 2], grey)
    assert (as_rgba[..., 3] == 255).all()
    assert np.array_equal(
        library.decode(tiny, golden_stream("alpha"), channels=4), library.decode(tiny, golden_stream("alpha"))
    )


def test_what_a_file_says_of_itself(library, tiny):
    info = library.info(golden_stream("tiled"))
    assert (info.width, info.height, info.tiles, info.colour, info.has_alpha) == (530, 300, 6, 0, 0)
    assert bytes(info.fingerprint) == library.fingerprint(tiny)
    assert library.info(golden_stream("alpha")).has_alpha == 1
    assert library.info(golden_stream("grey")).colour == 1


def test_metadata_comes_out_verbatim(library, tiny_bundle, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    picture = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    picture.info["icc_profile"] = profile = os.urandom(500)
    picture.info["exif"] = exif.tobytes()
    data = softstair.encode(picture, bundle=tiny_bundle)
    assert library.metadata(data, c_library.ICC) == profile
    assert library.metadata(data, c_library.EXIF) == exif.tobytes().removeprefix(b"Exif\0\0")
    assert library.metadata(data, c_library.XMP) is None


def test_a_bundle_without_what_only_encoders_need_will_do(library, tmp_path):
    import io
    import zipfile

    whole = (FOLDER / "tiny.stairs").read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(buffer, "w") as target:
        for entry in source.namelist():
            if entry not in ("manifest.json", "analysis.onnx", "hyper_analysis.onnx"):
                target.writestr(entry, source.read(entry))
    assert len(buffer.getvalue()) < len(whole)
    bundle = library.open_bundle(buffer.getvalue())
    assert library.decode(bundle, golden_stream("plain")).shape == (75, 90, 3)
    library.free_bundle(bundle)


def test_a_damaged_file_is_one_sentence(library, tiny):
    whole = golden_stream("plain")
    flipped = bytes(byte ^ (16 if at == 100 else 0) for at, byte in enumerate(whole))
    other = (SHIPPED / "photo.stair").read_bytes()
    for data, code in (
        (b"", c_library.NOT_A_STAIR_FILE),
        (b"GIF89a", c_library.NOT_A_STAIR_FILE),
        (whole[:40], c_library.TRUNCATED),
        (flipped, c_library.CORRUPT),
        (whole + b"\0", c_library.CORRUPT),
        (whole[:4] + b"\x09" + whole[5:], c_library.UNSUPPORTED),
        (other, c_library.WRONG_BUNDLE),
    ):
        with pytest.raises(Failure) as caught:
            library.decode(tiny, data)
        assert caught.value.code == code
        text = str(caught.value)
        assert text.endswith(".")
        assert "\n" not in text


def test_limits_and_options_that_make_no_sense(library, tiny):
    for options, code in (
        ({"max_pixels": 1000}, c_library.LIMIT),
        ({"max_memory": 10_000}, c_library.LIMIT),
        ({"divisor": 3}, c_library.USAGE),
        ({"channels": 2}, c_library.USAGE),
        ({"left": 80, "width": 20, "height": 5}, c_library.USAGE),
        ({"progress": lambda _context, done: int(done > 0)}, c_library.STOPPED),
    ):
        with pytest.raises(Failure) as caught:
            library.decode(tiny, golden_stream("plain"), **options)
        assert caught.value.code == code


def test_progress_rises_to_the_end(library, tiny):
    seen: list[float] = []
    library.decode(tiny, golden_stream("tiled"), progress=lambda _context, done: seen.append(done) or 0)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


def test_not_a_bundle(library):
    for data in (b"", b"PK", (FOLDER / "tiny.stairs").read_bytes()[:100_000]):
        with pytest.raises(Failure) as caught:
            library.open_bundle(data)
        assert caught.value.code == c_library.INVALID_BUNDLE


@pytest.mark.skipif(shutil.which("cc") is None or shutil.which("cmake") is None, reason="needs cc and cmake")
def test_a_c_program_against_the_installed_library(tmp_path, library, tiny):
    """As a user would: installed, found by pkg-config, ten lines of C."""
    subprocess.run(
        ["cmake", "--install", c_library.BUILD, "--prefix", tmp_path], check=True, capture_output=True
    )
    (description,) = tmp_path.rglob("softstair.pc")
    flags = ["-I" + str(tmp_path / "include"), "-L" + str(description.parent.parent), "-lsoftstair"]
    if shutil.which("pkg-config"):
        found = subprocess.run(
            ["pkg-config", "--define-prefix", "--cflags", "--libs", "softstair"],
            env={**os.environ, "PKG_CONFIG_PATH": str(description.parent)},
            check=True,
            capture_output=True,
            text=True,
        )
        flags = found.stdout.split()
    program = tmp_path / "decode"
    source = ROOT / "examples" / "c" / "decode.c"
    subprocess.run(
        ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", source, *flags, "-o", program],
        check=True,
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(description.parent.parent)}
    done = subprocess.run(
        [program, FOLDER / "plain.stair", FOLDER / "tiny.stairs"],
        env=environment,
        check=True,
        capture_output=True,
    )
    (tmp_path / "plain.ppm").write_bytes(done.stdout)
    with Image.open(tmp_path / "plain.ppm") as image:
        assert np.array_equal(np.asarray(image), library.decode(tiny, golden_stream("plain")))
    refused = subprocess.run(
        [program, GOLDEN / "shipped" / "photo.stair", FOLDER / "tiny.stairs"],
        env=environment,
        capture_output=True,
    )
    assert refused.returncode == 1
    assert refused.stderr.decode().startswith("The stream was made with bundle")


def test_a_file_made_with_a_pack_opens_from_the_flattened_bundle(library, tiny, tiny_bundle):
    pack = read_pack((GOLDEN / "pack" / "tiny.pack").read_bytes(), "tiny.pack")
    data = (GOLDEN / "pack" / "plain.stair").read_bytes()
    with pytest.raises(Failure, match=rf"pack {pack.fingerprint.hex()} of bundle .*softstair pack flatten"):
        library.decode(tiny, data)
    flat = library.open_bundle(packed_bundle(merged(tiny_bundle, pack).entries))
    assert library.fingerprint(flat) == pack.fingerprint
    decoded = library.decode(flat, data)
    library.free_bundle(flat)
    with np.load(GOLDEN / "pack" / "plain.npz") as stored:
        assert np.abs(decoded.astype(int) - stored["arr_0"]).max() <= 1
