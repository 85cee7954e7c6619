"""A checkpoint is the old one or the new one, wherever its writing is interrupted."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.errors import UsageError  # noqa: E402
from softstair.learn import checkpoint as module  # noqa: E402
from softstair.learn.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402

PIECE = 1500


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Of a checkpoint in several pieces, of step 0."""
    monkeypatch.setattr(module, "PIECE_BYTES", PIECE)
    save_checkpoint(tmp_path / "checkpoint.json", state(0))
    return tmp_path / "checkpoint.json"


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((1000,), float(step))}


def step_of(path: Path) -> int:
    """The step of a checkpoint, all of which is of that step."""
    loaded = load_checkpoint(path)
    assert (loaded["weights"] == loaded["step"]).all()
    return loaded["step"]


def test_pieces_travel_and_do_not_pile_up(path):
    assert module.PIECE_BYTES < 16 * 2**20
    for step in range(1, 4):
        save_checkpoint(path, state(step))
        assert step_of(path) == step
    pieces = [file for file in path.parent.iterdir() if file != path]
    assert len(pieces) > 2
    assert max(piece.stat().st_size for piece in pieces) == PIECE
    assert {piece.name for piece in pieces} == set(module.read_index(path).pieces)


class _Interruption(Exception):
    """Stands for a loss of power."""


def interrupt_before(patch: pytest.MonkeyPatch, last: int) -> list[str]:
    """Let ``last`` operations that change files pass, then stop; returns what passed.

    What was written and not flushed to the disk is lost.
    """
    passed: list[str] = []

    def counted(owner, name):
        operation = getattr(owner, name)

        def run(*given, **settings):
            if name == "open" and not given[1] & os.O_WRONLY:
                return operation(*given, **settings)  # only reads
            if len(passed) == last:
                if name == "fsync" and stat.S_ISREG(os.fstat(given[0]).st_mode):
                    os.ftruncate(given[0], 0)
                raise _Interruption
            passed.append(name)
            return operation(*given, **settings)

        patch.setattr(owner, name, run)

    for owner, name in ((os, "open"), (os, "replace"), (Path, "unlink"), (os, "fsync")):
        counted(owner, name)
    return passed


def test_an_interruption_anywhere_leaves_the_old_or_the_new(path):
    found, last = {0}, 0
    while True:
        before = step_of(path)
        with pytest.MonkeyPatch.context() as patch:
            passed = interrupt_before(patch, last)
            try:
                save_checkpoint(path, state(last + 1))
            except _Interruption:
                last += 1
            else:
                break
        assert step_of(path) in (before, last)
        found.add(step_of(path))
    assert set(passed) == {"open", "replace", "unlink", "fsync"}
    assert 2 < len(found) < last  # some were the old one, some the new
    assert step_of(path) == last + 1
    assert len(list(path.parent.iterdir())) == 1 + len(module.read_index(path).pieces)


def test_a_run_that_goes_on_may_be_read(path, monkeypatch):
    """Its pieces are replaced between a look at the index and one at them."""
    original, steps = Path.read_bytes, iter((7,))

    def read(file: Path) -> bytes:
        data = original(file)
        if file == path and next(steps, None):
            monkeypatch.setattr(Path, "read_bytes", original)
            save_checkpoint(path, state(7))
        return data

    monkeypatch.setattr(Path, "read_bytes", read)
    assert step_of(path) == 7


def test_a_damaged_checkpoint_is_one_sentence(path):
    first = path.with_name(module.read_index(path).pieces[0])
    content = first.read_bytes()
    for damaged in (content[:-1], content[:50] + b"?" + content[51:]):
        first.write_bytes(damaged)
        with pytest.raises(UsageError, match="pieces have changed"):
            load_checkpoint(path)
    first.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        load_checkpoint(path)
    path.write_bytes(b"{")
    with pytest.raises(UsageError, match="cannot be read"):
        load_checkpoint(path)


def test_a_checkpoint_runs_no_code(path):
    class Attack:
        def __reduce__(self):
            return (os.system, ("true",))

    buffer = io.BytesIO()
    torch.save({"step": Attack()}, buffer)
    save_checkpoint(path, {"step": 1})
    index = module.read_index(path)
    path.with_name(index.pieces[0]).write_bytes(buffer.getvalue())
    digest = module.hashlib.sha256(buffer.getvalue()).hexdigest()
    path.write_bytes(module.msgspec.json.encode(module.Index(0, index.pieces[:1], digest)))
    with pytest.raises(UsageError, match="cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["../outside.part", "/etc/passwd", "a\\b.part", "x\0.part", ".part"])
def test_an_index_names_nothing_but_pieces_beside_it(tmp_path, name):
    path = tmp_path / "checkpoint.json"
    save_checkpoint(path, {"step": 1})
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"pieces": [name]}))
    with pytest.raises(UsageError, match="cannot be read"):
        load_checkpoint(path)
