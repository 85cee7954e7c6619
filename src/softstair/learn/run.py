"""A run: the folder in which a stage goes on, and the one loop that all stages are trained in.

A stage is its loss and its state; the run owns folder, log, checkpoint and deadline. Batches are pure
functions of seed and step, so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from .checkpoint import load_checkpoint, save_checkpoint
from .log import Log
from .precision import Choice
from .processes import Processes
from .recipe import Recipe

Batch = TypeVar("Batch")
Say = Callable[[str], None]


def say_nothing(line: str) -> None:
    """What hears the progress of a run that nobody watches."""


class Stage(Protocol):
    """What is trained: a loss, and all the state that a step changes."""

    step: int

    @property
    def is_done(self) -> bool:
        """Whether no step is left to take."""

    def advance(self) -> None:
        """Take a step."""

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned."""

    def keep(self, folder: Path) -> None:
        """Write what belongs beside a checkpoint."""


@dataclass(frozen=True)
class Every:
    """A line that is said after every so many steps, and after the last one if ``at_end``."""

    steps: int
    line: Callable[[], str]
    at_end: bool = False


class Run:
    """A folder with a log and a checkpoint.

    Args:
        folder: made if missing.
        processes: that share the run; the first writes and speaks.
        time_budget: seconds after which to stop at the next checkpoint.
        say: receives lines of progress.
    """

    def __init__(self, folder: Path, processes: Processes, time_budget: float | None, say: Say) -> None:
        self.folder, self.processes = folder, processes
        self.say: Say = say if processes.leads else say_nothing
        self.checkpoint = folder / "checkpoint.json"
        if processes.leads:
            folder.mkdir(parents=True, exist_ok=True)
        self.log = Log(folder / "log.jsonl" if processes.leads else None)
        self._time_budget = math.inf if time_budget is None else time_budget

    def saved(self) -> dict[str, Any] | None:
        """The state of the newest checkpoint, if there is one."""
        return load_checkpoint(self.checkpoint) if self.checkpoint.exists() else None

    def begin(self, recipe: Recipe, precision: Choice) -> None:
        """Write into the log what runs where."""
        self.log.open_run(recipe, self.processes.device, self.processes.count)
        self.log.write("precision", **asdict(precision))

    def go(self, stage: Stage, checkpoint_every: int, *lines: Every) -> None:
        """Take steps until the stage is done or time is up, and keep the last state."""
        deadline = time.monotonic() + self._time_budget
        while not stage.is_done:
            stage.advance()
            for one in lines:
                if stage.step % one.steps == 0 or (one.at_end and stage.is_done):
                    self.say(one.line())
            if stage.step % checkpoint_every == 0:
                self.keep(stage)
                if self.processes.agree(time.monotonic() > deadline):
                    return
        self.keep(stage)

    def keep(self, stage: Stage) -> None:
        """Write a checkpoint, and what belongs beside it."""
        if self.processes.leads:
            save_checkpoint(self.checkpoint, stage.state())
            stage.keep(self.folder)


class Ahead(Generic[Batch]):
    """Makes the batch of the next step while a step is taken on the current one.

    make: the batch of a step. device: where it is made; a GPU does so in no time, and what it is told by
    another thread would get into recordings. A context: it ends the thread.
    """

    def __init__(self, make: Callable[[int], Batch], device: torch.device) -> None:
        self._make, self._alone = make, device.type == "cuda"
        self._pool = ThreadPoolExecutor(1)
        self._upcoming: tuple[int, Future[Batch]] | None = None

    def take(self, step: int, *, go_on: bool = True) -> Batch:
        """The batch of a step. go_on: begin with the next one."""
        if self._alone:
            return self._make(step)
        upcoming, self._upcoming = self._upcoming, None
        here = self._pool.submit(self._make, step) if upcoming is None or upcoming[0] != step else upcoming[1]
        batch = here.result()
        if go_on:
            self._upcoming = step + 1, self._pool.submit(self._make, step + 1)
        return batch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


class Average:
    """A running average of a module's weights, which soon forgets where it began.

    limit: share that is kept in a step, at most. head_start: the larger, the sooner it forgets.
    """

    def __init__(self, weights: Mapping[str, Tensor], limit: float, head_start: int = 10) -> None:
        self._limit, self._head_start = limit, head_start
        self.weights = copied(weights)

    @torch.no_grad()
    def follow(self, weights: Mapping[str, Tensor], steps: int) -> None:
        """Take in the weights after so many steps, one or more."""
        keep = min(self._limit, steps / (steps + self._head_start))
        torch._foreach_lerp_([self.weights[name] for name in weights], list(weights.values()), 1 - keep)


def copied(value: Any) -> Any:
    """A deep copy of nested containers of tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value
