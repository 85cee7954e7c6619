"""Files appear whole or not at all, whoever is killed and however many write at once.

The bytes go to a hidden sibling, reach the disk, and only then take the name. The writer holds a
lock on the sibling; one whose writer was killed is locked by nobody, and the next writer of that
name takes it over, so that nothing piles up. What is not a regular file has no whole to take its
place: a symbolic link is followed, and a device or pipe is written into.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

_locks: ModuleType | None
try:
    import fcntl as _locks
except ImportError:  # Windows
    _locks = None

_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # a pipe that nobody reads must not hold a writer
_FLAGS = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | _NO_WAIT
_LONGEST = 48  # characters of a name that its sibling repeats: names end at 255 bytes
_OTHERS = 64  # siblings that belong to others before a name is drawn
_PATIENCE = 5.0  # seconds in which a reader of a pipe may turn up
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,9})", re.ASCII)
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def is_special(path: Path) -> bool:
    """True for devices and pipes, which are written into: nothing there is replaced."""
    if descriptor_of(path) is not None:
        return True
    try:
        return _is_special(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def descriptor_of(path: Path) -> int | None:
    """The open file of this process that a path such as /dev/stdout or /dev/fd/3 stands for."""
    if sys.platform == "win32":
        return None
    name = str(path)
    match = _DESCRIPTOR.fullmatch(name)
    return int(match[1]) if match else _STREAMS.get(name)


def write_whole(
    path: Path, data: bytes | memoryview, *, replace: bool = True, times: tuple[int, int] | None = None
) -> None:
    """Write a file and flush it to disk. What it replaces leaves it its mode.

    Args:
        path: a symbolic link is followed; a device or a pipe is written into, not replaced.
        replace: a regular file that is there.
        times: of last access and change, in nanoseconds, that the file shall have.

    Raises:
        FileExistsError: it is there, and not to be replaced.
        OSError: it cannot be written; nothing is left behind.
    """
    descriptor = descriptor_of(path)
    if descriptor is not None:
        _write_into(os.dup(descriptor), data)
        return
    path = _followed(path)
    before = _found(path)
    if before is not None and _is_special(before.st_mode):
        _write_into(_open_special(path), data)
        return
    file, part = _open_part(path)
    try:
        with file:
            _take_over_mode(file.fileno(), before)
            file.truncate()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if _locks is None:
                file.close()  # Windows renames no open file
            if times is not None:
                os.utime(part, ns=times)
            if not replace and os.path.lexists(path):
                raise FileExistsError
            os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _followed(path: Path) -> Path:
    """What a symbolic link points to. One that a stranger put into a folder for all is not followed."""
    if not path.is_symlink():
        return path
    link, folder = os.lstat(path), os.stat(path.parent)
    shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
    if shared and hasattr(os, "geteuid") and link.st_uid not in (os.geteuid(), folder.st_uid):
        raise PermissionError(errno.EACCES, "it is a link of another user", str(path))
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def _found(path: Path) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return os.lstat(path)
    return None


def _is_special(mode: int) -> bool:
    """Neither a regular file nor a folder nor a link."""
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _write_into(descriptor: int, data: bytes | memoryview) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _open_special(path: Path) -> int:
    """Raises OSError if nobody reads a pipe, for some seconds."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | _NO_WAIT)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > deadline:
                raise OSError(errno.ENXIO, "nobody reads what is written to it", str(path)) from error
            time.sleep(0.05)
    os.set_blocking(descriptor, True)
    return descriptor


def _take_over_mode(descriptor: int, before: os.stat_result | None) -> None:
    """Whoever could not read the file before must not be able to read it now, and the reverse."""
    if before is None or not stat.S_ISREG(before.st_mode) or not hasattr(os, "fchmod"):
        return
    with suppress(PermissionError):
        os.fchown(descriptor, before.st_uid, before.st_gid)  # root writes for others
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o777)


def _open_part(path: Path) -> tuple[BinaryIO, Path]:
    """A sibling that is this writer's alone: a new one, or what a killed writer left."""
    stem = f".{path.name[:_LONGEST]}"
    for number in count() if _locks is not None else ():
        part = path.with_name(f"{stem}.{number}.part")
        try:
            descriptor = os.open(part, _FLAGS | os.O_CREAT, 0o666)
        except OSError:
            # Someone else's leftover, a link, a pipe, a folder: not ours, so the next number.
            if number >= _OTHERS or not os.path.lexists(part):
                break
            continue
        try:
            if _claim(descriptor, part):
                return os.fdopen(descriptor, "wb"), part
        except OSError:  # a file system without locks
            os.close(descriptor)
            break
        os.close(descriptor)
    part = path.with_name(f"{stem}.{secrets.token_hex(4)}.part")
    return os.fdopen(os.open(part, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666), "wb"), part


def _claim(descriptor: int, part: Path) -> bool:
    """Lock a sibling. False if another writer has it, has just renamed it, or a stranger made it."""
    assert _locks is not None
    try:
        _locks.flock(descriptor, _locks.LOCK_EX | _locks.LOCK_NB)
    except BlockingIOError:
        return False
    found = os.fstat(descriptor)
    try:
        named = os.lstat(part)
    except FileNotFoundError:
        return False
    return (
        os.path.samestat(found, named)
        and stat.S_ISREG(found.st_mode)
        and found.st_nlink == 1
        and found.st_uid == os.geteuid()
    )
