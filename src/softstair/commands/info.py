"""softstair info."""

from __future__ import annotations

import json

import click

from softstair import files
from softstair.errors import of_file
from softstair.stream import MAX_SIDE, NO_BUNDLE, StreamReader, measure_parts

from .speech import say


@click.command("info")
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each file.")
def command(sources: tuple[str, ...], as_json: bool) -> None:
    """Show what .stair files hold. Needs neither their bundle nor an engine.

    What is exact in every tile has no mode, no rate position and no bundle. Reduced tiles are coded like
    exact ones, in fewer colours than the picture had.
    """
    for source in sources:
        data = files.read(source)
        with of_file(source):
            reader = StreamReader(data, max_pixels=MAX_SIDE * MAX_SIDE)
            parts = measure_parts(reader)
        header = reader.header
        learned = header.fingerprint != NO_BUNDLE
        fields = {
            "file": source,
            "width": header.width,
            "height": header.height,
            "colour": header.colour.name.lower(),
            "mode": header.mode if learned else None,
            "rate position": reader.shown_position if learned else None,
            "smoothing": header.smoothing or None,
            "layers": None if header.layers == 1 else f"{reader.layers} of {header.layers}",
            "tiles": header.grid.count,
            "exact tiles": 0 if reader.is_reduced else len(reader.exact),
            "reduced tiles": len(reader.exact) if reader.is_reduced else 0,
            "bundle": header.fingerprint.hex() if learned else None,
            "pack": None if header.pack is None else header.pack.hex(),
            "bytes": len(data),
            "bits per pixel": round(8 * len(data) / (header.width * header.height), 4),
            "header bytes": parts.header,
            "tile bytes": parts.tiles,
            "layer bytes": ", ".join(map(str, parts.layers)) or None,
            "alpha bytes": parts.alpha,
            "metadata bytes": parts.metadata,
            "small picture": parts.small or None,
        }
        if as_json:
            click.echo(json.dumps({key.replace(" ", "_"): value for key, value in fields.items()}))
        else:
            for key, value in fields.items():
                say(f"{key:>15}  {'none' if value is None else value}", on_output=True)
