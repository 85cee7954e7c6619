"""One job at a time, and of jobs that one page asks for, only the latest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from .views import Check

Result = TypeVar("Result")


class Superseded(Exception):
    """The page has asked for something else since."""


class Jobs:
    """Where work waits, so that a slider that is moved quickly leaves no queue behind.

    Networks keep all cores busy: two jobs at once would only be slower.
    """

    def __init__(self) -> None:
        self._latest: dict[str, object] = {}  # by page, while it has work here
        self._working = asyncio.Lock()

    async def do(self, page: str, work: Callable[[Check], Result]) -> Result:
        """Do work in a thread of its own once all that was asked for before is done or dropped.

        Args:
            page: who asks; what it asked for before is dropped, between steps if it has begun.
            work: is given a function that raises when its result is not wanted any more.

        Raises:
            Superseded: the page has asked for something else.
        """
        mine = self._latest[page] = object()

        def check() -> None:
            if self._latest.get(page) is not mine:
                raise Superseded

        try:
            async with self._working:
                check()
                return await run_in_threadpool(work, check)
        finally:
            if self._latest.get(page) is mine:
                del self._latest[page]

    def close(self) -> None:
        """Drop all work."""
        self._latest.clear()
