"""The command line: a module a subcommand, imported when it is called, no logic of its own."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

import click

from softstair import files
from softstair.errors import OutOfMemory, SoftstairError, ran_out_of_memory
from softstair.exits import exit_code

from .speech import say

_COMMANDS = {
    "encode": "Compress pictures to .stair files.",
    "decode": "Bring .stair files back as PNG, JPEG or WebP.",
    "info": "Say what a .stair file holds, without decoding it.",
    "truncate": "Cut a .stair file in layers to a smaller one.",
    "models": "List the installed bundles and packs.",
    "pack": "Turn a pack and its bundle into one bundle.",
    "view": "Look at photographs and .stair files on a page of your own browser.",
    "compare": "Write a page that shows a photograph by several codecs at the same size.",
    "share": "Put .stair files and their decoder into one HTML page.",
    "thumbnail": "Write a small PNG of a .stair file, as desktops ask for it.",
    "try": "Compress a photograph and compare it with JPEG and AVIF.",
    "doctor": "Check what runs on this machine, and how fast.",
    "eval": "Measure rate and distortion on a set of pictures.",
    "bdrate": "Compare rate-distortion curves by their Bjontegaard delta rate.",
    "plot": "Draw rate-distortion curves.",
    "report": "Turn results of an evaluation into one HTML page.",
    "adapt": "Adapt a bundle to a folder of pictures (extra learn).",
    "build": "Run a recipe from the first step to a measured bundle (extra learn).",
    "train": "Train a network from a recipe (extra learn).",
    "derive": "Learn staircases for further rates of a trained network (extra learn).",
    "finetune": "Retrain the synthesis on latents that were really quantized (extra learn).",
    "export": "Turn a trained network into a bundle (extra learn).",
    "preview": "Teach a bundle to make small pictures sooner (extra learn).",
    "context": "Give a bundle context networks, which save bits (extra learn).",
}
_MODULES = {"try": "try_", "eval": "eval_"}


class _ReaderGone(Exception):
    """Whoever read standard output has gone."""


class _Patient:
    """Standard error that may be full, or read by nobody any more: the work goes on without a word."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._whatever_happens(self._stream.write, text) or len(text)

    def flush(self) -> None:
        self._whatever_happens(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _whatever_happens(self, call: Callable[..., Any], *arguments: str) -> Any:
        try:
            return call(*arguments)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return None


class _Lazy(click.Group):
    """Imports a command's module when it is called: starting the command should cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click would exit with 1, which is said to be a bug
            raise _ReaderGone from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="softstair")
def softstair() -> None:
    """A learned image codec: small files that decode on any machine, on a CPU."""


def main() -> None:
    """Entry point; errors become one sentence on standard error and an exit code."""
    warnings.showwarning = _say_warning
    _open_closed_streams()
    sys.stderr = cast(TextIO, _Patient(sys.stderr))
    try:
        code = softstair(standalone_mode=False)  # click returns the code of an Exit, else None
        sys.stdout.flush()
        sys.exit(code)
    except (click.Abort, KeyboardInterrupt):
        say("Interrupted.")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (BrokenPipeError, _ReaderGone):
        # As a program that the signal ends; and nothing more is written there at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except SoftstairError as error:
        _fail(error)
    except OSError as error:
        if error.errno in {*files.FULL, errno.EBADF} and error.filename is None:  # only a stream has no name
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _fail(files.cannot_write("Standard output", error))
        if ran_out_of_memory(error):
            _fail(OutOfMemory())
        raise
    except (MemoryError, ImportError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        _fail(OutOfMemory())


def _open_closed_streams() -> None:
    """Give each standard stream that the caller closed a descriptor: else the next file would get it.

    Writing to standard output fails then, as the caller should hear of it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            kind = os.O_WRONLY if name == "stderr" else os.O_RDONLY
            setattr(sys, name, os.fdopen(os.open(os.devnull, kind), mode))


def _fail(error: SoftstairError) -> NoReturn:
    say(f"softstair: {error}")
    sys.exit(exit_code(error))


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Tell a warning, unless it is Pillow's: what is wrong with a picture is told by its name, by us."""
    if Path(filename).parent.name != "PIL":
        say(f"softstair: {message}")
