"""softstair decode."""

from __future__ import annotations

from pathlib import Path

import click

from softstair.stream import MAX_PIXELS

from . import files


@click.command("decode")
@click.argument("sources", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", metavar="OUT", help="File or folder; - is standard output.")
@click.option(
    "--to",
    type=click.Choice(["png", "jpg", "webp"]),
    help="Format, where the output's name does not say it; PNG by default.",
)
@click.option("-j", "--jobs", type=click.IntRange(1), help="Cores to use; all by default.")
@click.option("--model", metavar="BUNDLE", help="Name of an installed bundle, or a .stairs file.")
@click.option("--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True)
@click.option("--force", is_flag=True, help="Replace outputs that exist.")
def command(
    sources: tuple[str, ...],
    output: str | None,
    to: str | None,
    jobs: int | None,
    model: str | None,
    max_pixels: int,
    force: bool,
) -> None:
    """Bring .stair files (a folder means all in it) back as PNG, JPEG or WebP."""
    from softstair.bundle import open_bundle
    from softstair.codec import decode_picture, usable_cores
    from softstair.pictures import write_picture

    work_list = files.plan(sources, output, f".{to or 'png'}", frozenset({".stair"}))
    bundle = None if model is None else open_bundle(model)
    cores = jobs or usable_cores()
    workers = min(cores, len(work_list))

    def work(job: files.Job) -> str:
        files.check_free(job.target, force=force)
        picture = decode_picture(
            files.read(job.source), bundle, threads=max(1, cores // workers), max_pixels=max_pixels
        )
        suffix = f".{to}" if to else Path(job.target).suffix
        if job.target == files.STANDARD:
            suffix = f".{to or 'png'}"
        files.write(job.target, write_picture(picture, suffix))
        height, width = picture.pixels.shape[:2]
        return f"{job.source} -> {job.target}: {width}x{height}"

    files.run_all(work_list, work, workers, "Decoding")
