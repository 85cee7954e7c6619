"""Inputs and outputs of commands: many files, folders, standard streams, whole files or none."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from softstair.errors import OutputExists, SoftstairError, UsageError

STANDARD = "-"
_UNITS = {"": 1, "k": 1000, "K": 1000, "M": 1_000_000, "G": 1_000_000_000}


class Size(click.ParamType[int]):
    """A number of bytes such as 180000, 180k, 1.5M or 2G."""

    name = "bytes"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKMG]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a size; write it like 180000, 180k, 1.5M or 2G.", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


@dataclass(frozen=True)
class Job:
    """One input and where its output goes; ``-`` is a standard stream."""

    source: str
    target: str


def plan(sources: Sequence[str], output: str | None, suffix: str, accepted: frozenset[str]) -> list[Job]:
    """Pair inputs with outputs.

    A folder stands for the pictures in it. Without ``output`` results go beside their sources;
    several inputs need a folder (made if missing).

    Raises:
        UsageError: no input, an input that does not exist, or a file where a folder is needed.
    """
    found = [path for source in sources for path in _expand(source, accepted)]
    if not found:
        raise UsageError(f"There is nothing to do: no input with {', '.join(sorted(accepted))}.")
    several = len(found) > 1 or any(Path(s).is_dir() for s in sources if s != STANDARD)
    if output is not None and output != STANDARD and (several or Path(output).is_dir()):
        folder = Path(output)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{output} is a file; several inputs need a folder as --output.")
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [Job(source, str(folder / (_stem(source) + suffix))) for source in found]
    elif output is not None:
        if several:
            raise UsageError("Several inputs cannot go to one standard output; name a folder.")
        jobs = [Job(found[0], output)]
    else:
        jobs = [Job(s, STANDARD if s == STANDARD else str(Path(s).with_suffix(suffix))) for s in found]
    targets = [job.target for job in jobs if job.target != STANDARD]
    if len(set(targets)) < len(targets):
        double = next(target for target in targets if targets.count(target) > 1)
        raise UsageError(f"Two inputs would be written to {double}; give them folders of their own.")
    return jobs


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


def write(target: str, data: bytes) -> None:
    """Write a file whole or not at all: a temporary sibling, flushed to disk, renamed.

    Raises:
        UsageError: it cannot be written; nothing is left behind.
    """
    if target == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}.") from error


def run_all(jobs: Sequence[Job], work: Callable[[Job], str], workers: int, label: str) -> None:
    """Run jobs, several at once, with a progress bar; an error stops only its own file.

    ``work`` returns a line about what it did. The first error is raised again at the end.
    """
    if len(jobs) == 1:
        click.echo(work(jobs[0]), err=True)
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    errors: list[SoftstairError] = []

    def guarded(job: Job) -> SoftstairError | None:
        try:
            work(job)
        except SoftstairError as error:
            return error
        return None

    with Progress(console=console) as progress, ThreadPoolExecutor(workers) as pool:
        task = progress.add_task(label, total=len(jobs))
        for job, error in zip(jobs, pool.map(guarded, jobs), strict=True):
            if error is not None:
                errors.append(error)
                progress.console.print(f"{job.source}: {error}", markup=False, highlight=False)
            progress.advance(task)
    click.echo(f"{len(jobs) - len(errors)} of {len(jobs)} files done.", err=True)
    if errors:
        raise errors[0]


def _expand(source: str, accepted: Iterable[str]) -> list[str]:
    if source == STANDARD:
        return [source]
    path = Path(source)
    if path.is_dir():
        return [str(p) for p in sorted(path.iterdir()) if p.suffix.lower() in accepted]
    if not path.exists():
        raise UsageError(f"{source} does not exist.")
    return [source]


def _stem(source: str) -> str:
    return "picture" if source == STANDARD else Path(source).stem


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
