"""Running the jobs of a command: progress, notes, a summary and an exit code."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from secrets import token_hex

import click

from softstair.files import LARGEST, STANDARD, printable
from softstair.folders.jobs import Job, WorkList, spoken
from softstair.folders.work import Outcome, Runner, Task, Work

from .speech import say

_NAMED = 3  # files that a line names


def run_all(
    work_list: WorkList,
    work: Work,
    runner: Runner,
    label: str,
    *,
    force: bool,
    keep_times: bool = False,
    most: int = LARGEST,
) -> None:
    """Run all jobs. An error stops only its own file, unless the disk is full.

    Args:
        most: bytes that a source may have.

    Raises:
        Exit: with the code of the first failure in the order of the jobs.
    """
    task = Task(work, work_list.folder, force, token_hex(8), keep_times, most)
    jobs, start = work_list.jobs, time.monotonic()
    outcomes: dict[Job, Outcome] = {}
    if len(jobs) == 1 and not work_list.left_out:
        (outcome,) = runner(task, jobs)
        outcomes[outcome.job] = outcome
        for note in outcome.notes:
            say(f"{outcome.job.name}: {note.text}")
        say(f"softstair: {_named(outcome)}" if outcome.failure else outcome.line)
    else:
        for outcome in _shown(runner(task, jobs), len(jobs), label):
            outcomes[outcome.job] = outcome
        ended = list(outcomes.values())
        for line in (*told(ended), summary(len(jobs), ended, time.monotonic() - start)):
            say(line)
        if work_list.left_out:
            say(f"Left out: {spoken(work_list.left_out)}.")
    failures = [outcomes[job].failure for job in jobs if job in outcomes]
    first = next((failure for failure in failures if failure is not None), None)
    if first is not None:
        raise click.exceptions.Exit(first.code)


def told(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Lines on what there is to say of several files: a line a kind, with the first names."""
    names: dict[str, list[str]] = defaultdict(list)
    texts: dict[str, str] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            names[note.kind].append(outcome.job.name)
            texts.setdefault(note.kind, note.text)
    for kind, sources in names.items():
        if len(sources) == 1:
            yield f"{sources[0]}: {texts[kind]}"
            continue
        more = f" and {len(sources) - _NAMED} more" if len(sources) > _NAMED else ""
        yield f"{len(sources)} files: {kind} ({', '.join(sources[:_NAMED])}{more})"


def summary(total: int, outcomes: Sequence[Outcome], seconds: float) -> str:
    """One line on all jobs: how many, bytes before and after, failures."""
    good = [outcome for outcome in outcomes if outcome.failure is None]
    before, after = sum(o.before for o in good), sum(o.after for o in good)
    skipped, failed = sum(o.skipped for o in good), len(outcomes) - len(good)
    kept = sum(o.kept for o in good)
    parts = [f"{len(good)} of {total} files done"]
    if skipped:
        parts[0] += f" ({skipped} of them before)"
    if good:
        parts.append(f"{_bytes(before)} to {_bytes(after)}")
    if kept:
        parts.append(f"{kept} kept as they are, which is smaller")
    if failed:
        parts.append(f"{failed} failed")
    if total > len(outcomes):
        parts.append(f"{total - len(outcomes)} not begun")
    return f"{', '.join(parts)}, in {seconds:.1f} s."


def _shown(outcomes: Iterator[Outcome], total: int, label: str) -> Iterator[Outcome]:
    """Outcomes with a progress bar, and failures as they happen. Ends early after a final one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(label, total=total)
        for outcome in outcomes:
            progress.advance(bar)
            if outcome.failure is not None:
                line = printable(_named(outcome))
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
            yield outcome
            if outcome.failure is not None and outcome.failure.is_final:
                break


def _named(outcome: Outcome) -> str:
    """Why a job failed, with the name of a file."""
    assert outcome.failure is not None
    job, message = outcome.job, outcome.failure.message
    names = {job.name} | {job.target} - {STANDARD}
    return message if any(name in message for name in names) else f"{job.name}: {message}"


def _bytes(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
