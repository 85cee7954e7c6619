"""Stopping work that is under way: whoever works looks at a flag between two steps.

The command line raises the flag at Ctrl-C, as a process that ends: it is one flag for all threads.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

_flag = Event()
_listeners: list[Callable[[bool], None]] = []


class Stopped(BaseException):
    """The work was stopped. Not an error of it, and nothing that a handler of errors should catch."""


def stop() -> None:
    """Let all work end at its next step."""
    _flag.set()
    for listener in _listeners:
        listener(True)


def resume() -> None:
    """Let work be done again; called when nothing is under way any more."""
    _flag.clear()
    for listener in _listeners:
        listener(False)


def check() -> None:
    """Raises Stopped if the work is to end."""
    if _flag.is_set():
        raise Stopped


def listen(listener: Callable[[bool], None]) -> None:
    """Have a function called with True at a stop, and with False when work may go on."""
    _listeners.append(listener)
