from __future__ import annotations

import json
import tomllib
from importlib.metadata import metadata

import numpy as np
import pytest

from softstair import doctor, engine
from softstair.engine import Engine

from ..conftest import ROOT
from .test_commands import run, run_here


@pytest.fixture
def quick(monkeypatch):
    """Times are of a small picture."""
    monkeypatch.setattr(doctor, "built_in_picture", lambda whole=doctor.built_in_picture: whole()[:128, :192])


def test_all_is_well():
    done = run("doctor", "-j", 1)
    assert done.returncode == 0, done.stdout
    for word in (b"All is well.", b"onnxruntime", b"synthesis", b"vector kernels", b"photo-psnr"):
        assert word in done.stdout
    if engine.openvino_installed():
        assert done.stdout.count(b"\n  openvino ") == 2  # a package, and times


def test_json_has_it_all(quick):
    done = run_here("doctor", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"]) == (0, [])
    assert found["bundles"][0]["name"] == "photo"
    assert all(times["synthesis"] > 0 for times in found["times"])
    packages = {package["name"]: package for package in found["packages"]}
    assert packages["numpy"]["version"] == np.__version__
    assert packages["numpy"]["extra"] is None
    assert "pytest" not in packages


def test_a_broken_bundle_is_a_problem(quick, monkeypatch, tmp_path):
    (tmp_path / "broken.stairs").write_bytes(b"no bundle")
    monkeypatch.setenv("SOFTSTAIR_MODELS", str(tmp_path))
    done = run_here("doctor", "-j", 1)
    assert done.returncode == 1
    assert b"broken.stairs is not a readable ZIP file" in done.stdout
    assert b"All is well" not in done.stdout


def test_an_engine_that_is_not_there_is_a_problem(quick, monkeypatch):
    monkeypatch.setenv("SOFTSTAIR_ENGINE", "abacus")
    done = run_here("doctor", "-j", 1)
    assert done.returncode == 1
    assert b"abacus" in done.stdout
    assert b"synthesis" in done.stdout


def test_an_engine_that_shows_something_else_is_a_problem(quick, monkeypatch):
    class Inverted:
        def __init__(self, networks):
            self._networks = networks

        def __getattr__(self, name):
            return getattr(self._networks, name)

        def synthesis(self, latents, hat, shown=None):
            return 1 - self._networks.synthesis(latents, hat, shown)

    def load(bundle, threads, wanted, mode):
        networks = engine.load_networks(bundle, threads, Engine.ONNX_RUNTIME, mode)
        return Inverted(networks) if wanted is Engine.OPENVINO else networks

    monkeypatch.setattr(doctor, "load_networks", load)
    monkeypatch.setattr(doctor, "openvino_installed", lambda: True)
    problems = doctor.examine(1).problems
    assert [word in problem for word, problem in zip(("damaged", "different"), problems, strict=True)] == [
        True,
        True,
    ]


@pytest.mark.skipif(
    "cluster" not in metadata("softstair").get_all("Provides-Extra", []), reason="installed before"
)
def test_every_extra_has_a_purpose():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert set(doctor.PURPOSES) == set(extras) - {"dev", "docs"}
