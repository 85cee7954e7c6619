"""A wheel in a fresh virtual environment without torch: what a user gets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import softstair

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


READ_SYMBOLS = """
import hashlib, sys
from softstair import _core
from softstair.codec import read_symbols
(symbols,) = read_symbols(open(sys.argv[1], "rb").read(), threads=1)
print(_core.simd_available(), hashlib.sha256(symbols.z.tobytes() + symbols.y.tobytes()).hexdigest())
"""


@pytest.mark.long
def test_a_build_without_vector_kernels_reads_the_same_symbols(tmp_path, photo):
    stream = tmp_path / "photo.stair"
    stream.write_bytes(softstair.encode(photo, quality=60))
    without = tmp_path / "without"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", without, ROOT]
    subprocess.run([*install, "-Ccmake.define.SOFTSTAIR_SIMD=OFF"], check=True, capture_output=True)

    def symbols(**environment: str) -> list[str]:
        command = [sys.executable, "-c", READ_SYMBOLS, stream]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | environment
        )
        return done.stdout.split()

    usual, plain = symbols(), symbols(PYTHONPATH=str(without))
    assert plain[0] == "False"
    assert plain[1] == usual[1]
