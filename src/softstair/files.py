"""Inputs and outputs: files, whole or not at all, standard streams, and names fit to be shown."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from softstair.errors import LimitExceeded, NoSpace, OutputExists, UsageError
from softstair.whole_file import descriptor_of, write_whole
from softstair.whole_file import is_special as is_special

STANDARD = "-"
LARGEST = 1 << 31  # bytes that are read where no limit is given
PAGE = (".html", ".htm")
FULL = {errno.ENOSPC, errno.EDQUOT}
# Of names: what moves a cursor or colours a terminal, has no letter, or turns the line around.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def read(source: str, most: int = LARGEST) -> bytes:
    """The bytes of a file or of standard input.

    Args:
        most: bytes that it may have; a device may have no end.

    Raises:
        LimitExceeded: it has more.
        UsageError: it cannot be read.
    """
    name = "Standard input" if source == STANDARD else source
    try:
        if source == STANDARD:
            data = sys.stdin.buffer.read(most + 1)
        else:
            with open(source, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = file.read(most + 1) if size <= most else b""
                if size > most:
                    raise _too_long(name, most)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{name} cannot be read: {reason}.") from error
    if len(data) > most:
        raise _too_long(name, most)
    return data


def _too_long(name: str, most: int) -> LimitExceeded:
    return LimitExceeded(
        f"{name} has more bytes than the limit of {most / 1e6:.0f} MB; if it is meant, raise --max-memory."
    )


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file; a pipe that stands there holds nobody up.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read()


def check_free(target: str, *, force: bool, sources: Iterable[str] = (), makes_folder: bool = False) -> None:
    """Refuse what cannot or must not be written; called before the work, not after it.

    Args:
        sources: files that the work reads, which nothing may replace.
        makes_folder: the folder that it is to be in will be made.

    Raises:
        OutputExists: the target is there, and ``force`` does not say that it may be replaced.
        UsageError: the target is a source, a folder, or in a folder that is not there.
    """
    path = Path(target)
    if target == STANDARD or is_special(path):
        return
    check_sources([target], sources)
    if path.is_dir() or target.endswith(("/", os.sep)):
        raise UsageError(f"{target} is a folder; name a file in it.")
    if not force and os.path.lexists(path):
        raise OutputExists(f"{target} exists already; pass --force to replace it, or --output elsewhere.")
    if not makes_folder and not path.parent.is_dir():
        raise UsageError(f"{target} cannot be written: there is no folder {path.parent}.")


def check_suffix(target: str, suffixes: Sequence[str]) -> None:
    """Refuse a name that promises something else than what will be written.

    Raises:
        UsageError: it has another suffix.
    """
    path = Path(target)
    if target != STANDARD and not is_special(path) and path.suffix.lower() not in suffixes:
        raise UsageError(f"{target} must end in {' or '.join(suffixes)}.")


def check_sources(targets: Iterable[str], sources: Iterable[str]) -> None:
    """Refuse to write over what is read, whatever it is called there.

    Raises:
        UsageError: a target is the same file as a source.
    """
    read = {_identity(source): source for source in sources}
    read.pop(None, None)
    for target in targets:
        if (source := read.get(_identity(target))) is not None:
            raise UsageError(
                f"{target} is the source {source}, which would be lost; name another output."
                if target != source
                else f"{target} is both source and output and would be lost; name another output."
            )


def _identity(path: str) -> tuple[int, int] | None:
    """What a regular file is, by any of its names; None for anything else."""
    with suppress(OSError, ValueError):
        if path != STANDARD and not is_special(Path(path)):
            found = os.stat(path)
            return found.st_dev, found.st_ino
    return None


def write(target: str, data: bytes, *, replace: bool = True, times: tuple[int, int] | None = None) -> None:
    """Write a file whole or not at all, or to standard output.

    Args:
        times: of last access and change, in nanoseconds, that the file shall have.

    Raises:
        BrokenPipeError: whoever read the output has gone.
        OutputExists: it appeared in the meantime, and is not to be replaced.
        NoSpace: the disk is full; nothing is left behind.
        UsageError: it cannot be written; nothing is left behind.
    """
    try:
        if target == STANDARD or descriptor_of(Path(target)) == 1:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            write_whole(Path(target), data, replace=replace, times=times)
    except BrokenPipeError:
        raise
    except FileExistsError as error:
        raise OutputExists(
            f"{target} was written by another process in the meantime; pass --force to replace it."
        ) from error
    except OSError as error:
        raise cannot_write("standard output" if target == STANDARD else target, error) from error


def tells_apart(folder: Path) -> bool:
    """Whether names that differ in case, or in how accents are written, are two files in a folder to be."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    try:
        with tempfile.NamedTemporaryFile(prefix=".softstair-\u00e9", dir=there) as probe:
            name = os.path.basename(probe.name)
            others = name.swapcase(), unicodedata.normalize("NFD", name)
            return not any(os.path.lexists(there / other) for other in others)
    except OSError:  # whoever writes there will say it
        return True
    except UnicodeError:  # a system whose names have no accents
        return True


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if they are not there.

    Raises:
        NoSpace: the disk is full.
        UsageError: it cannot be made.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise cannot_write(str(folder), error) from error


def cannot_write(target: str, error: OSError) -> UsageError:
    """What to raise where the system refused to write a file or to make a folder."""
    kind = NoSpace if error.errno in FULL else UsageError
    return kind(f"{target} cannot be written: {error.strerror}.")


def printable(text: str) -> str:
    """Text in which control characters, halves of letters and turns of direction are escaped."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNPRINTABLE or character in _TURNING
        else character
        for character in text
    )
