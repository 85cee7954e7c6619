"""The stage ``context``: context networks that pay, exported with the proof of their bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import softstair
from softstair.bundle import CONTEXT, read_bundle
from softstair.errors import UsageError
from softstair.learn.integer.hyper import HyperNetwork, log_magnitude, train_hyper
from softstair.learn.recipe import read_recipe
from softstair.learn.stages import context as stage
from softstair.quantize.rates import interpolate

from ..conftest import GOLDEN
from ..tiny import photograph, write_data, write_recipe

QUICK = stage.Effort(crops=6, place_steps=12, sign_steps=12, hyper_steps=30)


@pytest.fixture
def recipe(tmp_path):
    write_data(tmp_path)
    return read_recipe(write_recipe(tmp_path / "tiny.toml"))


@pytest.fixture
def tiny():
    return read_bundle((GOLDEN / "v1" / "tiny.stairs").read_bytes(), "tiny.stairs")


def test_a_bundle_gets_networks_and_keeps_everything_else(recipe, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_LEAST_GAIN", -1.0)
    made = stage.add_context(recipe, tiny, tmp_path, tmp_path / "with.stairs", effort=QUICK, say=print)
    assert made.integers.context.place is not None
    assert made.integers.context.hyper is not None
    assert made.integers.context.signs is not None
    assert made.fingerprint != tiny.fingerprint
    changed = {"manifest.json", "tables.safetensors", CONTEXT}
    for name in set(tiny.entries) - changed:
        assert made.entries[name] == tiny.entries[name]
    pixels = photograph(75, 90)
    for mode in made.modes:
        data = softstair.encode(pixels, quality=50, bundle=made, mode=mode)
        assert np.abs(softstair.decode(data, bundle=made).astype(int) - pixels).mean() < 40
    with pytest.raises(UsageError, match="context networks already"):
        stage.add_context(recipe, made, tmp_path, tmp_path / "twice.stairs", effort=QUICK, say=print)


def test_networks_that_do_not_pay_are_left_out(recipe, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_LEAST_GAIN", 1.0)
    with pytest.raises(UsageError, match="No context network saves"):
        stage.add_context(recipe, tiny, tmp_path, tmp_path / "with.stairs", effort=QUICK, say=print)
    assert not (tmp_path / "with.stairs").exists()


def test_z_that_follows_its_neighbours_costs_less():
    rng = np.random.default_rng(0)
    taken = []
    for position in (0, 80, 160):
        z = np.zeros((12, 12, 4), np.int16)
        z[..., 0] = np.rint(np.cumsum(rng.normal(0, 1, (12, 12)), 1))
        z[..., 2] = z[..., 0] + rng.integers(-1, 2, (12, 12))
        taken.append((z, position))
    context = train_hyper(taken, 11, 0, 300)
    assert context is not None
    assert context.live.tolist() == [0, 2]
    rows, levels = context.build(4).rows(taken[1][0], interpolate(context.rate, 80))
    lengths = [
        -np.log2(context.tables.probabilities(row)[len(context.tables.probabilities(row)) // 2 - 1 + level])
        for row, level in zip(rows[..., 1].ravel(), levels[..., 1].ravel(), strict=True)
    ]
    plain = np.unique(taken[1][0][..., 2], return_counts=True)[1] / 144
    assert np.mean(lengths) < -(plain * np.log2(plain)).sum()


@torch.no_grad()
def test_the_float_network_of_z_has_the_magnitudes_of_the_integer_one():
    z = torch.arange(-127, 128)
    v = 1 + z.abs()
    whole = torch.floor(torch.log2(v.double()) + 1e-9).long()
    expected = 16 * whole + ((16 * v) >> whole) - 16
    assert torch.equal((log_magnitude(z.float()) * 16).long(), expected)
    assert HyperNetwork(2, 3)(torch.zeros(5, 2), torch.zeros(5, 6, 2), torch.zeros(5, 3))[0].shape == (5, 2)
