"""Folders on a Dask cluster of real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

import softstair
from softstair.errors import UsageError
from softstair.folders import cluster
from softstair.folders.jobs import Job, WorkList
from softstair.folders.work import Task

from ..tiny import photograph
from .test_commands import run
from .test_folders import Reverse, names

TASK = Task(Reverse(), None, False, "run")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"softstair\[cluster\]"):
        cluster.run_on_cluster("tcp://127.0.0.1:1")


def test_jobs_and_scheduler_contradict(tmp_path):
    Image.fromarray(photograph(40, 50)).save(tmp_path / "a.png")
    done = run("encode", tmp_path, "--scheduler", "tcp://127.0.0.1:1", "-j", 2)
    assert done.returncode == 2
    assert b"leave out --jobs" in done.stderr


def test_names_mean_the_same_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = cluster.absolute(WorkList((Job("a", "out/a"),), "out"))
    assert found == WorkList((Job(f"{tmp_path}/a", f"{tmp_path}/out/a"),), f"{tmp_path}/out")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://"])
def test_no_scheduler_answers(monkeypatch, address):
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    monkeypatch.setattr(cluster, "_SECONDS_TO_ANSWER", 1)
    with pytest.raises(UsageError, match="No Dask scheduler answers"):
        next(cluster.run_on_cluster(address)(TASK, []))


@pytest.fixture
def dask(tmp_path):
    """A scheduler's address and a function that starts a worker of one thread."""
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    address_file, processes = tmp_path / "scheduler.json", []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(address_file)]
        command = [sys.executable, "-m", "dask", *arguments, *common]
        log = (tmp_path / f"{arguments[0]}-{len(processes)}.log").open("wb")
        with log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path))
        return processes[-1]

    def worker(name: str) -> subprocess.Popen[bytes]:
        return start("worker", "--no-nanny", "--nthreads", "1", "--name", name)

    start("scheduler", "--port", "0")
    until = time.monotonic() + 120
    while not address_file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    yield json.loads(address_file.read_text())["address"], worker
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.long
def test_a_worker_is_killed_while_working(dask, tmp_path):
    address, worker = dask
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    for index in range(24):
        place = source / "sub" if index % 2 else source
        Image.fromarray(photograph(200, 300, index)).save(place / f"{index}.png")
    (source / "bad.png").write_bytes(b"not a picture")
    first, second = worker("first"), worker("second")
    code = "from softstair.commands import main; main()"
    command = [sys.executable, "-c", code, "encode", str(source), "-o", str(out), "--scheduler", address]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    until = time.monotonic() + 240
    while len(list(out.rglob("[!.]*.stair"))) < 6 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    told = process.communicate(timeout=240)[1]
    assert first.wait() == -signal.SIGKILL
    assert second.poll() is None
    assert process.returncode == 2, told
    assert b"bad.png is not a picture" in told
    assert b"24 of 25 files done" in told
    pictures = [name for name in names(out) if name.endswith(".stair")]
    assert len(pictures) == 24
    for name in pictures:
        assert softstair.decode((out / name).read_bytes()).shape == (200, 300, 3)
    (source / "bad.png").unlink()
    again = run("encode", source, "-o", out)
    assert again.returncode == 0, again.stderr
    assert b"24 of 24 files done (24 of them before)" in again.stderr


@pytest.mark.long
def test_a_cluster_without_workers(dask, monkeypatch):
    address, _ = dask
    monkeypatch.setattr(cluster, "_SECONDS_TO_ANSWER", 3)
    with pytest.raises(UsageError, match="has no workers"):
        next(cluster.run_on_cluster(address)(TASK, []))
