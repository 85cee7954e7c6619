from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import softstair
from softstair.commands import main

from ..conftest import GOLDEN
from ..tiny import photograph


def run(*arguments: object, stdin: bytes | None = None, **environment: str):
    return subprocess.run(
        [sys.executable, "-c", "from softstair.commands import main; main()", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )


def run_here(*arguments: object):
    """The same in this process, which has imported already what takes seconds to import."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", ["softstair", *map(str, arguments)]))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(warnings.catch_warnings())
        ended = stack.enter_context(pytest.raises(SystemExit))
        main()
    printed = (stream.detach().getvalue() for stream in (out, err))
    return subprocess.CompletedProcess(arguments, ended.value.code or 0, *printed)


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(photograph(90, 120)).save(path)
    return path


@pytest.fixture
def stair(picture) -> Path:
    """The picture's file beside it."""
    path = picture.with_suffix(".stair")
    path.write_bytes(softstair.encode(photograph(90, 120)))
    return path


def test_there_and_back(picture):
    done = run("encode", picture)
    assert done.returncode == 0
    assert b"bpp" in done.stderr
    assert done.stdout == b""
    picture.rename(picture.with_name("original.png"))
    assert run("decode", picture.with_suffix(".stair")).returncode == 0
    with Image.open(picture) as image:
        assert image.size == (120, 90)


def test_decoding_never_replaces_the_original(picture, stair):
    before = picture.read_bytes()
    done = run("decode", stair)
    assert done.returncode == 2
    assert b"--force" in done.stderr
    assert picture.read_bytes() == before
    assert run("decode", stair, "--force").returncode == 0
    assert picture.read_bytes() != before


def test_standard_streams(picture):
    encoded = run("encode", "-", "-o", "-", "-q", 50, stdin=picture.read_bytes())
    assert encoded.returncode == 0
    assert encoded.stdout[:4] == b"\xa5STR"
    decoded = run("decode", "-", "-o", "-", "--to", "webp", stdin=encoded.stdout)
    assert decoded.returncode == 0
    assert decoded.stdout[8:12] == b"WEBP"


def test_a_folder_with_one_bad_picture(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for index in range(3):
        Image.fromarray(photograph(40, 50, index)).save(source / f"{index}.png")
    (source / "bad.jpg").write_bytes(b"not a picture")
    done = run("encode", source, "-o", tmp_path / "out", "-j", 2)
    assert done.returncode == 2
    assert b"3 of 4 files done" in done.stderr
    assert b"bad.jpg" in done.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == ["0.stair", "1.stair", "2.stair"]


def test_two_inputs_for_one_output_are_refused(tmp_path):
    for suffix in ("png", "webp"):
        Image.fromarray(photograph(40, 50)).save(tmp_path / f"same.{suffix}")
    done = run("encode", tmp_path / "same.png", tmp_path / "same.webp")
    assert done.returncode == 2
    assert b"Two inputs" in done.stderr


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_sources(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(photograph(40, 50)).save(path)
    assert run("encode", path).returncode == 0
    assert (tmp_path / "photo.stair").exists()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_outputs(stair, suffix):
    target = stair.with_name(f"out.{suffix}")
    assert run("decode", stair, "-o", target).returncode == 0
    with Image.open(target) as image:
        assert image.size == (120, 90)


def test_metadata_is_kept_unless_stripped(tmp_path):
    image = Image.fromarray(photograph(40, 50))
    exif = Image.Exif()
    exif[0x010E] = "a description"
    image.save(tmp_path / "photo.jpg", exif=exif, icc_profile=b"profile" * 20)
    for strip, expected in (
        ("", {"exif", "icc_profile"}),
        ("exif", {"icc_profile"}),
        ("all", set()),
    ):
        run("encode", tmp_path / "photo.jpg", "--force", *(["--strip", strip] if strip else []))
        run("decode", tmp_path / "photo.stair", "--force")
        with Image.open(tmp_path / "photo.png") as decoded:
            decoded.load()
            assert {"exif", "icc_profile"} & set(decoded.info) == expected
            if "exif" in expected:
                assert decoded.getexif()[0x010E] == "a description"


def test_a_part_of_a_picture(stair):
    out = stair.with_name("part.png")
    done = run("decode", stair, "-o", out, "--region", "10,20,33,41", "--max-memory", "1G")
    assert done.returncode == 0, done.stderr
    with Image.open(out) as image:
        assert image.size == (33, 41)
    assert run("decode", stair, "-o", out, "--scale", "1/8", "--force").returncode == 0
    with Image.open(out) as image:
        assert image.size == (15, 12)


def test_a_damaged_picture_is_shown_when_asked_for(tmp_path):
    shutil.copy(GOLDEN / "v1" / "tiny.stairs", tmp_path)
    data = (GOLDEN / "v1" / "tiled.stair").read_bytes()
    (tmp_path / "cut.stair").write_bytes(data[:-4])
    command = ["decode", tmp_path / "cut.stair", "--model", tmp_path / "tiny.stairs"]
    done = run(*command)
    assert (done.returncode, list(tmp_path.glob("*.png"))) == (3, [])
    done = run(*command, "--allow-partial")
    assert done.returncode == 3
    assert b"ends early: 1 of 6 tiles as far as the bytes reach" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with Image.open(tmp_path / "cut.png") as image:
        assert image.size == (530, 300)


def test_info_reads_a_stream_whose_bundle_is_missing():
    done = run("info", GOLDEN / "v1" / "plain.stair", "--json")
    assert done.returncode == 0
    fields = json.loads(done.stdout)
    assert (fields["width"], fields["height"], fields["rate_position"]) == (90, 75, 80)


def test_info_starts_no_engine():
    code = (
        "import sys; from softstair.commands import softstair\n"
        f"softstair(['info', {str(GOLDEN / 'v1' / 'plain.stair')!r}], standalone_mode=False)\n"
        "assert 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_models():
    done = run("models", "--json")
    assert json.loads(done.stdout.splitlines()[0])["rate_positions"] == [0, 160]


def test_try(tmp_path, picture):
    done = run("try", picture, "-o", tmp_path / "tried")
    assert done.returncode == 0
    assert b"avif" in done.stdout
    assert (tmp_path / "tried" / "photo.stair").exists()


def test_a_bundle_from_a_folder(tmp_path):
    (tmp_path / "tiny.stairs").write_bytes((GOLDEN / "v1" / "tiny.stairs").read_bytes())
    stream = GOLDEN / "v1" / "plain.stair"
    assert run("decode", stream, "-o", tmp_path / "a.png").returncode == 4
    assert run("decode", stream, "-o", tmp_path / "a.png", SOFTSTAIR_MODELS=str(tmp_path)).returncode == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (90, 75)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ["encode", "nowhere.png"]),
        (2, ["encode", "{photo}", "-q", "101"]),
        (2, ["encode", "{photo}", "-q", "5", "--target-size", "5k"]),
        (2, ["encode", "{photo}", "--strip", "everything"]),
        (2, ["decode", "{stair}", "-o", "out.gif"]),
        (2, ["decode", "{stair}", "-o", "{out}", "--region", "1,2,3"]),
        (2, ["decode", "{stair}", "-o", "{out}", "--region", "0,0,121,1"]),
        (2, ["decode", "{stair}", "-o", "{out}", "--scale", "1/3"]),
        (2, ["nonsense"]),
        (3, ["info", "{photo}"]),
        (3, ["decode", "{cut}", "-o", "{out}"]),
        (4, ["decode", "{golden}", "-o", "{out}"]),
        (4, ["encode", "{photo}", "--model", "nobody"]),
        (5, ["decode", "{stair}", "-o", "{out}", "--max-pixels", "100"]),
        (5, ["decode", "{stair}", "-o", "{out}", "--max-memory", "10M"]),
        (5, ["encode", "{photo}", "-o", "{made}", "--max-memory", "10M"]),
        (6, ["encode", "{photo}", "--target-size", "20", "-o", "{made}"]),
    ],
)
def test_exit_codes_and_nothing_half_written(picture, stair, code, arguments):
    cut = picture.with_name("cut.stair")
    cut.write_bytes(stair.read_bytes()[:60])
    names = {
        "photo": picture,
        "stair": stair,
        "cut": cut,
        "golden": GOLDEN / "v1" / "plain.stair",
        "out": picture.with_name("out.png"),
        "made": picture.with_name("made.stair"),
    }
    before = sorted(picture.parent.iterdir())
    done = run(*(argument.format(**names) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) <= 4
    assert b"Traceback" not in done.stderr
    assert sorted(picture.parent.iterdir()) == before


def test_without_torch():
    """Encoding and decoding import neither torch nor the kit."""
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'onnx', 'scipy'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import numpy as np, softstair\n"
        "pixels = np.zeros((20, 30, 3), np.uint8)\n"
        "assert softstair.decode(softstair.encode(pixels)).shape == (20, 30, 3)\n"
        "assert not any(n.startswith('softstair.learn') for n in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_training_without_torch_says_what_to_install(tmp_path):
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from softstair.commands import main\nsys.argv = ['softstair', 'train', 'x.toml']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"softstair[learn]" in done.stderr


def test_train_derive_and_export(tmp_path):
    pytest.importorskip("torch", reason="the extra learn is not installed")
    from ..tiny import write_data, write_recipe

    write_data(tmp_path)
    recipe = write_recipe(tmp_path / "tiny.toml")
    done = run("train", recipe, "--data-root", tmp_path, "--run", tmp_path / "run", "-j", 1)
    assert done.returncode == 0, done.stderr
    snapshot = tmp_path / "run" / "snapshot.safetensors"
    derived = tmp_path / "derived"
    place = ["--data-root", tmp_path]
    done = run_here("derive", recipe, snapshot, *place, "--run", derived, "--rate", 80, "-j", 1)
    assert done.returncode == 0, done.stderr
    assert b"bytes" in done.stderr
    bundle, staircases = tmp_path / "mine.stairs", derived / "staircases.json"
    done = run_here("export", recipe, snapshot, "--staircases", staircases, *place, "-o", bundle)
    assert done.returncode == 0, done.stderr
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "flat.png")
    assert run("encode", tmp_path / "flat.png", "--model", bundle).returncode == 0
