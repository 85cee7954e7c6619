"""What is to be done: inputs paired with outputs, before any work begins."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from softstair.errors import UsageError
from softstair.files import STANDARD, check_sources, tells_apart

_SHOWN = 3  # collisions that a message lists


@dataclass(frozen=True)
class Job:
    """One input and where its output goes; ``-`` is a standard stream.

    page: of an input that has several, from 1. makes_folder: the output's folder may be a new one.
    """

    source: str
    target: str
    page: int | None = None
    makes_folder: bool = False

    @property
    def name(self) -> str:
        """What to call the input."""
        return "standard input" if self.source == STANDARD else self.source


@dataclass(frozen=True)
class WorkList:
    """All jobs of a command.

    folder: the one that the outputs of several inputs go to. left_out: how much of the folders named
    is no job, by the reason.
    """

    jobs: tuple[Job, ...]
    folder: str | None
    left_out: Mapping[str, int] = field(default_factory=dict)


def plan(
    sources: Sequence[str],
    output: str | None,
    suffix: str,
    accepted: frozenset[str],
    unread: Mapping[str, str] | None = None,
) -> WorkList:
    """Pair inputs with outputs.

    An ``output`` that ends in a slash is a folder. A folder as input stands for the files of accepted
    suffixes in it and its sub-folders, which are mirrored in the output's; what is hidden is left out.
    Without ``output`` results go beside their sources; several inputs need a folder.

    Args:
        unread: suffixes of what would be accepted if something were installed, and what.

    Raises:
        UsageError: no input, an empty name, an input that does not exist, a file where a folder is
            needed, or several inputs for one output.
    """
    if output == "" or "" in sources:
        raise UsageError("A name is empty; the folder you are in is called . (a dot).")
    out = None if output in (None, STANDARD) else Path(output or "")
    finder = _Finder(accepted, unread or {}, out)
    found = [pair for source in sources for pair in finder.expand(source)]
    if not found:
        why = f" Left out: {spoken(finder.left_out)}." if finder.left_out else ""
        raise UsageError(f"There is nothing to do: no input with {', '.join(sorted(accepted))}.{why}")
    several = len(found) > 1 or any(Path(s).is_dir() for s in sources if s != STANDARD)
    is_folder = output is not None and output.endswith(("/", "/.", os.sep))
    if out is not None and (several or is_folder or out.is_dir()):
        if out.exists() and not out.is_dir():
            why = "its name ends like a folder's" if is_folder else "several inputs need a folder as --output"
            raise UsageError(f"{output} is a file; {why}.")
        jobs = [
            Job(source, str((out / name).with_suffix(suffix)), makes_folder=True) for source, name in found
        ]
        _check_collisions(jobs)
        return WorkList(tuple(jobs), str(out) if several else None, finder.left_out)
    if output is not None:
        if several:
            raise UsageError("Several inputs cannot be written to standard output; name a folder.")
        jobs = [Job(found[0][0], output)]
        check_sources([output], [found[0][0]])
        return WorkList(tuple(jobs), None)
    jobs = [Job(s, s if s == STANDARD else str(Path(s).with_suffix(suffix))) for s, _ in found]
    _check_collisions(jobs)
    return WorkList(tuple(jobs), None, finder.left_out)


def spoken(left_out: Mapping[str, int]) -> str:
    """How much was left out, by the reason, the most first."""
    return ", ".join(f"{count} {why}" for why, count in Counter(left_out).most_common())


class _Finder:
    """Finds inputs, and counts by the reason what of the folders is none."""

    def __init__(self, accepted: frozenset[str], unread: Mapping[str, str], out: Path | None) -> None:
        self._accepted, self._unread = accepted, unread
        self._excluded = None if out is None else out.resolve()
        self.left_out: Counter[str] = Counter()

    def expand(self, source: str) -> Iterator[tuple[str, Path]]:
        """Inputs that a source stands for, and their names below the output's folder."""
        path = Path(source)
        if source == STANDARD:
            yield source, Path("picture")
        elif path.is_dir():
            for file in self._walk(path):
                if (reason := self._reason(file)) is None:
                    yield str(file), file.relative_to(path)
                else:
                    self.left_out[reason] += 1
        elif path.exists():
            yield source, Path(path.name)
        else:
            raise UsageError(f"{source} does not exist.")

    def _reason(self, file: Path) -> str | None:
        """Why a file is no input."""
        suffix = file.suffix.lower()
        if suffix in self._unread:
            return f"{suffix} ({self._unread[suffix]})"
        if suffix not in self._accepted:
            return suffix or "without a suffix"
        try:
            mode = file.stat().st_mode
        except OSError:
            return "broken link" if file.is_symlink() else "unreadable"
        return None if stat.S_ISREG(mode) else "pipe or device"

    def _walk(self, folder: Path) -> Iterator[Path]:
        """Files in a folder and below it, sorted, without hidden ones and without the outputs' folder."""

        def fail(error: OSError) -> None:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}.") from error

        for here, folders, names in os.walk(folder, onerror=fail):
            at = Path(here)
            self.left_out += Counter(
                hidden=sum(name[0] == "." for name in names),
                **{"linked folder": sum((at / name).is_symlink() for name in folders)},
            )
            folders[:] = [
                name for name in sorted(folders) if name[0] != "." and (at / name).resolve() != self._excluded
            ]
            yield from (at / name for name in sorted(names) if name[0] != ".")


def _are_one(alike: Sequence[Job]) -> bool:
    """Whether outputs whose names are alike would be one file where they are to lie."""
    names = {job.target for job in alike}
    return len(names) < len(alike) or not tells_apart(Path(alike[0].target).parent)


def _check_collisions(jobs: Sequence[Job]) -> None:
    sources = defaultdict(list)
    for job in jobs:
        if job.target != STANDARD:
            sources[unicodedata.normalize("NFC", job.target).casefold()].append(job)
    double = [group for group in sources.values() if len(group) > 1 and _are_one(group)]
    if double:
        listed = [f"{' and '.join(job.source for job in group)} to {group[0].target}" for group in double]
        more = f" and {len(double) - _SHOWN} more" if len(double) > _SHOWN else ""
        raise UsageError(
            f"Two inputs would be written to one output: {'; '.join(listed[:_SHOWN])}{more}. Rename them, "
            "or give them folders of their own."
        )
    check_sources([job.target for job in jobs], [job.source for job in jobs])
