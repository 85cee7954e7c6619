"""softstair compare."""

from __future__ import annotations

from pathlib import Path

import click

from softstair import files

from . import options
from .speech import say


@click.command("compare")
@click.argument("photo")
@click.option("-o", "--output", metavar="FILE.html", help="By default beside the photograph.")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), help="0 to 100; 75 by default.")
@click.option("--target-size", type=options.Size(), help="Largest file size, such as 180k; never exceeded.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Cores to use; all by default.")
@click.option("--model", metavar="BUNDLE", help="Installed bundle by name, or a .stairs file.")
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def command(
    photo: str,
    output: str | None,
    quality: float | None,
    target_size: int | None,
    jobs: int | None,
    model: str | None,
    force: bool,
) -> None:
    """Write a page that compares a photograph in Softstair and in other codecs at the same size.

    A single HTML file with a divider to drag, zoom, the difference and all figures.
    """
    from rich.console import Console
    from rich.progress import Progress

    from softstair.bundle import open_bundle
    from softstair.codec import Rate, usable_cores
    from softstair.view.comparison import compare

    target = output or str(Path(photo).with_suffix(".html"))
    files.check_suffix(target, files.PAGE)
    files.check_free(target, force=force, sources=[photo])
    rate = Rate(quality=quality, target_size=target_size)
    data, bundle = files.read(photo), open_bundle(model)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Comparing", total=None)
        page = compare(
            data,
            Path(photo).name,
            rate,
            bundle,
            jobs or usable_cores(),
            lambda done, total: progress.update(task, completed=done, total=total),
        ).encode()
    files.write(target, page)
    say(f"{photo} -> {target}: {len(page) / 1e6:.1f} MB")
