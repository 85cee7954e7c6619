"""The pictures of the page by number: files that were named, photographs that were dropped."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from softstair.bundle import Bundle
from softstair.errors import UsageError

from .sources import Files, Named, uploaded
from .subject import Subject

_OPEN = 2  # pictures with their pixels and latents; others are opened again when asked for
DROPPED = 4  # photographs whose files are kept


@dataclass(frozen=True)
class Entry:
    """A picture that can be asked for."""

    number: int
    name: str


class Pictures:
    """Not safe to be used from two threads at once."""

    def __init__(self, named: Sequence[Named], bundle: Bundle, threads: int) -> None:
        self._bundle, self._threads = bundle, threads
        self._readers: dict[int, Callable[[], Files]] = {at: one.read for at, one in enumerate(named)}
        self._open: OrderedDict[int, Subject] = OrderedDict()
        self._dropped: list[int] = []
        self._next = len(named)
        self.entries = tuple(Entry(at, one.name) for at, one in enumerate(named))

    def open(self, number: int) -> Subject:
        """A picture, opened if it is not.

        Raises:
            UsageError: there is none of the number.
            SoftstairError: it cannot be opened.
        """
        if number not in self._readers:
            raise UsageError("This picture is no longer in memory; drop it again.")
        if number not in self._open:
            self._keep(number, Subject(self._readers[number](), self._bundle, self._threads))
        self._open.move_to_end(number)
        return self._open[number]

    def add(self, data: bytes, name: str) -> Entry:
        """Take a photograph, or a .stair file, that was dropped.

        Raises:
            SoftstairError: it cannot be opened.
        """
        files = uploaded(data, name)
        subject = Subject(files, self._bundle, self._threads)
        number, self._next = self._next, self._next + 1
        self._readers[number] = lambda: files
        self._dropped.append(number)
        if len(self._dropped) > DROPPED:
            oldest = self._dropped.pop(0)
            del self._readers[oldest]
            self._open.pop(oldest, None)
        self._keep(number, subject)
        return Entry(number, name)

    def _keep(self, number: int, subject: Subject) -> None:
        self._open[number] = subject
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)
