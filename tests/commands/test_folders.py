"""Folders: mirrored, resumed, and whole whatever happens."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import click
import pytest
from PIL import Image

import softstair
from softstair import files
from softstair.commands.running import run_all
from softstair.errors import NoSpace, OutputExists, UsageError
from softstair.folders.jobs import Job, plan
from softstair.folders.ledger import FOLDER, State, ledger_of
from softstair.folders.work import Outcome, Product, Task, run_here
from softstair.whole_file import write_whole

from ..conftest import GOLDEN
from ..tiny import photograph
from .test_commands import run

TINY = GOLDEN / "v1" / "tiny.stairs"
PICTURES = frozenset({".png", ".jpg"})


class Reverse:
    """Stands in for a codec."""

    def __init__(self, settings: bytes = b"plain") -> None:
        self.settings, self.done, self.keeps_sources = settings, [], False

    def __call__(self, source: bytes, job: Job) -> Product:
        self.done.append(Path(job.source).name)
        if source == b"bad":
            raise UsageError("It is bad.")
        if source == b"bug":
            raise ZeroDivisionError("a bug")
        return Product(source[::-1], "reversed")


@pytest.fixture
def tree(tmp_path) -> Path:
    folder = tmp_path / "in"
    for name in ("b.png", "a.jpg", "sub/a.png", "sub/deep/c.PNG", ".hidden.png", ".trash/x.png", "note.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"picture {name}".encode())
    return folder


def names(folder: Path) -> list[str]:
    """All files but the ledger's."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.parts[0] != FOLDER)


def reverse(tree: Path, out: Path, *, force: bool = False, settings: bytes = b"plain") -> Reverse:
    work = Reverse(settings)
    run_all(plan([str(tree)], str(out), ".out", PICTURES), work, run_here(2), "Testing", force=force)
    return work


def test_sub_folders_are_mirrored(tree, tmp_path):
    reverse(tree, tmp_path / "out")
    assert names(tmp_path / "out") == ["a.out", "b.out", "sub/a.out", "sub/deep/c.out"]
    assert (tmp_path / "out" / "sub" / "a.out").read_bytes() == b"picture sub/a.png"[::-1]


def test_outputs_beside_their_sources_and_below_them(tree):
    jobs = plan([str(tree)], None, ".out", PICTURES).jobs
    assert jobs[2] == Job(str(tree / "sub" / "a.png"), str(tree / "sub" / "a.out"))
    inside = tree / "sub" / "out"
    inside.mkdir()
    (inside / "made.png").touch()
    assert len(plan([str(tree)], str(inside), ".out", PICTURES).jobs) == 4


def test_collisions_are_told_before_work_begins(tree, tmp_path):
    for name in ("a.png", "sub/a.jpg"):
        (tree / name).touch()
    with pytest.raises(UsageError, match=r"a.jpg and .*a.png to .*a.out; .*sub"):
        plan([str(tree)], str(tmp_path / "out"), ".out", PICTURES)
    assert not (tmp_path / "out").exists()


def test_an_unreadable_folder_is_told(tree, monkeypatch):
    def walk(folder, onerror):
        onerror(PermissionError(13, "Permission denied", str(folder)))
        return []

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(UsageError, match="Permission denied"):
        plan([str(tree)], None, ".out", PICTURES)


def test_what_is_finished_is_not_done_again(tree, tmp_path, capfd):
    out = tmp_path / "out"
    assert len(reverse(tree, out).done) == 4
    (out / "b.out").unlink()
    assert reverse(tree, out).done == ["b.png"]
    assert "4 of 4 files done (3 of them before)" in capfd.readouterr().err
    assert reverse(tree, out).done == []
    assert len(reverse(tree, out, force=True).done) == 4


def test_a_changed_source_is_done_again_whatever_its_date(tree, tmp_path):
    out = tmp_path / "out"
    reverse(tree, out)
    (tree / "b.png").write_bytes(b"another")
    os.utime(tree / "b.png", (1, 1))
    assert reverse(tree, out).done == ["b.png"]
    assert (out / "b.out").read_bytes() == b"rehtona"


