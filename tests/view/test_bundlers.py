"""Pages that Vite and webpack make of the packed packages decode a picture in Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from softstair.share import write_packages

from ..browsers import CHROMIUM, Site, opened
from ..format.test_golden import FOLDER
from .test_js import PACKAGE, as_rgba

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]
MAIN = """
import { decode } from "softstair";
import bundle from "softstair-bundle-tiny";

const post = (path, body) => fetch(path, { method: "POST", body });
try {
  const picture = await decode(await fetch("/v1/plain.stair"), { bundle });
  await post("/pixels", picture.data);
  await post("/done", JSON.stringify({ width: picture.width, height: picture.height }));
} catch (error) {
  await post("/done", JSON.stringify({ error: String(error.stack ?? error) }));
}
"""
PAGE = '<!doctype html><meta charset="utf-8"><title>Test</title><script type="module" src="{}"></script>'
TOOLS = {
    "vite": (("vite@8.4.0",), ("vite", "build", "--base", "/app/", "--logLevel", "warn")),
    "webpack": (
        ("webpack@5.113.0", "webpack-cli@7.3.1"),
        ("webpack", "--mode", "production", "--entry", "./main.js", "--output-path", "dist"),
    ),
}


def npm(folder: Path, *arguments: str) -> str:
    command = ["npm", *arguments, "--no-audit", "--no-fund"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.parametrize("tool", TOOLS)
def test_a_page_made_by(tool, tmp_path, tiny_bundle):
    (packed,) = json.loads(npm(tmp_path, "pack", "--json", str(PACKAGE)))
    write_packages(tmp_path / "packages", [tiny_bundle])
    (bundle,) = (tmp_path / "packages").iterdir()
    site_folder = tmp_path / "site"
    site_folder.mkdir()
    (site_folder / "package.json").write_text('{"type": "module", "private": true}')
    (site_folder / "main.js").write_text(MAIN.replace("softstair-bundle-tiny", bundle.name))
    (site_folder / "index.html").write_text(PAGE.format("/main.js"))
    tools, command = TOOLS[tool]
    try:
        npm(site_folder, "install", str(tmp_path / packed["filename"]), str(bundle), *tools)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip(f"npm cannot install {' and '.join(tools)}")
    done = subprocess.run(
        ["npx", "--no-install", *command], cwd=site_folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if tool == "webpack":
        (site_folder / "dist" / "index.html").write_text(PAGE.format("main.js"))
    site = Site({"app": site_folder / "dist", "v1": FOLDER}, {})
    with opened(CHROMIUM, site.address + "/app/index.html"):
        assert site.done.wait(60), f"asked for {site.asked}"
    site.close()
    found = json.loads(site.posted["/done"])
    expected = json.loads((FOLDER / "expected.json").read_text())["plain"]
    with np.load(FOLDER / expected["pixels"]) as stored:
        reference = as_rgba(stored["arr_0"]).astype(int)
    assert found == {"width": reference.shape[1], "height": reference.shape[0]}
    pixels = np.frombuffer(site.posted["/pixels"], np.uint8).reshape(reference.shape)
    assert np.abs(pixels - reference).max() <= 1
