"""Training without an end, and forks of it that have one."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.commands.train import command  # noqa: E402
from softstair.errors import UsageError  # noqa: E402
from softstair.learn.checkpoint import load_checkpoint  # noqa: E402
from softstair.learn.recipe import Batches, Pretrain, read_recipe  # noqa: E402
from softstair.learn.schedule import rate_factor, with_decay  # noqa: E402
from softstair.learn.stages import pretrain as stage  # noqa: E402

from ..tiny import write_data, write_recipe  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def project(tmp_path):
    """A recipe without an end."""
    write_data(tmp_path)
    path = write_recipe(tmp_path / "tiny.toml")
    for line in ("steps = 12\ndecay_from = 4\n", "fixed_from = 8\n"):
        path.write_text(path.read_text().replace(line, ""))
    return tmp_path, read_recipe(path)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_rates_stay_until_a_fork_lets_them_fall(project):
    _, recipe = project
    assert [rate_factor(recipe.pretrain, step) for step in (0, 1, 2, 10**6)] == [0.5, 1, 1, 1]
    ending = with_decay(recipe, 100, 110).pretrain
    factors = [rate_factor(ending, step) for step in range(99, 111)]
    assert factors[:2] == [1, 1]
    assert all(before > after for before, after in pairwise(factors[1:]))
    assert factors[-1] == 0
    assert ending.fixed_from == 105


def test_a_fork_starts_where_its_parent_is_and_leaves_it_alone(project, monkeypatch):
    root, recipe = project
    stage.pretrain(recipe, root, root / "run", CPU, time_budget=1e-9)
    before = contents(root / "run")
    parent = load_checkpoint(root / "run" / "checkpoint.json")
    assert parent["step"] == 2
    began = []
    original = stage.Pretraining.advance

    def spy(self):
        began.append(self.state())
        original(self)

    monkeypatch.setattr(stage.Pretraining, "advance", spy)
    fork = stage.Fork(root / "run", 6)
    stage.pretrain(recipe, root, root / "fork", CPU, fork=fork, time_budget=1e-9)
    torch.testing.assert_close({**began[0], "decay": None}, parent, rtol=0, atol=0)
    parts = stage.pretrain(recipe, root, root / "fork", CPU, fork=fork).state_dict()
    whole = stage.pretrain(recipe, root, root / "whole", CPU, fork=fork).state_dict()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert contents(root / "run") == before
    logged = json.loads((root / "fork" / "log.jsonl").read_text().splitlines()[0])["recipe"]["pretrain"]
    assert (logged["decay_from"], logged["steps"], logged["fixed_from"]) == (2, 8, 5)
    assert load_checkpoint(root / "fork" / "checkpoint.json")["step"] == 8


def test_a_run_that_is_done_says_so(project):
    root, recipe = project
    recipe = msgspec.structs.replace(recipe, pretrain=msgspec.structs.replace(recipe.pretrain, steps=2))
    trained = stage.pretrain(recipe, root, root / "run", CPU).state_dict()
    before, said = contents(root / "run"), []
    again = stage.pretrain(recipe, root, root / "run", CPU, say=said.append).state_dict()
    assert said == [f"{root / 'run'} has taken all its 2 steps; raise pretrain.steps to go on."]
    assert contents(root / "run") == before
    assert all(torch.equal(value, trained[name]) for name, value in again.items())


def test_a_run_that_has_no_checkpoint_cannot_be_forked(project):
    root, recipe = project
    with pytest.raises(UsageError, match="no checkpoint to fork"):
        stage.pretrain(recipe, root, root / "fork", CPU, fork=stage.Fork(root / "run", 3))


@pytest.mark.parametrize(
    "options", [["--fork", "x"], ["--decay", "3"], ["--fork", "x", "--decay", "3", "--start", "y"]]
)
def test_options_of_a_fork_go_together(project, options):
    root, _ = project
    with pytest.raises(UsageError, match="--fork"):
        CliRunner().invoke(command, [str(root / "tiny.toml"), *options], catch_exceptions=False)


def test_the_command_forks_its_run(project):
    root, _ = project
    given = [str(root / "tiny.toml"), "--data-root", str(root), "--run", str(root / "run")]
    for more in (["--time-budget", "1e-9"], ["--fork", str(root / "fork"), "--decay", "3"]):
        assert CliRunner().invoke(command, [*given, *more], catch_exceptions=False).exit_code == 0
    assert load_checkpoint(root / "run" / "checkpoint.json")["step"] == 2
    assert load_checkpoint(root / "fork" / "checkpoint.json")["step"] == 5


def test_rates_must_fall_before_the_end():
    batches = [Batches(0, 2, 64)]
    for steps in (None, 4):
        with pytest.raises(ValueError, match="decay_from"):
            Pretrain(batches, steps=steps, decay_from=4)


def test_a_run_is_no_fork_of_another(project):
    """Else the two folders, given the wrong way round, would go on training as if nothing were asked."""
    root, recipe = project
    stage.pretrain(recipe, root, root / "run", CPU, time_budget=1e-9)
    before = contents(root / "run")
    with pytest.raises(UsageError, match="a run of its own"):
        stage.pretrain(recipe, root, root / "run", CPU, fork=stage.Fork(root / "other", 6))
    assert contents(root / "run") == before
