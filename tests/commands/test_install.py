"""A source distribution, a wheel, and the wheel in a fresh environment without torch: what a user gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import softstair

from ..conftest import ROOT

# Programs of this environment first, also where it was not activated.
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def run(*command: object, folder: Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source distribution and the wheel that was built from it."""
    pytest.importorskip("build.env", reason="the extra dev is not installed")
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built, tmp_path_factory) -> Path:
    """The wheel as it would be published: on Linux, repaired."""
    (raw,) = built.glob("*.whl")
    if sys.platform != "linux":
        return raw
    pytest.importorskip("auditwheel", reason="the extra dev is not installed")
    if shutil.which("patchelf", path=TOOLS) is None:
        pytest.skip("auditwheel needs patchelf, which is not installed")
    folder = tmp_path_factory.mktemp("repaired")
    environment = os.environ | {"PATH": TOOLS}
    command = [sys.executable, "-m", "auditwheel", "repair", "-w", folder, raw]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    (repaired,) = folder.glob("*.whl")
    return repaired


@pytest.mark.long
def test_the_source_distribution_holds_what_a_build_needs_and_no_more(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}  # without NAME-VERSION/
    assert {
        "CMakeLists.txt",
        "LICENSE",
        "cpp/src/module.cpp",
        "src/softstair/models/photo-psnr.stairs",
    } <= names
    tops = {name.partition("/")[0] for name in names}
    wanted = {"src", "cpp", "CMakeLists.txt", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"}
    assert tops <= wanted | {"PKG-INFO", ""}
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


@pytest.mark.long
def test_the_wheel_is_for_many_linuxes_and_brings_no_library(wheel):
    if sys.platform == "linux":
        assert "manylinux" in wheel.name
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert all(name.startswith(("softstair/", "softstair-")) for name in names), names
    (library,) = (name for name in names if name.endswith((".so", ".pyd", ".dll", ".dylib")))
    assert library.startswith("softstair/_core.")
    assert "softstair/models/photo-psnr.stairs" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.long
def test_a_fresh_environment_encodes_and_decodes(wheel, tmp_path):
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", environment, folder=tmp_path)
    programs = environment / ("Scripts" if sys.platform == "win32" else "bin")
    python, softstair = programs / "python", programs / "softstair"
    run(python, "-m", "pip", "install", "--quiet", wheel, folder=tmp_path)
    listed = run(python, "-m", "pip", "list", folder=tmp_path)
    assert "torch" not in listed
    photo = ROOT / "examples" / "casa-mila.jpg"
    run(softstair, "encode", photo, "-o", "photo.stair", folder=tmp_path)
    run(softstair, "decode", "photo.stair", "-o", "photo.png", folder=tmp_path)
    assert (tmp_path / "photo.png").stat().st_size > 100_000
    assert "stair" in run(softstair, "try", photo, folder=tmp_path)


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

    def symbols(*options: str, **environment: str) -> list[str]:
        command = [sys.executable, *options, "-c", READ_SYMBOLS, stream]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | environment
        )
        return done.stdout.split()

    # Without site an editable install has no say, which would come before any path.
    path = os.pathsep.join([str(without), *filter(None, sys.path)])
    usual, plain = symbols(), symbols("-S", PYTHONPATH=path)
    assert plain[0] == "False"
    assert plain[1] == usual[1]
