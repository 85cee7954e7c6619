"""softstair models."""

from __future__ import annotations

import json

import click


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each bundle.")
def command(as_json: bool) -> None:
    """List the installed bundles: shipped ones and those in the folders of SOFTSTAIR_MODELS."""
    from softstair.bundle import installed

    for bundle in installed():
        fields = {
            "name": bundle.name,
            "fingerprint": bundle.fingerprint.hex(),
            "bytes": bundle.size,
            "rate_positions": [0, bundle.last_position],
            "licence": bundle.manifest.licence,
            "description": bundle.manifest.description,
            "origin": bundle.origin,
        }
        if as_json:
            provenance = {
                "provenance": bundle.manifest.provenance,
                "figures": bundle.manifest.figures,
            }
            click.echo(json.dumps(fields | provenance))
        else:
            click.echo(
                f"{bundle.name}  {bundle.fingerprint.hex()}  {bundle.size / 1e6:.1f} MB  "
                f"rate positions 0 to {bundle.last_position}  {bundle.manifest.licence}\n"
                f"  {bundle.manifest.description}\n  from {bundle.origin}"
            )
