"""Judges beside the metrics of every row: those that take a program or a package of their own, and grid."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from softstair.errors import SoftstairError, UsageError

from .data import Pixels
from .grid import measure_grid
from .vdp import color_video_vdp

Marks = dict[str, Any]  # numbers, by the field of a row
_BUTTERAUGLI = "butteraugli_main"
_PRINTED = re.compile(r"([\d.]+)\s+3-norm: ([\d.]+)\s*")


@dataclass(frozen=True)
class Judge:
    """Gives marks to a picture.

    name: on the command line. field: of ``Row``, set in every row that it has seen. judge: marks of the
    second picture beside the first, both uint8 (H, W, 3) and of one size, and given pixels a side of the
    codec's lattice, if any; raises SoftstairError where it fails. program, package: what it takes, if
    anything. needs: a sentence on that, where it is not installed.
    """

    name: str
    field: str
    judge: Callable[[Pixels, Pixels, int | None], Marks]
    program: str = ""
    package: str = ""
    needs: str = ""

    @property
    def is_installed(self) -> bool:
        has_program = not self.program or shutil.which(self.program) is not None
        return has_program and (not self.package or find_spec(self.package) is not None)


def installed_judges() -> tuple[Judge, ...]:
    """The judges that can be asked here."""
    return tuple(judge for judge in _JUDGES if judge.is_installed)


def absent_judges() -> tuple[Judge, ...]:
    """The judges that would need something installed."""
    return tuple(judge for judge in _JUDGES if not judge.is_installed)


def find_judges(names: Iterable[str]) -> tuple[Judge, ...]:
    """Judges by name; ``all`` stands for those that are installed.

    Raises:
        UsageError: a name is unknown, or what it needs is not installed.
    """
    found: dict[str, Judge] = {}
    known = {judge.name: judge for judge in _JUDGES}
    for name in names:
        if name == "all":
            found |= {judge.name: judge for judge in installed_judges()}
        elif name not in known:
            raise UsageError(f"No judge is called {name}; there are {', '.join(known)}.")
        elif not known[name].is_installed:
            raise UsageError(known[name].needs)
        else:
            found[name] = known[name]
    return tuple(found.values())


def _butteraugli(reference: Pixels, other: Pixels, _cells: int | None) -> Marks:
    """3-norm and maximum of the distance, by the tool of libjxl; 0 for equal pictures."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("reference.ppm", "other.ppm")]
        for path, pixels in zip(paths, (reference, other), strict=True):
            Image.fromarray(pixels).save(path)
        done = subprocess.run([_BUTTERAUGLI, *paths], capture_output=True, text=True, check=False)
    found = _PRINTED.fullmatch(done.stdout)
    if done.returncode or found is None:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SoftstairError(f"{_BUTTERAUGLI} failed: {said[-1] if said else done.returncode}.")
    return {"butteraugli": round(float(found[2]), 6), "butteraugli_max": round(float(found[1]), 6)}


def _vdp(reference: Pixels, other: Pixels, _cells: int | None) -> Marks:
    return {"cvvdp": round(color_video_vdp(reference, other), 6)}


def _grid(reference: Pixels, other: Pixels, cells: int | None) -> Marks:
    if cells is None:
        return {"smooth": 0.0, "grid_across": 0.0, "grid_beside": 0.0}
    grid = measure_grid(reference, other, cells)
    return {
        "smooth": round(grid.smooth, 6),
        "grid_across": round(grid.across, 6),
        "grid_beside": round(grid.beside, 6),
    }


_JUDGES = (
    Judge("grid", "smooth", _grid),
    Judge(
        "butteraugli",
        "butteraugli",
        _butteraugli,
        program=_BUTTERAUGLI,
        needs=f"The judge butteraugli needs libjxl's {_BUTTERAUGLI} on the path; Debian has it in "
        "libjxl-devtools.",
    ),
    Judge(
        "cvvdp",
        "cvvdp",
        _vdp,
        package="pycvvdp",
        needs="The judge ColorVideoVDP needs cvvdp; install it with: pip install 'softstair[judges]'.",
    ),
)
