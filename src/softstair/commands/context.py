"""softstair context."""

from __future__ import annotations

from pathlib import Path

import click

from softstair import files

from . import learning, options
from .speech import say


@click.command("context")
@learning.recipe
@click.argument("bundle", type=options.PATH)
@click.option("-o", "--output", type=options.PATH, required=True, metavar="BUNDLE.stairs")
@learning.data_root
@learning.jobs
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def command(recipe: Path, bundle: Path, output: Path, data_root: Path, jobs: int | None, force: bool) -> None:
    """Give a bundle context networks, which save 1 to 2 % of its bits."""
    learning.import_torch(jobs)
    from softstair.bundle import open_bundle
    from softstair.learn.recipe import read_recipe
    from softstair.learn.stages.context import add_context

    files.check_free(str(output), force=force, sources=[str(recipe), str(bundle)])
    made = add_context(read_recipe(recipe), open_bundle(bundle), data_root, output, say=say)
    say(f"{output}: {made.name} {made.fingerprint.hex()}, {made.size} bytes")
