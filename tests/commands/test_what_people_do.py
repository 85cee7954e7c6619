"""The commands among people's files: names, pipes, pages, folders, interrupts, limits."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import softstair
from softstair import files, stopping
from softstair.codec import Rate, encode_picture
from softstair.errors import OutOfMemory, UsageError, ran_out_of_memory
from softstair.folders.jobs import Job, plan
from softstair.folders.work import Outcome, Product, Task, run_here
from softstair.pictures import Picture

from .. import files_of_people as people
from ..conftest import GOLDEN
from ..tiny import photograph
from .test_commands import run

TINY = ["--model", GOLDEN / "v1" / "tiny.stairs"]
COMMAND = [sys.executable, "-c", "from softstair.commands import main; main()"]


def save(path: Path, height: int = 40, width: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(height, width)).save(path)
    return path


# Folders


def test_what_a_folder_run_leaves_out_is_told(tmp_path):
    source, data = tmp_path / "in", people.jpeg()
    for name in ("a.jpg", "b.jfif", "c.jpe", "d.JPEG"):
        save(source / "x.png").with_name(name).write_bytes(data)
    (source / "x.png").unlink()
    for name in ("note.txt", "more.txt", ".hidden.jpg"):
        (source / name).write_bytes(b"")
    os.mkfifo(source / "pipe.jpg")
    (source / "gone.jpg").symlink_to("nowhere")
    done = run("encode", source, "-o", tmp_path / "out", *TINY)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.stair")) == [f"{n}.stair" for n in "abcd"]
    left_out = done.stderr.decode().splitlines()[-1]
    assert left_out.startswith("Left out: 2 .txt")
    for reason in ("1 hidden", "1 pipe or device", "1 broken link"):
        assert reason in left_out


def test_names_that_are_not_utf8(tmp_path):
    (tmp_path / "in").mkdir()
    name = os.fsencode(tmp_path / "in") + b"/Caf\xe9.jpg"
    Path(os.fsdecode(name)).write_bytes(people.jpeg())
    save(tmp_path / "in" / "plain.png")
    done = run("encode", tmp_path / "in", "-o", tmp_path / "out", *TINY)
    assert done.returncode == 0, done.stderr
    assert os.path.exists(os.fsencode(tmp_path / "out") + b"/Caf\xe9.stair")
    assert b"(2 of them before)" in run("encode", tmp_path / "in", "-o", tmp_path / "out", *TINY).stderr
    assert run("info", os.fsdecode(os.fsencode(tmp_path / "out") + b"/Caf\xe9.stair")).returncode == 0


def test_names_that_differ_in_case_are_two_files_only_where_folders_tell_them_apart(tmp_path, monkeypatch):
    save(tmp_path / "from" / "Lake.png"), save(tmp_path / "from" / "lake.png")
    run("encode", tmp_path / "from", "-o", tmp_path / "to", *TINY)
    assert {path.name for path in (tmp_path / "to").glob("?*.stair")} == {"Lake.stair", "lake.stair"}
    old = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # no name can have accents
    assert run("encode", tmp_path / "from", "-o", tmp_path / "ascii", *TINY, **old).returncode == 0
    assert files.tells_apart(tmp_path / "not" / "yet")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

    lexists = os.path.lexists  # what a folder of macOS or a memory card would say
    monkeypatch.setattr(
        os.path, "lexists", lambda path: lexists(path) or ".softstair-" in os.path.basename(path).lower()
    )
    assert not files.tells_apart(tmp_path)
    with pytest.raises(UsageError, match="Two inputs would be written to one output"):
        plan([str(tmp_path / "from")], str(tmp_path / "other"), ".stair", frozenset({".png"}))


def test_a_pipe_among_outputs_and_records_holds_nobody_up(tmp_path):
    save(tmp_path / "in" / "a.png")
    assert run("encode", tmp_path / "in", "-o", tmp_path / "out", *TINY).returncode == 0
    os.mkfifo(tmp_path / "out" / ".softstair" / "other.jsonl")
    assert b"finished already" in run("encode", tmp_path / "in", "-o", tmp_path / "out", *TINY).stderr
    (tmp_path / "out" / "a.stair").unlink()
    os.mkfifo(tmp_path / "out" / "a.stair")
    done = run("encode", tmp_path / "in", "-o", tmp_path / "out", *TINY)
    assert done.returncode == 2
    assert b"was made with other settings" in done.stderr


def test_a_name_with_a_slash_is_a_folder(tmp_path):
    done = run("encode", save(tmp_path / "a.png"), "-o", f"{tmp_path}/new/deep/", *TINY)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "deep" / "a.stair").is_file()


def test_what_would_be_larger_is_told_or_kept(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG", quality=1)
    (source / "small.jpg").write_bytes(buffer.getvalue())
    save(source / "photo.bmp")
    one = run("encode", source / "small.jpg", "-o", tmp_path / "a.stair", "-q", "100", *TINY)
    assert b"It is larger as a .stair file" in one.stderr
    command = ["encode", source, "-o", out, "-q", "100", "--skip-larger", *TINY]
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert b"1 kept as they are" in done.stderr
    assert [path.name for path in out.glob("*.stair")] == ["photo.stair"]
    again = run(*command)
    assert b"(2 of them before)" in again.stderr
    assert run("encode", source, "-o", out, "-q", "100", *TINY).returncode == 0
    assert len(list(out.glob("*.stair"))) == 2


def test_times_are_kept_when_asked_for(tmp_path):
    source = save(tmp_path / "a.png")
    os.utime(source, ns=(10**18, 10**18 + 5 * 10**9))
    assert run("encode", source, "--keep-times", *TINY).returncode == 0
    stair = tmp_path / "a.stair"
    assert stair.stat().st_mtime_ns == 10**18 + 5 * 10**9
    assert run("decode", stair, "-o", tmp_path / "b.png", "--keep-times", *TINY).returncode == 0
    assert (tmp_path / "b.png").stat().st_mtime_ns == stair.stat().st_mtime_ns
    assert run("decode", stair, "-o", tmp_path / "c.png", *TINY).returncode == 0
    assert (tmp_path / "c.png").stat().st_mtime_ns > stair.stat().st_mtime_ns


# Pages and metadata


def test_one_page_or_all(tmp_path):
    pages = [Image.new("L", (20, 10), value) for value in (250, 150, 50)]
    letter = tmp_path / "letter.tif"
    pages[0].save(letter, save_all=True, append_images=pages[1:])
    first = run("encode", letter, *TINY)
    assert first.returncode == 0
    assert b"Only the first of its 3 pages is taken" in first.stderr
    second = run("encode", letter, "--page", "2", "-o", tmp_path / "2.stair", *TINY)
    assert second.returncode == 0, second.stderr
    bundle = softstair.open_bundle(TINY[1])
    found = softstair.decode((tmp_path / "2.stair").read_bytes(), bundle=bundle)
    assert abs(int(found.mean()) - 150) < 12
    every = run("encode", letter, "--page", "all", *TINY)
    assert every.returncode == 0, every.stderr
    files = sorted((tmp_path / "letter").glob("*.stair"))
    assert [path.name for path in files] == ["1.stair", "2.stair", "3.stair"]
    means = [int(softstair.decode(path.read_bytes(), bundle=bundle).mean()) for path in files]
    assert means == sorted(means, reverse=True)


def test_metadata_can_be_left_out_when_decoding(tmp_path):
    (tmp_path / "a.jpg").write_bytes(
        people.jpeg(people.xmp_segment(people.SOURCE), people.photoshop_segment(people.IPTC))
    )
    assert run("encode", tmp_path / "a.jpg", *TINY).returncode == 0
    for strip, kept in (("xmp", (False, True)), ("iptc", (True, False)), ("all", (False, False))):
        out = tmp_path / f"{strip}.jpg"
        assert run("decode", tmp_path / "a.stair", "-o", out, "--strip", strip, *TINY).returncode == 0
        data = out.read_bytes()
        assert (people.SOURCE in data, people.IPTC in data) == kept


def test_what_is_not_kept_is_said_once_a_kind(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(people.ultra_hdr())
    done = run("encode", tmp_path / "in", "-o", tmp_path / "out", *TINY)
    lines = [line for line in done.stderr.decode().splitlines() if "gain map" in line]
    assert len(lines) == 1
    assert lines[0].startswith("5 files: gain map not kept")
    assert "and 2 more" in lines[0]


# Streams that end, memory that ends


def test_a_reader_that_goes_ends_it_quietly(tmp_path):
    source = save(tmp_path / "a.png", 300, 400)
    assert run("encode", source, *TINY).returncode == 0
    for arguments in (("decode", tmp_path / "a.stair", "-o", "-", *TINY), ("models",)):
        command = [*COMMAND, *map(str, arguments)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.close()
            said = process.stderr.read()
        assert (process.returncode, said) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_device_is_one_sentence(tmp_path):
    source = save(tmp_path / "a.png")
    assert run("encode", source, *TINY).returncode == 0
    for arguments in (("info", tmp_path / "a.stair"), ("encode", source, "-o", "-", *TINY), ("models",)):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([*COMMAND, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 2
        assert b"No space left on device" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_closed_output_is_one_sentence_and_no_file_takes_its_place(tmp_path):
    source, made = save(tmp_path / "a.png"), tmp_path / "b.stair"
    shell = ("sh", "-c", '"$@" <&- >&-', "sh", *COMMAND)
    done = subprocess.run([*shell, *map(str, ("encode", source, "-o", made, *TINY))], capture_output=True)
    assert (done.returncode, made.read_bytes()[:4]) == (0, b"\xa5STR")
    done = subprocess.run([*shell, "info", made], capture_output=True)
    assert done.returncode == 2
    assert b"Standard output cannot be written: Bad file descriptor." in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "2>&1 | true"])
@pytest.mark.parametrize("what", ["a.png", "."])
def test_the_work_is_done_though_nobody_hears_of_it(tmp_path, redirected, what):
    save(tmp_path / "a.png")
    shell = ("bash", "-o", "pipefail", "-c", f'"$@" {redirected}', "bash", *COMMAND)
    done = subprocess.run([*shell, "encode", what, "-o", "out/", *map(str, TINY)], cwd=tmp_path)
    assert (done.returncode, (tmp_path / "out" / "a.stair").read_bytes()[:4]) == (0, b"\xa5STR")


def test_standard_input_is_called_so(tmp_path):
    done = run("encode", "-", "-o", tmp_path / "a.stair", *TINY, stdin=b"no picture")
    assert done.stderr.startswith(b"softstair: standard input is not a picture")
    done = run("decode", "-", "-o", tmp_path / "a.png", stdin=b"no stream")
    assert done.stderr.startswith(b"softstair: standard input: The data does not start like")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc"), OutOfMemory()])
def test_running_out_of_memory_is_said_and_nobody_blamed(error):
    class Greedy:
        settings, keeps_sources = b"", False

        def __call__(self, source: bytes, job: Job) -> Product:
            raise error

    outcome = Task(Greedy(), None, False, "run")(Job(__file__, "/nowhere/a", makes_folder=True))
    assert (outcome.failure.code, "memory" in outcome.failure.message) == (5, True)
    assert not ran_out_of_memory(ValueError("a bug"))


@pytest.mark.parametrize("megabytes", [300, 700])
def test_a_limit_of_the_system_on_memory(tmp_path, megabytes):
    source, limit = save(tmp_path / "a.png", 900, 1200), megabytes << 20
    done = subprocess.run(
        [*COMMAND, "encode", str(source)],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode in (0, 5) or b"memory" in done.stderr.lower(), done.stderr


# Interrupts


@pytest.fixture
def interruptible():
    """Ctrl-C reaches this process, also where whoever started it had it ignored, as shells do for jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def encode_for_ever(picture: Picture, bundle: softstair.Bundle) -> None:
    while True:
        encode_picture(picture, Rate(target_psnr=30.0), bundle)


