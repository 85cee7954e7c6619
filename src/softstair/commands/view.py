"""softstair view."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from softstair.errors import UsageError

from . import options

_BLIND_QUALITIES = (10, 25, 45)  # about 0.15, 0.3 and 0.6 bpp


@click.command("view")
@click.argument("sources", nargs=-1, type=options.PATH, metavar="FILE...")
@click.option("--blind", is_flag=True, help="Compare two codecs at the same size with their names hidden.")
@click.option("--no-open", is_flag=True, help="Print the address instead of opening a browser.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Cores to use; all by default.")
@click.option("--model", metavar="BUNDLE", help="Installed bundle by name, or a .stairs file.")
def command(
    sources: tuple[Path, ...], blind: bool, no_open: bool, jobs: int | None, model: str | None
) -> None:
    """Look at photographs and .stair files on a page of your own browser (extra web).

    The page shows a photograph beside what Softstair makes of it at any quality, and beside JPEG,
    WebP and AVIF at the same size. A .stair file named together with its photograph (a.jpg and
    a.stair) is shown beside it. More can be dropped onto the page. It is served on this machine
    alone, until Ctrl-C.

    With --blind it shows the photographs by two codecs at the same size, at three rates, names hidden
    and sides by chance; you pick the better one, and at the end it says which you picked how often.
    """
    try:
        from softstair.view.server import LocalServer, ServerSettings
    except ImportError as error:
        raise UsageError(
            f"The page needs {error.name}; install it with: pip install 'softstair[web]'."
        ) from error
    from softstair.bundle import open_bundle
    from softstair.codec import DEFAULT_QUALITY, position_of_quality, usable_cores
    from softstair.view.door import opened
    from softstair.view.sources import pair_up

    bundle = open_bundle(model)
    named = pair_up(sources)
    if blind and (not named or any(one.photo is None for one in named)):
        raise UsageError("A blind comparison needs photographs, not only .stair files; name some.")
    position, *positions = (
        position_of_quality(quality, bundle.last_position) for quality in (DEFAULT_QUALITY, *_BLIND_QUALITIES)
    )
    settings = ServerSettings(
        named, bundle, position, jobs or usable_cores(), tuple(positions) if blind else ()
    )
    server = LocalServer(settings)
    click.echo(f"{server.address}\nThe page is open to this machine until Ctrl-C.", err=True)
    with nullcontext() if no_open else opened(server.address):
        server.run()
