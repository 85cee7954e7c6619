"""softstair report."""

from __future__ import annotations

from pathlib import Path

import click

from . import options


@click.command("report")
@click.argument("results", type=options.PATH, metavar="RESULTS.json")
@click.option("-o", "--output", required=True, metavar="REPORT.html")
@click.option(
    "--data-root",
    type=options.PATH,
    help="Folder of the data set; without it the page shows no pictures.",
)
@click.option(
    "--pictures", type=click.IntRange(0), default=4, show_default=True, help="Pictures to show side by side."
)
@click.option("--force", is_flag=True, help="Replace an existing output.")
def command(results: Path, output: str, data_root: Path | None, pictures: int, force: bool) -> None:
    """Turn results of an evaluation into one HTML page that works without a network.

    RESULTS.json is what softstair eval wrote. With --data-root some pictures are coded again by every
    codec, to be looked at side by side.
    """
    from rich.console import Console
    from rich.progress import Progress

    from softstair import files
    from softstair.evaluate import read_results
    from softstair.evaluate.page import report_page
    from softstair.evaluate.page_pictures import show_pictures

    from .speech import say

    files.check_suffix(output, files.PAGE)
    files.check_free(output, force=force, sources=[str(results)])
    found = read_results(results)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("Coding pictures", total=None)
        shown = show_pictures(
            found,
            data_root,
            pictures,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    page = report_page(found, shown).encode()
    files.write(output, page)
    for note in shown.notes:
        say(note)
    say(f"{output}: {len(page) / 1e6:.1f} MB")
