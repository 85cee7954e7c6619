"""Doing jobs: one, or many side by side with progress, a summary, and what was finished before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Protocol

import click

from softstair.errors import NoSpace, OutputExists, SoftstairError

from . import files
from .exits import exit_code
from .jobs import Job, WorkList
from .ledger import State, ledger_of


@dataclass(frozen=True)
class Product:
    """What a job made. line: what to tell of it. problem: written, but worth an exit code."""

    data: bytes
    line: str
    problem: SoftstairError | None = None


class Work(Protocol):
    """What a command does to one file. Plain values, so that it can be sent to another machine."""

    def __call__(self, source: bytes, job: Job) -> Product:
        """The output's bytes from the source's. Raises SoftstairError."""

    @property
    def settings(self) -> bytes:
        """All that decides an output beside its source."""


@dataclass(frozen=True)
class Failure:
    """Why there is no output. code: exit code. is_final: other files would fail likewise."""

    message: str
    code: int
    is_final: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a job ended. before, after: bytes of source and output. skipped: it was done already."""

    job: Job
    line: str = ""
    before: int = 0
    after: int = 0
    skipped: bool = False
    failure: Failure | None = None


@dataclass(frozen=True)
class Task:
    """Work on any of the jobs of one run. folder: of the outputs, where they have one for all."""

    work: Work
    folder: str | None
    force: bool
    run: str

    def __call__(self, job: Job) -> Outcome:
        """Does a job; what goes wrong is part of its outcome, bugs included, and stops no other."""
        try:
            return self._do(job)
        except SoftstairError as error:
            return Outcome(job, failure=Failure(str(error), exit_code(error), isinstance(error, NoSpace)))
        except Exception as error:  # a bug
            return Outcome(job, failure=Failure(f"internal error, {type(error).__name__}: {error}", 1))

    def _do(self, job: Job) -> Outcome:
        if self.folder is None:
            files.check_free(job.target, force=self.force, sources=[job.source])
        source = files.read(job.source)
        state = self._state(job, source)
        if state is State.FINISHED:
            size = Path(job.target).stat().st_size
            return Outcome(job, f"{job.target} is finished already", len(source), size, skipped=True)
        if state is State.FOREIGN:
            raise OutputExists(
                f"{job.target} exists already, and not as these settings make it; pass --force to replace "
                "it, or --output elsewhere."
            )
        product = self.work(source, job)
        if self.folder is not None:
            files.make_folder(Path(job.target).parent)
            if product.problem is None:
                ledger = ledger_of(self.folder, self.run)
                ledger.note(job.target, source, self.work.settings, product.data)
        try:
            files.write(job.target, product.data, replace=self.force or state is State.STALE)
        except OutputExists:
            if files.read(job.target) != product.data:  # not by another process on the same folder
                raise
        if product.problem is not None:
            raise product.problem
        return Outcome(job, product.line, len(source), len(product.data))

    def _state(self, job: Job, source: bytes) -> State:
        if self.folder is None or self.force:
            return State.MISSING
        return ledger_of(self.folder, self.run).state(job.target, source, self.work.settings)


# Does jobs and yields their outcomes as they come; closed early, it begins no more of them.
Runner = Callable[[Task, Sequence[Job]], Iterator[Outcome]]


def run_here(workers: int) -> Runner:
    """Several jobs at once in this process."""

    def run(task: Task, jobs: Sequence[Job]) -> Iterator[Outcome]:
        pool = ThreadPoolExecutor(workers)
        try:
            for future in as_completed([pool.submit(task, job) for job in jobs]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def run_all(work_list: WorkList, work: Work, runner: Runner, label: str, *, force: bool) -> None:
    """Run all jobs. An error stops only its own file, unless the disk is full.

    Raises:
        Exit: with the code of the first failure in the order of the jobs.
    """
    task = Task(work, work_list.folder, force, token_hex(8))
    jobs, start = work_list.jobs, time.monotonic()
    outcomes: dict[Job, Outcome] = {}
    if len(jobs) == 1:
        (outcome,) = runner(task, jobs)
        outcomes[outcome.job] = outcome
        files.say(f"softstair: {outcome.failure.message}" if outcome.failure else outcome.line)
    else:
        for outcome in _shown(runner(task, jobs), len(jobs), label):
            outcomes[outcome.job] = outcome
        files.say(summary(len(jobs), list(outcomes.values()), time.monotonic() - start))
    failures = [outcomes[job].failure for job in jobs if job in outcomes]
    first = next((failure for failure in failures if failure is not None), None)
    if first is not None:
        raise click.exceptions.Exit(first.code)


def summary(total: int, outcomes: Sequence[Outcome], seconds: float) -> str:
    """One line on all jobs: how many, bytes before and after, failures."""
    good = [outcome for outcome in outcomes if outcome.failure is None]
    before, after = sum(o.before for o in good), sum(o.after for o in good)
    skipped, failed = sum(o.skipped for o in good), len(outcomes) - len(good)
    parts = [f"{len(good)} of {total} files done"]
    if skipped:
        parts[0] += f" ({skipped} of them before)"
    if good:
        parts.append(f"{_bytes(before)} to {_bytes(after)}")
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
                line = files.printable(f"{outcome.job.source}: {outcome.failure.message}")
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
            yield outcome
            if outcome.failure is not None and outcome.failure.is_final:
                break


def _bytes(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
