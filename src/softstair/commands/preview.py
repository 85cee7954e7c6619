"""softstair preview."""

from __future__ import annotations

from pathlib import Path

import click

from softstair import files

from . import learning, options
from .speech import say


@click.command("preview")
@click.argument("bundle")
@click.argument("pictures", nargs=-1, required=True, type=options.PATH, metavar="PICTURES...")
@click.option("-o", "--output", type=options.PATH, required=True, metavar="BUNDLE.stairs")
@click.option("--crops", type=click.IntRange(32), default=1000, show_default=True, help="To learn from.")
@click.option("--steps", type=click.IntRange(1), default=4000, show_default=True)
@learning.jobs
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def command(
    bundle: str,
    pictures: tuple[Path, ...],
    output: Path,
    crops: int,
    steps: int,
    jobs: int | None,
    force: bool,
) -> None:
    """Teach a BUNDLE to make small pictures without its synthesis, and the smallest without its means.

    PICTURES are folders or tar files. The output is the same bundle, of the same fingerprint, with two
    entries more; those that it had are replaced.
    """
    torch = learning.import_torch(jobs)
    from softstair.bundle import open_bundle
    from softstair.learn.data import load_pictures
    from softstair.learn.stages.icon import train_icon
    from softstair.learn.stages.preview import add_preview, train_preview

    files.check_free(str(output), force=force, sources=[bundle])
    opened = open_bundle(bundle)
    loaded, threads = load_pictures(list(pictures)), torch.get_num_threads()
    head = train_preview(opened, loaded, crops=crops, steps=steps, threads=threads, say=say)
    icon = train_icon(opened, loaded, crops=crops, steps=steps, threads=threads, say=say)
    made = add_preview(opened, head, icon, output)
    say(f"{output}: {made.name} {made.fingerprint.hex()}")
