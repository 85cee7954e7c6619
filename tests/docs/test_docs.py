"""The documentation: its examples run, and the site builds without a warning or a foreign request."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT

DOCS = ROOT / "docs"
# What makes a browser fetch something; links that a reader follows do not.
FETCHES = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\bsrc=["'](https?:)?//|<link[^>]*\bhref=["'](https?:)?//"""
)
STYLE_FETCHES = re.compile(r"""@import|url\(\s*["']?(https?:)?//""")


def test_the_first_steps_in_python_run(tmp_path, monkeypatch):
    shutil.copy(ROOT / "examples" / "casa-mila.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "first-steps.md").read_text(), re.DOTALL):
        exec(block, names)
    assert names["pixels"].shape == (384, 576, 3)
    assert (tmp_path / "photo.stair").stat().st_size <= 30_000
    assert (tmp_path / "back.png").exists()


def test_every_figure_is_small_and_shown_somewhere():
    pages = [ROOT / "README.md", *DOCS.glob("**/*.md")]
    shown = "".join(page.read_text() for page in pages)
    for image in filter(Path.is_file, (DOCS / "images").rglob("*")):
        made = (ROOT / "results" / f"{image.stem}.md").exists()  # docs/build/results_pages.py shows it
        assert made or f"images/{image.relative_to(DOCS / 'images').as_posix()})" in shown, (
            f"no page shows {image.name}"
        )
        if image.suffix == ".svg":
            assert image.stat().st_size < 150_000, image.name


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for package in ("sphinx", "myst_parser", "furo", "sphinx_click", "scipy", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the extra docs is not installed: {package} is missing")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "-q", DOCS, folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.long
def test_the_site_builds_with_every_command_and_every_result(site):
    commands = (site / "commands.html").read_text()
    for name in ("encode", "decode", "info", "train", "export"):
        assert f'id="softstair-{name}"' in commands, name
    assert "--target-size" in commands
    assert 'id="softstair.encode"' in (site / "python.html").read_text()
    for path in (ROOT / "results").glob("*.md"):
        assert (site / "results" / f"{path.stem}.html").exists()


@pytest.mark.long
def test_the_site_asks_no_other_host_for_anything(site):
    for page in site.glob("**/*.html"):
        assert not FETCHES.search(page.read_text()), page
    for sheet in site.glob("**/*.css"):
        assert not STYLE_FETCHES.search(sheet.read_text()), sheet


def test_the_architecture_names_every_room():
    """The picture is drawn from the imports; the table says what each room holds."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "src" / "softstair"
    rooms = {
        path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    missing = {room for room in rooms - {"models"} if not room.startswith("_") and f"`{room}`" not in text}
    assert not missing
