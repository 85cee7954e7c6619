"""Doing jobs: one, or many side by side, and not what was finished before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from softstair import files, stopping
from softstair.errors import NoSpace, OutOfMemory, OutputExists, SoftstairError, ran_out_of_memory
from softstair.exits import exit_code
from softstair.pictures import Note

from .jobs import Job
from .ledger import State, ledger_of


@dataclass(frozen=True)
class Product:
    """What a job made.

    data: of the output; None where the source is kept instead. line: what to tell of it. notes: what
    else a person should know. problem: written, but worth an exit code.
    """

    data: bytes | None
    line: str
    notes: tuple[Note, ...] = ()
    problem: SoftstairError | None = None


class Work(Protocol):
    """What a command does to one file. Plain values, so that it can be sent to another machine."""

    def __call__(self, source: bytes, job: Job) -> Product:
        """The output's bytes from the source's. Raises SoftstairError."""

    @property
    def settings(self) -> bytes:
        """All that decides an output beside its source."""

    @property
    def keeps_sources(self) -> bool:
        """True if it may make no output, so that the source stays what there is."""


@dataclass(frozen=True)
class Failure:
    """Why there is no output. code: exit code. is_final: other files would fail likewise."""

    message: str
    code: int
    is_final: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    before, after: bytes of source and output. skipped: it was done already. kept: the source stays,
    without an output. notes: what a person should know.
    """

    job: Job
    line: str = ""
    before: int = 0
    after: int = 0
    skipped: bool = False
    kept: bool = False
    notes: tuple[Note, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class Task:
    """Work on any of the jobs of one run.

    folder: of the outputs, where they have one for all. keep_times: outputs are as old as their
    sources. most: bytes that a source may have.
    """

    work: Work
    folder: str | None
    force: bool
    run: str
    keep_times: bool = False
    most: int = files.LARGEST

    def __call__(self, job: Job) -> Outcome:
        """Does a job; what goes wrong is part of its outcome, bugs included, and stops no other.

        Raises:
            Stopped: all work is to end.
            BrokenPipeError: nobody reads the output any more.
        """
        try:
            return self._do(job)
        except SoftstairError as error:
            return Outcome(job, failure=Failure(str(error), exit_code(error), isinstance(error, NoSpace)))
        except BrokenPipeError:
            raise
        except Exception as error:
            if ran_out_of_memory(error):
                out_of_memory = OutOfMemory()
                return Outcome(job, failure=Failure(str(out_of_memory), exit_code(out_of_memory)))
            # a bug
            return Outcome(job, failure=Failure(f"internal error, {type(error).__name__}: {error}", 1))

    def _do(self, job: Job) -> Outcome:
        if self.folder is None:
            files.check_free(
                job.target, force=self.force, sources=[job.source], makes_folder=job.makes_folder
            )
        stopping.check()
        source = files.read(job.source, self.most)
        state = self._state(job, source)
        if state is State.FINISHED:
            size = Path(job.target).stat().st_size
            return Outcome(job, f"{job.target} is finished already", len(source), size, skipped=True)
        if state is State.FOREIGN:
            raise OutputExists(
                f"{job.target} exists already and was made with other settings, or changed since; pass "
                "--force to replace it, or --output elsewhere."
            )
        if self._was_kept(job, source, state):
            return Outcome(job, f"{job.source} was kept before", len(source), len(source), True, True)
        product = self.work(source, job)
        stopping.check()
        if product.data is None:
            self._note(job, source, b"")
            return Outcome(job, product.line, len(source), len(source), kept=True, notes=product.notes)
        if self.folder is not None or job.makes_folder:
            files.make_folder(Path(job.target).parent)
        if product.problem is None:
            self._note(job, source, product.data)
        times = _times(job.source) if self.keep_times else None
        try:
            files.write(job.target, product.data, replace=self.force or state is State.STALE, times=times)
        except OutputExists:
            if files.read(job.target) != product.data:  # not by another process on the same folder
                raise
        if product.problem is not None:
            raise product.problem
        return Outcome(job, product.line, len(source), len(product.data), notes=product.notes)

    def _state(self, job: Job, source: bytes) -> State:
        if self.folder is None or self.force:
            return State.MISSING
        return ledger_of(self.folder, self.run).state(job.target, source, self._settings(job))

    def _was_kept(self, job: Job, source: bytes, state: State) -> bool:
        if self.folder is None or self.force or state is not State.MISSING or not self.work.keeps_sources:
            return False
        return ledger_of(self.folder, self.run).was_kept(job.target, source, self._settings(job))

    def _note(self, job: Job, source: bytes, output: bytes) -> None:
        if self.folder is not None:
            ledger = ledger_of(self.folder, self.run)
            ledger.note(job.target, source, self._settings(job), output)

    def _settings(self, job: Job) -> bytes:
        return self.work.settings if job.page is None else b"%d %b" % (job.page, self.work.settings)


def _times(source: str) -> tuple[int, int] | None:
    if source == files.STANDARD:
        return None
    found = os.stat(source)
    return found.st_atime_ns, found.st_mtime_ns


# Does jobs and yields their outcomes as they come; closed early, it begins no more of them.
Runner = Callable[[Task, Sequence[Job]], Iterator[Outcome]]


def run_here(workers: int) -> Runner:
    """Several jobs at once in this process; interrupted, they end at their next step.

    A job that is all there is and ended all the same counts as done, interrupted or not.
    """

    def run(task: Task, jobs: Sequence[Job]) -> Iterator[Outcome]:
        pool = ThreadPoolExecutor(workers)
        futures = [pool.submit(task, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except KeyboardInterrupt:
            _end(pool)
            (only, *more) = futures
            if more or only.cancelled() or only.exception() is not None:
                raise
            yield only.result()
        finally:
            if not all(future.done() for future in futures):
                _end(pool)
            pool.shutdown()

    return run


def _end(pool: ThreadPoolExecutor) -> None:
    stopping.stop()
    pool.shutdown(cancel_futures=True)
    stopping.resume()
