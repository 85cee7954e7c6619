"""What this machine's processor is and can do."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np


def processor_name() -> str:
    """The processor's name; Linux tells it in /proc/cpuinfo alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def vector_extensions() -> tuple[str, ...]:
    """Vector extensions that numpy finds, such as X86_V3 or NEON, from common to rare."""
    config: Any = np.show_config(mode="dicts")
    found = config["SIMD Extensions"]
    return (*found.get("baseline", ()), *found.get("found", ()))
