"""The machine that a run took place on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version as version_of

import numpy as np

from softstair.codec import usable_cores
from softstair.processor import processor_name


@dataclass(frozen=True)
class Machine:
    """Where a run took place. load: one-minute load average at its start, other programs' too."""

    machine: str
    processor: str
    cores: int
    python: str
    numpy: str
    onnxruntime: str
    load: float | None

    def computes_like(self, other: Machine) -> bool:
        """Whether times taken on both can stand in one table."""
        return (self.machine, self.processor, self.cores) == (other.machine, other.processor, other.cores)


def describe_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(
        platform.machine(),
        processor_name(),
        usable_cores(),
        platform.python_version(),
        np.__version__,
        version_of("onnxruntime"),
        load_average(),
    )


def load_average() -> float | None:
    """One-minute load average; None where a system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