def test_work_ends_at_its_next_step(tiny_bundle):
    """From another thread, in the middle of a search; and goes on when it may again."""
    picture = Picture(photograph(600, 800))
    timer = threading.Timer(0.2, stopping.stop)
    timer.start()
    try:
        with pytest.raises(stopping.Stopped):
            encode_for_ever(picture, tiny_bundle)
    finally:
        timer.join()
        stopping.resume()
    assert encode_picture(Picture(photograph(20, 20)), Rate(50), tiny_bundle).data


def test_interrupted_a_run_ends_and_writes_nothing_more(tmp_path, interruptible):
    written = tmp_path / "out"

    def work(job: Job) -> Outcome:
        while True:
            time.sleep(0.01)
            stopping.check()

    outcomes = run_here(2)(work, [Job(str(number), str(written)) for number in range(9)])
    main = threading.main_thread().ident
    timer = threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT])
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(outcomes)
    timer.join()
    assert time.monotonic() - start < 5
    assert not written.exists()
    stopping.check()  # for what comes next, work may go on


def test_ctrl_c_during_a_large_picture(tmp_path):
    Image.new("RGB", (5000, 3600), (99, 3, 4)).save(tmp_path / "big.png", compress_level=1)
    process = subprocess.Popen(
        [*COMMAND, "encode", str(tmp_path / "big.png")],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(3)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert time.monotonic() - start < 15  # on a machine that has other things to do
    assert (process.returncode, said.strip()) == (130, b"Interrupted.")
    assert [path.name for path in tmp_path.iterdir()] == ["big.png"]


# Terminals


def test_a_terminal_is_sent_no_escapes_of_names(tmp_path):
    pty = pytest.importorskip("pty", reason="Windows has no terminals of this kind")
    name = save(tmp_path / "esc\x1b[31m.png")
    main_end, other_end = pty.openpty()
    process = subprocess.Popen([*COMMAND, "encode", str(name), *map(str, TINY)], stderr=other_end)
    os.close(other_end)
    assert process.wait(60) == 0
    said = os.read(main_end, 10_000)
    os.close(main_end)
    assert b"\\x1b[31m" in said
    assert b"\x1b[31m" not in said


def test_ctrl_c_while_it_starts(tmp_path):
    """Whatever is being imported: a word, and no traceback."""
    source = save(tmp_path / "a.png")
    command = [sys.executable, "-m", "softstair", "encode", str(source), "--force"]
    ended = set()
    for wait in (0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8):  # quick machines are done before the last
        with subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            time.sleep(wait)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
        ended.add(process.returncode)
        if b"Interrupted." in said:
            assert b"Traceback" not in said
            # An extension that was running Python code in its own way makes the interpreter end by the
            # signal itself; a shell calls both 130.
            assert process.returncode in (130, -signal.SIGINT)
    assert 130 in ended


def test_the_package_is_loaded_when_it_is_asked_for():
    code = (
        "import sys, softstair\n"
        "assert 'numpy' not in sys.modules\n"
        "assert softstair.pictures.picture_from and softstair.Bundle and softstair.UsageError\n"
        "assert set(softstair.__all__) <= set(dir(softstair))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
