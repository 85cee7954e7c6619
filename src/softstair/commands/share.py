"""softstair share."""

from __future__ import annotations

from pathlib import Path

import click

from softstair import files
from softstair.errors import UsageError

from .speech import say


@click.command("share")
@click.argument("pictures", nargs=-1, metavar="FILE.stair...")
@click.option("-o", "--output", required=True, metavar="FILE.html")
@click.option("--title", help="Of the page; the output's name by default.")
@click.option(
    "--viewer", is_flag=True, help="A page without pictures that opens any, with all installed bundles."
)
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def command(pictures: tuple[str, ...], output: str, title: str | None, viewer: bool, force: bool) -> None:
    """Write one HTML page that shows .stair files to people who have nothing installed.

    The page holds the files, their bundles and a decoder, and makes no request.
    """
    from softstair.bundle import installed
    from softstair.share import album

    if not pictures and not viewer:
        raise UsageError("No picture is named; name .stair files, or pass --viewer.")
    files.check_suffix(output, files.PAGE)
    files.check_free(output, force=force, sources=pictures)
    contents = {Path(name).name: files.read(name) for name in pictures}
    if len(contents) < len(pictures):
        raise UsageError("Two pictures have the same name; rename one of them.")
    page = album(title or Path(output).stem, contents, installed() if viewer else ()).encode()
    files.write(output, page)
    count = "one picture" if len(contents) == 1 else f"{len(contents)} pictures"
    say(f"{output}: {count}, {len(page) / 1e6:.1f} MB")
