"""Jobs on a Dask cluster whose machines see the same files under the same names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from os.path import abspath
from typing import Any

from softstair.errors import UsageError

from .jobs import Job, WorkList
from .work import Failure, Outcome, Runner, Task

_SECONDS_TO_ANSWER = 10


def run_on_cluster(address: str) -> Runner:
    """As many jobs at once as the cluster's workers have threads.

    Where a worker is lost, others do its jobs again; what it left of them is no output.

    Raises:
        UsageError: the extra cluster is missing, no scheduler answers, or it has no workers.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        raise UsageError("A cluster needs the extra cluster: pip install 'softstair[cluster]'.") from error

    def run(task: Task, jobs: Sequence[Job]) -> Iterator[Outcome]:
        try:
            client = distributed.Client(address, timeout=_SECONDS_TO_ANSWER)
        except (OSError, ValueError) as error:
            raise UsageError(f"No Dask scheduler answers at {address}: {error}.") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=_SECONDS_TO_ANSWER)
            except TimeoutError as error:
                raise UsageError(f"The Dask cluster at {address} has no workers.") from error
            futures = client.map(task, jobs, key="softstair", pure=False)
            job_of = dict(zip(futures, jobs, strict=True))
            try:
                # Futures are forgotten as they finish, so that the cluster can forget them, too.
                for future in distributed.as_completed(futures):
                    yield _outcome(future, job_of.pop(future))
            finally:
                client.cancel(list(job_of))

    return run


def absolute(work_list: WorkList) -> WorkList:
    """The same jobs by names that do not depend on where a process was started."""
    jobs = tuple(
        replace(job, source=abspath(job.source), target=abspath(job.target)) for job in work_list.jobs
    )
    return replace(work_list, jobs=jobs, folder=work_list.folder and abspath(work_list.folder))


def _outcome(future: Any, job: Job) -> Outcome:
    error = future.exception()
    if error is None:
        outcome: Outcome = future.result()
        return outcome
    return Outcome(job, failure=Failure(f"the cluster failed at it, {type(error).__name__}: {error}", 1))
