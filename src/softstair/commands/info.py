"""softstair info."""

from __future__ import annotations

import json

import click

from softstair import files
from softstair.stream import measure_parts, read_header

from .speech import say


@click.command("info")
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file.")
def command(sources: tuple[str, ...], as_json: bool) -> None:
    """Say what .stair files hold. Needs neither their bundle nor an engine."""
    for source in sources:
        data = files.read(source)
        header, parts = read_header(data), measure_parts(data)
        fields = {
            "file": source,
            "width": header.width,
            "height": header.height,
            "colour": header.colour.name.lower(),
            "mode": header.mode.name.lower(),
            "rate position": header.position,
            "tiles": header.grid.count,
            "bundle": header.fingerprint.hex(),
            "bytes": len(data),
            "bits per pixel": round(8 * len(data) / (header.width * header.height), 4),
            "header bytes": parts.header,
            "tile bytes": parts.tiles,
            "alpha bytes": parts.alpha,
            "metadata bytes": parts.metadata,
        }
        if as_json:
            click.echo(json.dumps({key.replace(" ", "_"): value for key, value in fields.items()}))
        else:
            for key, value in fields.items():
                say(f"{key:>15}  {value}", on_output=True)
