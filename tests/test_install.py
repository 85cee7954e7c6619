"""A wheel in a fresh virtual environment without torch: what a user gets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import ROOT


@pytest.mark.long
def test_a_fresh_environment_encodes_and_decodes(tmp_path):
    environment = tmp_path / "venv"

    def run(*command: object) -> str:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    run(sys.executable, "-m", "venv", environment)
    python, softstair = environment / "bin" / "python", environment / "bin" / "softstair"
    run(python, "-m", "pip", "install", "--quiet", ROOT)
    listed = run(python, "-m", "pip", "list")
    assert "torch" not in listed
    photo = ROOT / "examples" / "casa-mila.jpg"
    run(softstair, "encode", photo, "-o", "photo.stair")
    run(softstair, "decode", "photo.stair", "-o", "photo.png")
    assert (tmp_path / "photo.png").stat().st_size > 100_000
    assert "stair" in run(softstair, "try", photo)
