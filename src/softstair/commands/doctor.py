"""softstair doctor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from softstair.doctor import Findings


@click.command("doctor")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Cores to use; all by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(jobs: int | None, as_json: bool) -> None:
    """Check what runs on this machine and how fast, with a picture of 768x512.

    Exits with 0 if all is well, otherwise with 1.
    """
    from softstair.doctor import examine

    found = examine(jobs)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        for line in _lines(found):
            click.echo(line)
    sys.exit(1 if found.problems else 0)


def _lines(found: Findings) -> Iterator[str]:
    yield f"Softstair {found.version}, Python {found.python} on {found.system}"
    yield f"{found.processor}, {found.cores} usable cores, {' '.join(found.vector_extensions)}"
    yield f"Core {'with' if found.core_has_vector_kernels else 'without'} vector kernels"
    yield f"Engine: {found.engine}"
    for bundle in found.bundles:
        yield f"Bundle {bundle.name} {bundle.fingerprint}, {bundle.size / 1e6:.1f} MB, {bundle.origin}"
    for package in found.packages:
        use = "" if package.extra is None else f"extra {package.extra}: {package.purpose}"
        yield f"  {package.name:14} {package.version or 'not installed':14} {use}".rstrip()
    if found.times:
        yield f"Milliseconds for 768x512 pixels, {found.threads} threads"
        stages = "analysis", "coding", "encode", "symbols", "means", "synthesis", "decode", "first"
        yield f"  {'':12}" + "".join(f"{stage:>10}" for stage in stages)
        for times in found.times:
            figures = (getattr(times, stage) for stage in stages)
            yield f"  {times.engine:12}" + "".join(f"{figure:>10.1f}" for figure in figures)
    yield from found.problems or ["All is well."]
