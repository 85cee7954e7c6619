"""Files appear whole or not at all, whoever is killed and however many write at once.

The bytes go to a hidden sibling, reach the disk, and only then take the name. The writer holds a
lock on the sibling; one whose writer was killed is locked by nobody, and the next writer of that
name takes it over, so that nothing piles up.
"""

from __future__ import annotations

import os
import secrets
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

_FLAGS = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_LONGEST = 48  # characters of a name that its sibling repeats: names end at 255 bytes


def write_whole(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file and flush it to disk.

    Raises:
        FileExistsError: it is there, and not to be replaced.
        OSError: it cannot be written; nothing is left behind.
    """
    file, part = _open_part(path)
    try:
        with file:
            file.truncate()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if _locks is None:
                file.close()  # Windows renames no open file
            if not replace and os.path.lexists(path):
                raise FileExistsError
            os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _open_part(path: Path) -> tuple[BinaryIO, Path]:
    """A sibling that is this writer's alone: a new one, or what a killed writer left."""
    stem = f".{path.name[:_LONGEST]}"
    for number in count() if _locks is not None else ():
        part = path.with_name(f"{stem}.{number}.part")
        descriptor = os.open(part, _FLAGS, 0o666)
        try:
            if _claim(descriptor, part):
                return os.fdopen(descriptor, "wb"), part
        except OSError:  # a file system without locks
            os.close(descriptor)
            break
        os.close(descriptor)
    part = path.with_name(f"{stem}.{secrets.token_hex(4)}.part")
    return os.fdopen(os.open(part, _FLAGS | os.O_EXCL, 0o666), "wb"), part


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
    return os.path.samestat(found, named) and found.st_nlink == 1 and found.st_uid == os.geteuid()
