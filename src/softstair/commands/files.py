"""Inputs and outputs of commands: files, whole or not at all, and standard streams."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

import click

from softstair.errors import NoSpace, OutputExists, UsageError

from .whole_file import write_whole

STANDARD = "-"
_UNITS = {"": 1, "k": 1000, "K": 1000, "M": 1_000_000, "G": 1_000_000_000}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Size(click.ParamType[int]):
    """A number of bytes such as 180000, 180k, 1.5M or 2G."""

    name = "bytes"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKMG]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a size; write it like 180000, 180k, 1.5M or 2G.", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


def read(source: str) -> bytes:
    """The bytes of a file or of standard input.

    Raises:
        UsageError: it cannot be read.
    """
    if source == STANDARD:
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}.") from error


def check_free(target: str, *, force: bool) -> None:
    """Refuse to replace a file unless forced; called before the work, not after it.

    Raises:
        OutputExists: the target is there.
    """
    if target != STANDARD and not force and os.path.lexists(target):
        raise OutputExists(f"{target} exists already; pass --force to replace it, or --output elsewhere.")


def write(target: str, data: bytes, *, replace: bool = True) -> None:
    """Write a file whole or not at all, or to standard output.

    Raises:
        OutputExists: it appeared in the meantime, and is not to be replaced.
        NoSpace: the disk is full; nothing is left behind.
        UsageError: it cannot be written; nothing is left behind.
    """
    if target == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        write_whole(Path(target), data, replace=replace)
    except FileExistsError as error:
        raise OutputExists(f"{target} exists already: it was written in the meantime.") from error
    except OSError as error:
        raise cannot_write(target, error) from error


def cannot_write(target: str, error: OSError) -> UsageError:
    """What to raise where the system refused to write a file or to make a folder."""
    kind = NoSpace if error.errno in _FULL else UsageError
    return kind(f"{target} cannot be written: {error.strerror}.")