@pytest.mark.parametrize("change", ["cut", "other", "settings"])
def test_what_is_not_ours_is_neither_kept_for_finished_nor_replaced(tree, tmp_path, change, capfd):
    out = tmp_path / "out"
    reverse(tree, out)
    found = (out / "b.out").read_bytes()
    if change != "settings":
        (out / "b.out").write_bytes(found[:-1] if change == "cut" else b"mine")
    left = (out / "b.out").read_bytes()
    settings = b"others" if change == "settings" else b"plain"
    with pytest.raises(click.exceptions.Exit) as stop:
        reverse(tree, out, settings=settings)
    assert stop.value.exit_code == 2
    assert "--force" in capfd.readouterr().err
    assert (out / "b.out").read_bytes() == left
    reverse(tree, out, settings=settings, force=True)
    assert (out / "b.out").read_bytes() == found
    assert reverse(tree, out, settings=settings).done == []


def test_a_line_cut_short_says_nothing(tmp_path):
    ledger = ledger_of(str(tmp_path), "first")
    for name in ("one", "two"):
        ledger.note(str(tmp_path / name), b"source", b"settings", b"output")
        (tmp_path / name).write_bytes(b"output")
    (path,) = (tmp_path / FOLDER).iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    again = ledger_of(str(tmp_path), "second")
    assert again.state(str(tmp_path / "one"), b"source", b"settings") is State.FINISHED
    assert again.state(str(tmp_path / "two"), b"source", b"settings") is State.FOREIGN
    assert again.state(str(tmp_path / "three"), b"source", b"settings") is State.MISSING


def test_errors_and_bugs_stop_only_their_own_file(tree, tmp_path, capfd):
    (tree / "a.jpg").write_bytes(b"bug")
    (tree / "b.png").write_bytes(b"bad")
    with pytest.raises(click.exceptions.Exit) as stop:
        reverse(tree, tmp_path / "out")
    assert stop.value.exit_code == 1
    told = capfd.readouterr().err
    assert "b.png: It is bad." in told
    assert "internal error, ZeroDivisionError" in told
    assert "2 of 4 files done, 39 bytes to 39 bytes, 2 failed" in told
    assert names(tmp_path / "out") == ["sub/a.out", "sub/deep/c.out"]


def test_a_full_disk_ends_the_run(tree, tmp_path, monkeypatch, capfd):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_whole", full)
    with pytest.raises(click.exceptions.Exit) as stop:
        run_all(
            plan([str(tree)], str(tmp_path / "out"), ".out", PICTURES),
            Reverse(),
            one_by_one,
            "Testing",
            force=False,
        )
    assert stop.value.exit_code == 2
    told = capfd.readouterr().err
    assert told.count("No space left on device") == 1
    assert "0 of 4 files done, 1 failed, 3 not begun" in told
    assert names(tmp_path / "out") == []


def one_by_one(task: Task, jobs):
    return map(task, jobs)


def test_interrupted_it_begins_nothing_more():
    begun = threading.Event()

    def work(job: Job) -> Outcome:
        begun.set()
        time.sleep(0.05)
        return Outcome(job)

    jobs = [Job(str(index), str(index)) for index in range(200)]
    outcomes = run_here(2)(work, jobs)
    next(outcomes)
    start = time.monotonic()
    outcomes.close()
    assert time.monotonic() - start < 5


# Whole files


