"""Desktops: the MIME type, the magic line, thumbnails by command and through gdk-pixbuf."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import softstair

from ..c_library import BUILD, LIBRARY, ROOT
from ..format.test_golden import SHIPPED
from ..tiny import photograph

PICTURE = SHIPPED / "photo.stair"
MODELS = Path(softstair.__file__).parent / "models"


def test_the_thumbnail_command_takes_an_address_and_keeps_the_shape(tmp_path):
    target = tmp_path / "thumbnail.png"
    command = [sys.executable, "-m", "softstair", "thumbnail", "--size", "128", PICTURE.as_uri(), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(target) as image:
        assert image.size == (128, 85)
        whole = Image.fromarray(softstair.decode(PICTURE.read_bytes())).resize((128, 85))
        assert np.abs(np.asarray(image).astype(int) - np.asarray(whole)).mean() < 6


def test_a_thumbnail_is_turned_as_viewers_turn_the_picture(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.fromarray(photograph(40, 60))
    image.info["exif"] = exif.tobytes()
    (tmp_path / "a.stair").write_bytes(softstair.encode(image, lossless=True))
    command = [sys.executable, "-m", "softstair", "thumbnail", tmp_path / "a.stair", tmp_path / "a.png"]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(tmp_path / "a.png") as shown:
        np.testing.assert_array_equal(np.asarray(shown), np.rot90(photograph(40, 60), 3))


@pytest.mark.skipif(shutil.which("update-mime-database") is None, reason="needs shared-mime-info")
def test_the_mime_type_is_known_once_installed(tmp_path):
    packages = tmp_path / "mime" / "packages"
    packages.mkdir(parents=True)
    shutil.copy(ROOT / "desktop" / "stair.xml", packages)
    subprocess.run(["update-mime-database", tmp_path / "mime"], check=True, capture_output=True)
    assert (tmp_path / "mime" / "image" / "x-stair.xml").exists()
    assert "*.stair" in (tmp_path / "mime" / "globs").read_text()


@pytest.mark.skipif(shutil.which("file") is None, reason="needs file")
def test_file_knows_a_stair_file(tmp_path):
    magic = ROOT / "desktop" / "stair.magic"
    shown = subprocess.run(
        ["file", "-b", "-m", magic, PICTURE], capture_output=True, text=True, check=True
    ).stdout
    assert shown.startswith("Softstair picture, version ")


def loaders_query() -> str | None:
    return shutil.which("gdk-pixbuf-query-loaders") or next(
        (str(path) for path in Path("/usr/lib").glob("*/gdk-pixbuf-2.0/gdk-pixbuf-query-loaders")), None
    )


@pytest.mark.skipif(not LIBRARY.exists(), reason="needs the C library (make core-tests)")
@pytest.mark.skipif(shutil.which("gdk-pixbuf-thumbnailer") is None, reason="needs libgdk-pixbuf2.0-bin")
def test_a_thumbnail_through_gdk_pixbuf(tmp_path):
    """As GNOME makes them: the loader compiled against the installed library, and gdk-pixbuf's own tool."""
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "gdk-pixbuf-2.0"], capture_output=True, text=True, check=False
    )
    query = loaders_query()
    if flags.returncode != 0 or query is None:
        pytest.skip("needs libgdk-pixbuf-2.0-dev")
    loader = tmp_path / "io-stair.so"
    library = [f"-L{BUILD}", "-lsoftstair", f"-Wl,-rpath,{BUILD}", f"-I{ROOT / 'cpp' / 'decoder'}"]
    source = ROOT / "desktop" / "io-stair.c"
    compile_ = [
        "cc",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Werror",
        source,
        *flags.stdout.split(),
        *library,
    ]
    subprocess.run([*map(str, compile_), "-o", str(loader)], check=True)
    listed = subprocess.run([query, loader], capture_output=True, text=True, check=True).stdout
    assert "image/x-stair" in listed
    (tmp_path / "loaders.cache").write_text(listed)
    mime = tmp_path / "share" / "mime" / "packages"
    mime.mkdir(parents=True)
    shutil.copy(ROOT / "desktop" / "stair.xml", mime)
    subprocess.run(["update-mime-database", mime.parent], check=True, capture_output=True)
    environment = {
        **os.environ,
        "GDK_PIXBUF_MODULE_FILE": str(tmp_path / "loaders.cache"),
        "SOFTSTAIR_MODELS": str(MODELS),
        "XDG_DATA_DIRS": f"{tmp_path / 'share'}:/usr/share",
    }
    target = tmp_path / "thumbnail.png"

    def thumbnail(picture: Path) -> Image.Image:
        command = ["gdk-pixbuf-thumbnailer", "-s", "128", picture, target]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with Image.open(target) as image:
            return image.convert("RGB")

    image = thumbnail(PICTURE)
    assert max(image.size) == 128
    whole = Image.fromarray(softstair.decode(PICTURE.read_bytes())).resize(image.size)
    assert np.abs(np.asarray(image).astype(int) - np.asarray(whole)).mean() < 6
    for orientation, turned in ((1, lambda pixels: pixels), (6, lambda pixels: np.rot90(pixels, 3))):
        pixels, exif = photograph(90, 128), Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        stored = Image.fromarray(pixels)
        stored.info["exif"] = exif.tobytes()
        (tmp_path / "turned.stair").write_bytes(softstair.encode(stored, lossless=True))
        np.testing.assert_array_equal(np.asarray(thumbnail(tmp_path / "turned.stair")), turned(pixels))
