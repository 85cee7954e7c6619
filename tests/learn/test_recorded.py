"""Work that is recorded on a GPU does what it does as it stands."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.learn import recorded  # noqa: E402
from softstair.learn.log import Log  # noqa: E402
from softstair.learn.precision import Choice  # noqa: E402
from softstair.learn.processes import Processes  # noqa: E402
from softstair.learn.recipe import read_recipe  # noqa: E402
from softstair.learn.recorded import Recorded  # noqa: E402
from softstair.learn.stages.pretrain import Pretraining  # noqa: E402

from ..tiny import write_recipe  # noqa: E402

STEPS = 6  # more than are taken before a recording


def test_without_a_gpu_work_is_done_every_time():
    total = torch.zeros(2)

    def add(x):
        total.add_(x)
        return total

    work = Recorded(add)
    for state in (1, 1, 2, 1, 1, 1):
        result = work(torch.ones(2), state=state)
    assert torch.equal(result, torch.full((2,), 6.0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_recorded_steps_are_those_that_are_not(tmp_path, monkeypatch):
    recipe = read_recipe(write_recipe(tmp_path / "tiny.toml"))

    def train():
        torch.manual_seed(0)
        stage = Pretraining(recipe, Processes(torch.device("cuda")), Log(None), Choice("float32"))
        generator = torch.Generator("cuda").manual_seed(1)
        for _ in range(STEPS):
            part = stage.batch_at(stage.step)
            shape = (part.count, 3, part.side, part.side)
            stage.learn(torch.randint(0, 256, shape, generator=generator, device="cuda").byte())
        return stage.codec.state_dict()

    replayed = train()
    monkeypatch.setattr(recorded, "AS_IT_STANDS", STEPS)
    for name, value in train().items():
        torch.testing.assert_close(replayed[name], value, rtol=1e-2, atol=1e-3)