def test_a_real_full_disk(tmp_path):
    """A tiny file system where this may mount one; elsewhere, the system's limit on a file's size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        if mounted:
            with pytest.raises(NoSpace, match="No space left on device"):
                files.write(str(disk / "a"), bytes(1 << 20))
            assert list(disk.iterdir()) == []
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(UsageError, match="cannot be written: File too large"):
            files.write(str(disk / "b"), bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(disk.iterdir()) == []


def test_a_file_gets_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(str(tmp_path / "a"), b"data")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_long_and_odd_names(tmp_path):
    for name in ("x" * 250, "é" * 120, ".dot", "a[1]*?"):
        files.write(str(tmp_path / name), name.encode())
        assert (tmp_path / name).read_bytes() == name.encode()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"theirs")
    with pytest.raises(OutputExists):
        files.write(str(tmp_path / "a"), b"ours", replace=False)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"theirs"]


def test_what_a_killed_writer_left_is_taken_over(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "from softstair.whole_file import write_whole\n"
        "write_whole(pathlib.Path(sys.argv[1]), bytes(1000))"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False)
        assert [path.name for path in tmp_path.iterdir()] == [".a.0.part"]
    write_whole(tmp_path / "a", b"short")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"short")]


def test_strangers_siblings_are_left_alone(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".a.0.part").hardlink_to(tmp_path / "precious")
    (tmp_path / ".a.1.part").write_bytes(b"")
    write_whole(tmp_path / "a", b"data")
    assert (tmp_path / "a").read_bytes() == b"data"
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_many_writers_of_one_file(tmp_path):
    """Processes and threads replace one file all the time; whoever reads it finds it whole."""
    path = tmp_path / "shared"
    code = (
        "import pathlib, sys, threading\n"
        "from softstair.whole_file import write_whole\n"
        "def write(letter):\n"
        "    for size in range(40):\n"
        "        write_whole(pathlib.Path(sys.argv[1]), letter * (1000 * size + 1))\n"
        "threads = [threading.Thread(target=write, args=(letter,)) for letter in (b'a', b'b')]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE) for _ in range(2)
    ]
    read = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            data = path.read_bytes()
            assert len(data) % 1000 == 1
            assert len(set(data)) == 1
            read += 1
    for writer in writers:
        assert writer.communicate()[1] == b""
    assert read > 0
    assert [found.name for found in tmp_path.iterdir()] == ["shared"]


def test_killed_at_any_moment_a_folder_holds_whole_files_and_is_resumed(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    for index in range(12):
        place = source / "sub" if index % 2 else source
        Image.fromarray(photograph(70, 90, index)).save(place / f"{index}.png")
    code = "from softstair.commands import main; main()"
    command = [sys.executable, "-c", code, "encode", str(source), "-o", str(out), "-j", "2"]
    command += ["--model", str(TINY)]
    chance, kept = random.Random(15), {}
    for _ in range(4):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
        until, begun = time.monotonic() + 60, len(kept)
        while len(list(out.rglob("[!.]*.stair"))) <= begun and time.monotonic() < until:
            time.sleep(0.001)
            if process.poll() is not None:
                break
        time.sleep(chance.random() * 0.02)
        with suppress(ProcessLookupError):  # it was done in the meantime
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for path in out.rglob("[!.]*.stair"):
            data = path.read_bytes()
            softstair.decode(data, bundle=softstair.open_bundle(TINY), threads=1)
            assert kept.setdefault(path, data) == data
    done = run(*command[3:])
    assert done.returncode == 0, done.stderr
    assert b"12 of 12 files done" in done.stderr
    assert b"of them before" in done.stderr
    assert len(names(out)) == 12
    assert all(path.read_bytes() == data for path, data in kept.items())


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_two_commands_on_one_folder(tmp_path, force):
    """They may do a file twice, and neither harms it."""
    (tmp_path / "in").mkdir()
    for index in range(4):
        Image.fromarray(photograph(40, 50, index)).save(tmp_path / "in" / f"{index}.png")
    code = "from softstair.commands import main; main()"
    command = [sys.executable, "-c", code, "encode", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    both = [subprocess.Popen([*command, *force, "-j", "1"], stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        told = process.communicate()[1]
        assert process.returncode == 0, told
    assert names(tmp_path / "out") == [f"{index}.stair" for index in range(4)]
    for path in (tmp_path / "out").glob("*.stair"):
        assert softstair.decode(path.read_bytes()).shape == (40, 50, 3)
    assert b"(4 of them before)" in run(*command[3:]).stderr


def test_a_decoded_folder_is_resumed(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        path = tmp_path / "in" / f"{name}.stair"
        path.write_bytes((GOLDEN / "v1" / "plain.stair").read_bytes())
    command = ["decode", tmp_path / "in", "-o", tmp_path / "out", "--model", TINY]
    assert run(*command).returncode == 0
    assert names(tmp_path / "out") == ["a.png", "sub/b.png"]
    assert b"(2 of them before)" in run(*command).stderr
    assert run(*command, "--scale", "1/2").returncode == 2


def test_one_file_into_a_folder_leaves_nothing_beside_it(tmp_path):
    Image.fromarray(photograph(40, 50)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "out").returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.stair"]
