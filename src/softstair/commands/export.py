"""softstair export."""

from __future__ import annotations

from pathlib import Path

import click

from softstair import files

from . import learning, options
from .speech import say


@click.command("export")
@learning.recipe
@learning.snapshot
@click.option("-o", "--output", type=options.PATH, required=True, metavar="BUNDLE.stairs")
@learning.data_root
@learning.staircases
@click.option(
    "--synthesis",
    "syntheses",
    multiple=True,
    metavar="MODE=SNAPSHOT",
    help="Give a mode the synthesis of another snapshot, fine-tuned from this one.",
)
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def command(
    recipe: Path,
    snapshot: Path,
    output: Path,
    data_root: Path,
    staircases: Path | None,
    syntheses: tuple[str, ...],
    force: bool,
) -> None:
    """Turn a snapshot of a run into a bundle: integer scale network, tables, ONNX graphs."""
    learning.import_torch()
    from softstair.bundle import SUFFIX
    from softstair.learn.export.bundle import export_snapshot
    from softstair.learn.recipe import read_recipe

    own = {mode: Path(path) for mode, _, path in (one.partition("=") for one in syntheses)}
    files.check_suffix(str(output), [SUFFIX])
    files.check_free(str(output), force=force, sources=[str(recipe), str(snapshot)])
    bundle = export_snapshot(
        read_recipe(recipe), snapshot, data_root, output, staircases=staircases, syntheses=own
    )
    say(f"{output}: {bundle.name} {bundle.fingerprint.hex()}, {bundle.size} bytes")
