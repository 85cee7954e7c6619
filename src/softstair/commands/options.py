"""Values of options that several commands take."""

from __future__ import annotations

import re
from pathlib import Path

import click

from softstair.errors import UsageError

PATH: click.Path = click.Path(path_type=Path)
_UNITS = {"": 1, "k": 1000, "K": 1000, "M": 1_000_000, "G": 1_000_000_000}


class Size(click.ParamType[int]):
    """A number of bytes such as 180000, 180k, 1.5M or 2G."""

    name = "bytes"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)([kKMG]?)", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r} is not a size; write it like 180000, 180k, 1.5M or 2G.", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


max_memory = click.option(
    "--max-memory", type=Size(), help="Approximate limit of memory for each picture; 2G by default."
)
strip = click.option(
    "--strip",
    metavar="KINDS",
    default="",
    help="Metadata to leave out: exif,xmp,icc,iptc or all. Without the orientation, pixels are turned.",
)


def kinds_of(strip: str) -> frozenset[str]:
    """Kinds of metadata that ``--strip`` names.

    Raises:
        UsageError: there is no such kind.
    """
    from softstair.pictures import KINDS

    kinds = {kind.strip() for kind in strip.split(",") if kind.strip()}
    if unknown := kinds - KINDS - {"all"}:
        known = ", ".join(sorted(KINDS))
        raise UsageError(f"--strip takes {known} or all, not {', '.join(sorted(unknown))}.")
    return KINDS if "all" in kinds else frozenset(kinds)
