"""softstair export."""

from __future__ import annotations

from pathlib import Path

import click

from softstair.errors import UsageError

from . import files


@click.command("export")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("snapshot", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="BUNDLE.stairs")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=".",
    help="Where the recipe's data lies.",
)
@click.option(
    "--staircases", type=click.Path(path_type=Path), metavar="FILE", help="What softstair derive learned."
)
@click.option(
    "--synthesis",
    "syntheses",
    multiple=True,
    metavar="MODE=SNAPSHOT",
    help="Give a mode the synthesis of another snapshot, finetuned from this one.",
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
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UsageError("Exporting needs the extra learn: pip install 'softstair[learn]'.") from error
    from softstair.learn.export.bundle import export_snapshot
    from softstair.learn.recipe import read_recipe

    own = {mode: Path(path) for mode, _, path in (one.partition("=") for one in syntheses)}
    files.check_free(str(output), force=force)
    bundle = export_snapshot(
        read_recipe(recipe), snapshot, data_root, output, staircases=staircases, syntheses=own
    )
    click.echo(f"{output}: {bundle.name} {bundle.fingerprint.hex()}, {bundle.size} bytes", err=True)
