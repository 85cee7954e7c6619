"""What commands say."""

from __future__ import annotations

import click

from softstair.files import printable


def say(line: str, *, on_output: bool = False) -> None:
    """A line on standard error, or on standard output. Names in it cannot command the terminal."""
    click.echo(printable(line), err=not on_output)
