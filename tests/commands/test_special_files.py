"""Devices, pipes, links and other people's files: written into or left alone, never replaced."""

from __future__ import annotations

import multiprocessing
import os
import stat
import sys
import threading

import pytest
from PIL import Image

from softstair import files
from softstair import whole_file as whole_file_module
from softstair.errors import OutputExists, UsageError
from softstair.whole_file import write_whole

from ..tiny import photograph
from .test_commands import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
AS_ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


def as_user(user: int, work) -> int | None:
    """Do something as another user, in a process of its own; None if it hangs."""

    def change_and_work() -> None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        os.umask(0o022)
        work()

    process = multiprocessing.get_context("fork").Process(target=change_and_work)
    process.start()
    process.join(20)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def test_a_pipe_is_written_into(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    files.check_free(str(tmp_path / "pipe"), force=False)  # nothing is replaced
    files.write(str(tmp_path / "pipe"), bytes(200_000))  # more than a pipe holds
    reader.join(20)
    assert got == [bytes(200_000)]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_pipe_that_nobody_reads_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_file_module, "_PATIENCE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="nobody reads"):
        files.write(str(tmp_path / "pipe"), b"data")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@AS_ROOT
def test_a_device_is_written_into(tmp_path):
    """A second /dev/null, never the real one."""
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (tmp_path / "null").write_bytes(b"")
    except OSError:
        pytest.skip("no devices can be made here")
    Image.fromarray(photograph(40, 50)).save(tmp_path / "a.png")
    for options in ((), ("--force",)):
        done = run("encode", tmp_path / "a.png", "-o", tmp_path / "null", *options)
        assert done.returncode == 0, done.stderr
        assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
    (tmp_path / "link").symlink_to(tmp_path / "null")
    write_whole(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_standard_output_by_its_names(tmp_path, name):
    Image.fromarray(photograph(40, 50)).save(tmp_path / "a.png")
    done = run("encode", tmp_path / "a.png", "-o", name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\xa5STR")
    with open(tmp_path / "all", "ab") as output:
        output.write(b"before")
        output.flush()
        code = f"from softstair import files; files.write({name!r}, b' and after')"
        assert (
            os.spawnv(os.P_WAIT, "/bin/sh", ["sh", "-c", f'{sys.executable} -c "{code}" >> {output.name}'])
            == 0
        )
    assert (tmp_path / "all").read_bytes() == b"before and after"


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_stays_a_link(tmp_path, dangling):
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real"
    if not dangling:
        real.write_bytes(b"before")
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(OutputExists):
        files.check_free(str(tmp_path / "link"), force=False)
    files.check_free(str(tmp_path / "link"), force=True)
    write_whole(tmp_path / "link", b"after")
    assert (tmp_path / "link").is_symlink()
    assert real.read_bytes() == b"after"


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(UsageError, match="link"):
        files.write(str(tmp_path / "link"), b"data")
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_what_is_replaced_leaves_its_mode(tmp_path, mode):
    path = tmp_path / "a"
    path.write_bytes(b"before")
    path.chmod(mode)
    write_whole(path, b"after")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"after"


@AS_ROOT
def test_root_leaves_a_file_to_its_owner(tmp_path):
    (tmp_path / "a").write_bytes(b"before")
    os.chown(tmp_path / "a", 1001, 1001)
    write_whole(tmp_path / "a", b"after")
    assert ((tmp_path / "a").stat().st_uid, (tmp_path / "a").stat().st_gid) == (1001, 1001)


@AS_ROOT
@pytest.mark.parametrize("what", ["file", "open to all", "pipe", "link", "folder"])
def test_what_another_user_left_blocks_nobody(tmp_path, what):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2777)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    part = shared / ".a.0.part"

    def leave() -> None:
        if what == "pipe":
            os.mkfifo(part)
        elif what == "link":
            part.symlink_to("elsewhere")
        elif what == "folder":
            part.mkdir()
        else:
            part.write_bytes(b"theirs")
        if what in ("open to all", "pipe"):
            part.chmod(0o666)

    assert as_user(1001, leave) == 0
    assert as_user(1002, lambda: write_whole(shared / "a", b"data")) == 0
    assert (shared / "a").read_bytes() == b"data"
    assert not (shared / "elsewhere").exists()
    if what in ("file", "open to all"):
        assert part.read_bytes() == b"theirs"


@AS_ROOT
def test_a_strangers_link_in_a_folder_for_all_is_not_followed(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "precious").write_bytes(b"precious")
    (shared / "a").symlink_to(tmp_path / "precious")
    os.chown(shared / "a", 1001, 1001, follow_symlinks=False)
    with pytest.raises(UsageError, match="another user"):
        files.write(str(shared / "a"), b"data")
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_no_output_replaces_its_source(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(photograph(40, 50)).save(path)
    before = path.read_bytes()
    (tmp_path / "hard.stair").hardlink_to(path)
    (tmp_path / "soft.stair").symlink_to(path)
    for target in ("a.jpg", "hard.stair", "soft.stair"):
        with pytest.raises(UsageError, match="would be lost"):
            files.check_free(str(tmp_path / target), force=True, sources=[str(path)])
    for name in ("hard.stair", "soft.stair"):
        done = run("encode", path, "-o", tmp_path / name, "--force")
        assert (done.returncode, path.read_bytes()) == (2, before)
        assert b"would be lost" in done.stderr


def test_a_folder_that_is_not_there_is_told_before_the_work(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        files.check_free(str(tmp_path / "nowhere" / "a.stair"), force=False)
    with pytest.raises(UsageError, match="is a folder"):
        files.check_free(str(tmp_path), force=True)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain é 写真 🏔.jpg", "plain é 写真 🏔.jpg"),
        ("esc\x1b[31m.jpg", "esc\\x1b[31m.jpg"),
        ("two\nlines\r.jpg", "two\\nlines\\r.jpg"),
        ("caf\udce9.jpg", "caf\\udce9.jpg"),
        ("gpj.\u202efdp", "gpj.\\u202efdp"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
    ],
)
def test_names_cannot_command_the_terminal(name, shown):
    assert files.printable(name) == shown
