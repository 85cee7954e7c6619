"""The WebAssembly in the repository is what its sources make."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

import pytest

from ..c_library import ROOT
from .test_js import PACKAGE

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs ziglang (the extra wasm)"),
    pytest.mark.skipif(shutil.which("npx") is None, reason="needs npx"),
]


def test_built_anew_it_is_the_same(tmp_path):
    command = ["npx", "--yes", "--package", "binaryen@132.0.0", "wasm-opt", "--version"]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("npx cannot get binaryen 132.0.0")
    subprocess.run([sys.executable, ROOT / "cpp" / "wasm" / "build.py", tmp_path], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.glob("*.wasm")}
    assert set(made) == {"softstair.wasm", "softstair-relaxed.wasm"}
    for name, content in made.items():
        assert content == (PACKAGE / name).read_bytes(), f"{name} is not of these sources; run make web"
