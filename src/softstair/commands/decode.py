"""softstair decode."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from softstair import __version__, files
from softstair.errors import IncompleteStream, UsageError
from softstair.folders.jobs import Job, plan
from softstair.folders.work import Product, run_here
from softstair.pictures import FORMATS
from softstair.stream import MAX_PIXELS, read_header

from . import options, running

if TYPE_CHECKING:
    from softstair.codec import View


@dataclass(frozen=True)
class Decoding:
    """What ``softstair decode`` makes of a stream. to: suffix, where the target's does not say it."""

    view: View
    to: str | None
    model: str | None
    pack: str | None
    threads: int
    max_pixels: int
    max_memory: int
    strip: frozenset[str]
    keeps_sources: bool = False

    @property
    def settings(self) -> bytes:
        """The stream itself names its bundle; limits, memory and threads decide no pixel."""
        return msgspec.json.encode([__version__, self.view, self.to, sorted(self.strip)])

    def __call__(self, source: bytes, job: Job) -> Product:
        from softstair.bundle import open_bundle
        from softstair.codec import decode_view
        from softstair.pictures import check_writable, strip, write_and_tell

        suffix = _suffix(job.target, self.to)
        shown = self.view.shown(read_header(source))
        check_writable(suffix, *shown, self.max_memory)
        decoded = decode_view(
            source,
            self.view,
            None if self.model is None and self.pack is None else open_bundle(self.model, pack=self.pack),
            threads=self.threads,
            max_pixels=self.max_pixels,
            max_memory=self.max_memory,
        )
        picture = strip(decoded.picture, self.strip)
        written = write_and_tell(picture, suffix)
        damage = decoded.damage and IncompleteStream(f"{job.target} is not complete: {decoded.damage}.")
        height, width = picture.pixels.shape[:2]
        line = f"{job.name} -> {job.target}: {width}x{height}"
        return Product(written.data, line, written.notes, damage or None)


class _Region(click.ParamType[tuple[int, int, int, int]]):
    """Left, top, width and height."""

    name = "X,Y,W,H"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        if re.fullmatch(r"\d+(,\d+){3}", value, re.ASCII) is None:
            self.fail(f"{value!r} is not a region; write it like 1024,512,640,480.", param, ctx)
        left, top, width, height = map(int, value.split(","))
        return left, top, width, height


@click.command("decode")
@click.argument("sources", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", metavar="OUT", help="Output file or folder; - is standard output.")
@click.option(
    "--to",
    type=click.Choice(["png", "jpg", "webp"]),
    help="Output format if its name does not say; PNG by default.",
)
@click.option("-j", "--jobs", type=click.IntRange(1), help="Cores to use; all by default.")
@click.option("--region", type=_Region(), help="Decode only this part: left,top,width,height in pixels.")
@click.option(
    "--scale",
    type=click.Choice(["1/2", "1/4", "1/8", "1/16", "1/32", "1/64"]),
    help="Scale the picture down; sooner than full size from 1/4 on, if the bundle can.",
)
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Show as much as a cut or damaged file holds; exits with 3.",
)
@click.option("--model", metavar="BUNDLE", help="Installed bundle by name, or a .stairs file.")
@click.option("--pack", metavar="PACK", help="Installed pack by name, or a .pack file.")
@click.option("--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True)
@options.max_memory
@options.strip
@click.option("--keep-times", is_flag=True, help="Copy the times of the .stair files to the pictures.")
@click.option("--force", is_flag=True, help="Replace outputs that exist.")
def command(
    sources: tuple[str, ...],
    output: str | None,
    to: str | None,
    jobs: int | None,
    region: tuple[int, int, int, int] | None,
    scale: str | None,
    allow_partial: bool,
    model: str | None,
    pack: str | None,
    max_pixels: int,
    max_memory: int | None,
    strip: str,
    keep_times: bool,
    force: bool,
) -> None:
    """Decode .stair files, or all in a folder, to PNG, JPEG or WebP."""
    from softstair.codec import MAX_MEMORY, View, usable_cores

    work_list = plan(sources, output, f".{to or 'png'}", frozenset({".stair"}))
    for job in work_list.jobs:
        _check_name(job.target, to)
    view = View(region, int(scale.split("/")[1]) if scale else 1, allow_partial)
    cores = jobs or usable_cores()
    workers = min(cores, len(work_list.jobs))
    work = Decoding(
        view,
        to,
        model,
        pack,
        max(1, cores // workers),
        max_pixels,
        MAX_MEMORY if max_memory is None else max_memory,
        options.kinds_of(strip),
    )
    runner = run_here(workers)
    running.run_all(
        work_list, work, runner, "Decoding", force=force, keep_times=keep_times, most=work.max_memory
    )


def _suffix(target: str, to: str | None) -> str:
    """What names the format of an output."""
    suffix = Path(target).suffix
    named = target != files.STANDARD and suffix.lower() in FORMATS
    return suffix if named else f".{to or 'png'}"


def _check_name(target: str, to: str | None) -> None:
    """Refuse a name that says another format than was asked for, or none that can be written."""
    path = Path(target)
    if target == files.STANDARD or files.is_special(path):
        return
    found = FORMATS.get(path.suffix.lower())
    if found is None and (to is None or path.suffix):
        raise UsageError(
            f"Pictures can be written as {', '.join(FORMATS)}, not as {path.suffix or 'no suffix'}: {target}."
        )
    if to is not None and found not in (None, FORMATS[f".{to}"]):
        raise UsageError(f"--to {to} contradicts the name {target}; leave one of them out.")
