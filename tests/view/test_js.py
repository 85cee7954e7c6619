"""The npm package in Node: what it decodes is what the Python package does."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import softstair
from softstair.bundle import open_bundle, write_bundle
from softstair.codec import View, decode_view
from softstair.share import write_packages

from ..codec.test_exact_in_c import exact_stream
from ..codec.test_tiles import damaged
from ..format.test_golden import CASES, CONTEXT_CASES, CONTEXT_FOLDER, FOLDER, OLDER, SHIPPED, context_bundle
from ..tiny import photograph

PACKAGE = Path(softstair.__file__).parent / "js"
NODE = shutil.which("node") or ""
pytestmark = pytest.mark.skipif(not NODE, reason="needs Node")


def run(folder: Path, jobs: list[dict[str, object]], package: str = str(PACKAGE / "index.js")) -> list[dict]:
    script = shutil.copy(Path(__file__).parent / "decode.mjs", folder)
    (folder / "jobs.json").write_text(json.dumps({"package": package, "jobs": jobs}))
    done = subprocess.run(
        [NODE, script, folder / "jobs.json"], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def as_rgba(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = np.dstack([pixels] * 3)
    if pixels.shape[2] == 2:  # grey and alpha
        pixels = pixels[..., [0, 0, 0, 1]]
    if pixels.shape[2] == 3:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return pixels


def raw(path: Path, result: dict) -> np.ndarray:
    return np.fromfile(path, np.uint8).reshape(result["height"], result["width"], 4)


def test_golden_streams(tmp_path):
    jobs = [
        {
            "stream": str(FOLDER / f"{name}.stair"),
            "bundle": str(FOLDER / "tiny.stairs"),
            "raw": str(tmp_path / name),
        }
        for name in CASES
    ]
    expected = json.loads((FOLDER / "expected.json").read_text())
    for name, result in zip(CASES, run(tmp_path, jobs), strict=True):
        assert result["symbols"] == expected[name]["symbols"]
        with np.load(FOLDER / expected[name]["pixels"]) as stored:
            reference = as_rgba(stored["arr_0"]).astype(int)
        assert np.abs(raw(tmp_path / name, result) - reference).max() <= 1


def test_golden_streams_of_bundles_with_context(tmp_path):
    jobs = []
    for name, (of, *_) in CONTEXT_CASES.items():
        write_bundle(tmp_path / f"{of}.stairs", dict(context_bundle(of).entries))
        stream = str(CONTEXT_FOLDER / f"{name}.stair")
        jobs.append({"stream": stream, "bundle": str(tmp_path / f"{of}.stairs")})
    expected = json.loads((CONTEXT_FOLDER / "expected.json").read_text())
    for name, result in zip(CONTEXT_CASES, run(tmp_path, jobs), strict=True):
        assert result["symbols"] == expected[name]["symbols"]


def test_regions_scales_and_exact_pictures(tmp_path):
    pixels = photograph(90, 120, 3)
    (tmp_path / "exact.stair").write_bytes(exact_stream(pixels))
    region = {"left": 100, "top": 60, "width": 200, "height": 120}
    photo, bundle = (str(OLDER / f"2537f7ec0b53ca4b.{kind}") for kind in ("stair", "stairs"))
    jobs = [
        {"stream": str(tmp_path / "exact.stair"), "raw": str(tmp_path / "a"), "png": str(tmp_path / "a.png")},
        {"stream": photo, "bundle": bundle, "raw": str(tmp_path / "b")},
        {
            "stream": photo,
            "bundle": bundle,
            "raw": str(tmp_path / "c"),
            "options": {"region": region, "scale": 0.25},
        },
    ]
    exact, whole, part = run(tmp_path, jobs)
    assert exact["info"]["fingerprint"] is None
    assert np.array_equal(raw(tmp_path / "a", exact), as_rgba(pixels))
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), pixels)
    data, own = Path(photo).read_bytes(), open_bundle(bundle)
    expected = as_rgba(softstair.decode(data, bundle=own)).astype(int)
    assert np.abs(raw(tmp_path / "b", whole) - expected).max() <= 1
    expected = as_rgba(softstair.decode(data, bundle=own, region=(100, 60, 200, 120), scale=0.25)).astype(int)
    assert np.abs(raw(tmp_path / "c", part) - expected).max() <= 1


def test_small_pictures_are_those_of_the_package(tmp_path):
    photo, bundle = SHIPPED / "photo.stair", Path(softstair.__file__).parent / "models" / "photo.stairs"
    divisors = (4, 16, 64)
    jobs = [
        {
            "stream": str(photo),
            "bundle": str(bundle),
            "raw": str(tmp_path / str(d)),
            "options": {"scale": 1 / d},
        }
        for d in divisors
    ]
    for divisor, result in zip(divisors, run(tmp_path, jobs), strict=True):
        expected = as_rgba(softstair.decode(photo.read_bytes(), scale=1 / divisor)).astype(int)
        assert np.abs(raw(tmp_path / str(divisor), result) - expected).max() <= 1


def test_a_damaged_file_is_one_sentence_and_the_next_one_opens(tmp_path):
    whole = (FOLDER / "plain.stair").read_bytes()
    flipped = bytes(byte ^ (16 if at == 100 else 0) for at, byte in enumerate(whole))
    faulty = {"empty": b"", "cut": whole[:60], "flipped": flipped, "newer": whole[:4] + b"\x09" + whole[5:]}
    jobs = []
    for name, data in faulty.items():
        (tmp_path / name).write_bytes(data)
        jobs.append({"stream": str(tmp_path / name), "bundle": str(FOLDER / "tiny.stairs")})
    jobs.append({"stream": str(SHIPPED / "photo.stair"), "bundle": str(FOLDER / "tiny.stairs")})
    jobs.append({"stream": str(FOLDER / "plain.stair"), "bundle": str(FOLDER / "tiny.stairs")})
    *failures, last = run(tmp_path, jobs)
    codes = ["not-a-stair-file", "truncated", "corrupt", "unsupported", "wrong-bundle"]
    assert [failure["code"] for failure in failures] == codes
    assert all(failure["message"].endswith(".") for failure in failures)
    assert last["width"] == 90


def test_a_bundle_that_is_not_valid_is_one_sentence(tmp_path):
    with (
        zipfile.ZipFile(FOLDER / "tiny.stairs") as whole,
        zipfile.ZipFile(tmp_path / "other.stairs", "w") as other,
    ):
        for name in whole.namelist():
            other.writestr(name, b"[]" if name == "staircases.json" else whole.read(name))
    stream, bundle = str(FOLDER / "plain.stair"), str(tmp_path / "other.stairs")
    (failure,) = run(tmp_path, [{"stream": stream, "bundle": bundle}])
    assert failure == {"code": "invalid-bundle", "message": "The bundle is not valid."}


def test_files_that_end_early_or_are_damaged_as_far_as_they_go(tmp_path, tiny_bundle):
    tiled, plain = ((FOLDER / f"{name}.stair").read_bytes() for name in ("tiled", "plain"))
    files = [plain[:-9], tiled[: len(tiled) // 2], damaged(tiled, 2), plain]
    jobs = []
    for number, data in enumerate(files):
        (tmp_path / f"{number}.stair").write_bytes(data)
        jobs.append(
            {
                "stream": str(tmp_path / f"{number}.stair"),
                "bundle": str(FOLDER / "tiny.stairs"),
                "raw": str(tmp_path / f"{number}.raw"),
                "png": str(tmp_path / f"{number}.png"),
                "options": {"allowPartial": True},
            }
        )
    for number, result in enumerate(run(tmp_path, jobs)):
        expected = decode_view(files[number], View(allow_partial=True), tiny_bundle, threads=1)
        found = raw(tmp_path / f"{number}.raw", result)
        assert np.abs(found - as_rgba(expected.picture.array).astype(int)).max() <= 1
        assert result["damage"] == (expected.damage and f"The picture is not complete: {expected.damage}.")
        with Image.open(tmp_path / f"{number}.png") as image:
            assert np.array_equal(np.asarray(image), found[..., :3])
    assert result["damage"] is None


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_the_packed_packages_of_decoder_and_bundle_install_and_work(tmp_path, tiny_bundle):
    def npm(*arguments: str) -> str:
        done = subprocess.run(
            ["npm", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout

    (packed,) = json.loads(npm("pack", "--json", str(PACKAGE)))
    names = {entry["path"] for entry in packed["files"]}
    assert {"index.js", "index.d.ts", "worker.js", "softstair.wasm", "LICENSE"} <= names
    write_packages(tmp_path / "packages", [tiny_bundle])
    (bundle,) = (tmp_path / "packages").iterdir()
    (tmp_path / "package.json").write_text('{"type": "module", "private": true}')
    npm("install", "--offline", "--no-audit", "--no-fund", str(tmp_path / packed["filename"]), str(bundle))
    stream = str(FOLDER / "plain.stair")
    jobs = [
        {"stream": stream, "bundle": str(FOLDER / "tiny.stairs")},
        {"stream": stream, "package": bundle.name},
    ]
    by_bytes, by_package = run(tmp_path, jobs, package="softstair")
    assert by_bytes["width"] == 90
    assert by_bytes == by_package
