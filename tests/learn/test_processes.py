"""A step is the same whoever computes its crops: one process or several, at once or one by one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.errors import UsageError  # noqa: E402
from softstair.learn.checkpoint import load_checkpoint  # noqa: E402
from softstair.learn.data import Crops, load_pictures  # noqa: E402
from softstair.learn.log import Log  # noqa: E402
from softstair.learn.noise import draw_noise, draw_spread  # noqa: E402
from softstair.learn.precision import Choice  # noqa: E402
from softstair.learn.processes import Processes  # noqa: E402
from softstair.learn.recipe import read_recipe  # noqa: E402
from softstair.learn.stages import pretrain as stage  # noqa: E402

from ..tiny import write_data, write_recipe  # noqa: E402

CPU = torch.device("cpu")


class Alone(Processes):
    """One process of several whose sums the test adds up itself."""

    def add(self, tensors):
        pass

    def follow_first(self, tensors):
        pass


@pytest.fixture
def project(tmp_path):
    write_data(tmp_path)
    return tmp_path, read_recipe(write_recipe(tmp_path / "tiny.toml"))


@pytest.fixture
def in_float32(monkeypatch):
    """Without bfloat16 sums differ by their order alone."""
    monkeypatch.setattr(torch, "autocast", lambda *given, **settings: contextlib.nullcontext())


def with_pretrain(recipe, **changes):
    return msgspec.structs.replace(recipe, pretrain=msgspec.structs.replace(recipe.pretrain, **changes))


def gradients(project, processes, step=3, **changes):
    """Values and gradients of a step of a run that has just begun."""
    root, recipe = project
    recipe = with_pretrain(recipe, **changes)
    trainer = stage.Pretraining(recipe, processes, Log(None), Choice("float32"))
    crops = Crops(load_pictures([root / "train"]), recipe.seed)
    trainer.start(None, crops)
    trainer.step = step
    part = trainer.batch_at(step)
    cuts = crops.cuts(step, part.count, part.side)
    share = [cuts[index] for index in processes.share(part.count)]
    values = trainer.descend(crops.gather(share, part.side))
    return values, {name: p.grad for name, p in trainer.codec.named_parameters() if p.grad is not None}


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    assert set(found[1]) == set(expected[1])
    for name, gradient in expected[1].items():
        error = (found[1][name] - gradient).norm() / gradient.norm().clamp_min(1e-4)
        assert error < 1e-3, name


def test_processes_add_up_to_one(project, in_float32):
    whole = gradients(project, Processes(CPU))
    shares = [gradients(project, Alone(CPU, rank, 3)) for rank in range(3)]
    values = {name: sum(share[0][name] for share in shares) for name in whole[0]}
    summed = {name: sum(share[1][name] for share in shares) for name in whole[1]}
    assert_same((values, summed), whole)


@pytest.mark.parametrize("at_once", [1, 3])
def test_crops_may_pass_a_few_at_once(project, in_float32, at_once):
    assert_same(gradients(project, Processes(CPU), at_once=at_once), gradients(project, Processes(CPU)))


def test_noise_depends_on_the_step_and_the_crop_alone(project):
    shape = project[1].shape
    whole = draw_noise(shape, 1, 5, 4, range(4), 128, CPU)
    odd = draw_noise(shape, 1, 5, 4, range(1, 4, 2), 128, CPU)
    for all_crops, some in zip(whole, odd, strict=True):
        assert torch.equal(all_crops[1::2], some)
        assert len(torch.unique(all_crops)) == pytest.approx(all_crops.numel(), rel=0.01)
        assert abs(all_crops.mean()) < 0.02
        assert all_crops.var() == pytest.approx(1 / 12, rel=0.05)
    later = draw_noise(shape, 1, 6, 4, range(4), 128, CPU)
    assert not torch.equal(whole.y, later.y)
    spread = draw_spread(1, 5, 4)
    assert torch.equal(spread, draw_spread(1, 5, 4))
    assert (spread.sort().values.diff() - 0.25).abs().max() < 1e-12


def test_more_processes_than_crops_are_refused(project, monkeypatch):
    root, recipe = project

    @contextlib.contextmanager
    def five(device):
        yield Alone(device, 0, 5)

    monkeypatch.setattr(stage, "join", five)
    with pytest.raises(UsageError, match="2 crops cannot be shared by 5 processes"):
        stage.pretrain(recipe, root, root / "run", CPU)


def launch(root, processes, run, *options):
    """Train under torchrun; returns what was said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += [str(processes), "-m", "--", "softstair", "train", "tiny.toml", "--run", run, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.long
def test_two_processes_train_like_one(project):
    root, _ = project
    text = (root / "tiny.toml").read_text().replace("validate_every = 1000", "validate_every = 6")
    (root / "tiny.toml").write_text(text)
    stage.pretrain(read_recipe(root / "tiny.toml"), root, root / "one", CPU)
    said = launch(root, 2, "two")
    assert said.count("held out") == 2  # one of them speaks
    texts = [(root / run / "log.jsonl").read_text() for run in ("one", "two")]
    logs = [[json.loads(line) for line in text.splitlines()] for text in texts]
    assert logs[1][0]["environment"]["processes"] == 2
    for one, two in zip(*logs, strict=True):
        assert one["event"] == two["event"]
        if one["event"] == "validate":
            for mine, other in zip(one["points"], two["points"], strict=True):
                assert mine == pytest.approx(other, rel=0.02)
        if one["event"] == "train":
            assert one["loss"] == pytest.approx(two["loss"], rel=0.01)


@pytest.mark.long
def test_two_processes_resume_exactly(project):
    root, _ = project
    launch(root, 2, "whole")
    launch(root, 2, "parts", "--time-budget", "1e-9")
    assert load_checkpoint(root / "parts" / "checkpoint.json")["step"] == 2
    launch(root, 2, "parts")
    whole, parts = (load_checkpoint(root / run / "checkpoint.json") for run in ("whole", "parts"))
    for name, value in whole["average"].items():
        assert torch.equal(value, parts["average"][name]), name
    assert "has taken all its 12 steps" in launch(root, 2, "parts")
