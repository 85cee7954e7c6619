"""What is to be done: inputs paired with outputs, before any work begins."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from softstair.errors import UsageError

from .files import STANDARD, check_sources

_SHOWN = 3  # collisions that a message lists


@dataclass(frozen=True)
class Job:
    """One input and where its output goes; ``-`` is a standard stream."""

    source: str
    target: str


@dataclass(frozen=True)
class WorkList:
    """All jobs of a command. folder: the one that the outputs of several inputs go to."""

    jobs: tuple[Job, ...]
    folder: str | None


def plan(sources: Sequence[str], output: str | None, suffix: str, accepted: frozenset[str]) -> WorkList:
    """Pair inputs with outputs.

    A folder stands for the files of accepted suffixes in it and its sub-folders, which are mirrored
    in the output's; what is hidden is left out. Without ``output`` results go beside their sources;
    several inputs need a folder.

    Raises:
        UsageError: no input, one that does not exist, a file where a folder is needed, or several
            inputs for one output.
    """
    out = None if output in (None, STANDARD) else Path(output or "")
    found = [pair for source in sources for pair in _expand(source, accepted, out)]
    if not found:
        raise UsageError(f"There is nothing to do: no input with {', '.join(sorted(accepted))}.")
    several = len(found) > 1 or any(Path(s).is_dir() for s in sources if s != STANDARD)
    if out is not None and (several or out.is_dir()):
        if out.exists() and not out.is_dir():
            raise UsageError(f"{output} is a file; several inputs need a folder as --output.")
        jobs = [Job(source, str((out / name).with_suffix(suffix))) for source, name in found]
        _check_collisions(jobs)
        return WorkList(tuple(jobs), str(out) if several else None)
    if output is not None:
        if several:
            raise UsageError("Several inputs cannot go to one standard output; name a folder.")
        return WorkList((Job(found[0][0], output),), None)
    jobs = [Job(s, s if s == STANDARD else str(Path(s).with_suffix(suffix))) for s, _ in found]
    _check_collisions(jobs)
    return WorkList(tuple(jobs), None)


def _expand(source: str, accepted: Iterable[str], out: Path | None) -> Iterator[tuple[str, Path]]:
    """Inputs that a source stands for, and their names below the output's folder."""
    path = Path(source)
    if source == STANDARD:
        yield source, Path("picture")
    elif path.is_dir():
        for file in _walk(path, out):
            if file.suffix.lower() in accepted:
                yield str(file), file.relative_to(path)
    elif path.exists():
        yield source, Path(path.name)
    else:
        raise UsageError(f"{source} does not exist.")


def _walk(folder: Path, out: Path | None) -> Iterator[Path]:
    """Files in a folder and below it, sorted, without hidden ones and without the outputs' folder."""

    def fail(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}.") from error

    excluded = None if out is None else out.resolve()
    for here, folders, names in os.walk(folder, onerror=fail):
        at = Path(here)
        folders[:] = [
            name for name in sorted(folders) if name[0] != "." and (at / name).resolve() != excluded
        ]
        yield from (at / name for name in sorted(names) if name[0] != ".")


def _check_collisions(jobs: Sequence[Job]) -> None:
    sources = defaultdict(list)
    for job in jobs:
        if job.target != STANDARD:
            sources[os.path.normcase(job.target)].append(job)
    double = [group for group in sources.values() if len(group) > 1]
    if double:
        listed = [f"{' and '.join(job.source for job in group)} to {group[0].target}" for group in double]
        more = f" and {len(double) - _SHOWN} more" if len(double) > _SHOWN else ""
        raise UsageError(
            f"Two inputs would be written to one output: {'; '.join(listed[:_SHOWN])}{more}. Rename them, "
            "or give them folders of their own."
        )
    check_sources([job.target for job in jobs], [job.source for job in jobs])
