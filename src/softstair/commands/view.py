"""softstair view."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path

import click

from softstair.errors import UsageError


@click.command("view")
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--no-open", is_flag=True, help="Print the address and open no browser.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Cores to use; all by default.")
@click.option("--model", metavar="BUNDLE", help="Name of an installed bundle, or a .stairs file.")
def command(sources: tuple[Path, ...], no_open: bool, jobs: int | None, model: str | None) -> None:
    """Look at photographs and .stair files on a page of your own browser (extra web).

    The page shows a photograph beside what Softstair makes of it at any quality, and beside JPEG,
    WebP and AVIF at the same size. A .stair file named together with its photograph (a.jpg and
    a.stair) is shown beside it. More can be dropped onto the page. It is served on this machine
    alone, until Ctrl-C.
    """
    try:
        from softstair.view.server import LocalServer, Settings
    except ImportError as error:
        raise UsageError(
            f"The page needs {error.name}; install it with: pip install 'softstair[web]'."
        ) from error
    from softstair.bundle import open_bundle
    from softstair.codec import DEFAULT_QUALITY, usable_cores
    from softstair.view.sources import pair_up

    bundle = open_bundle(model)
    position = round(DEFAULT_QUALITY / 100 * bundle.last_position)
    server = LocalServer(Settings(pair_up(sources), bundle, position, jobs or usable_cores()))
    click.echo(f"{server.address}\nThe page is open to this machine until Ctrl-C.", err=True)
    if not no_open:
        # A browser in the terminal would keep the server from starting.
        threading.Thread(target=webbrowser.open, args=[server.address], daemon=True).start()
    server.run()
