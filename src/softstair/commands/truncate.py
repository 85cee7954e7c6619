"""softstair truncate."""

from __future__ import annotations

import click

from softstair import files
from softstair.errors import UsageError, of_file

from . import options
from .speech import say


@click.command("truncate")
@click.argument("source", metavar="IN.stair")
@click.option("--layers", type=click.IntRange(1), help="How many layers to keep.")
@click.option("--max-bytes", type=options.Size(), help="Keep as many layers as fit, such as 40k.")
@click.option("-o", "--output", metavar="OUT", required=True, help="Output file; - is standard output.")
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def command(source: str, layers: int | None, max_bytes: int | None, output: str, force: bool) -> None:
    """Cut a .stair file that was encoded with --layers to its first layers.

    What is left is a whole file of lower quality. Nothing is decoded, and no bundle is needed.
    """
    from softstair.codec import truncate

    if (layers is None) == (max_bytes is None):
        raise UsageError("Ask for --layers or for --max-bytes.")
    files.check_free(output, force=force)
    data = files.read(source)
    with of_file(source):
        cut = truncate(data, layers=layers, max_bytes=max_bytes)
    files.write(output, cut, replace=force)
    if output != files.STANDARD:
        say(f"{source} -> {output}: {len(cut)} of {len(data)} bytes")
