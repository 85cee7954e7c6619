"""The log of a run: JSON lines, the first of which says what ran where."""

from __future__ import annotations

import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy
import torch

from .recipe import Recipe


class Log:
    """Appends one JSON object a line; ``time`` is seconds since the epoch.

    Without a path nothing is written: the log of a process that follows another.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, event: str, **values: Any) -> None:
        if self._path is None:
            return
        line = msgspec.json.encode({"event": event, "time": round(time.time(), 2), **values})
        with self._path.open("ab") as file:
            file.write(line + b"\n")

    def open_run(self, recipe: Recipe, device: torch.device, processes: int = 1) -> None:
        """Write the resolved recipe, the commit and the environment."""
        environment = {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "machine": platform.machine(),
            "device": str(device),
            "threads": torch.get_num_threads(),
            "processes": processes,
        }
        self.write(
            "start",
            recipe=msgspec.to_builtins(recipe),
            commit=commit(),
            environment=environment,
        )


def commit() -> str | None:
    """The commit of the source tree with ``+`` if it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
