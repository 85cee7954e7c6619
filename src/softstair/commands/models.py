"""softstair models."""

from __future__ import annotations

import json

import click


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each bundle and pack.")
def command(as_json: bool) -> None:
    """List the installed bundles and packs: shipped ones and those in the folders of SOFTSTAIR_MODELS."""
    from softstair.bundle import installed, installed_packs

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
    for path, pack in installed_packs():
        fields = {
            "name": pack.name,
            "fingerprint": pack.fingerprint,
            "pack_of": pack.bundle_name,
            "bundle": pack.bundle,
            "bytes": path.stat().st_size,
            "licence": pack.licence,
            "description": pack.description,
            "origin": str(path),
        }
        if as_json:
            click.echo(json.dumps(fields | {"provenance": pack.provenance, "figures": pack.figures}))
        else:
            click.echo(
                f"{pack.name}  {pack.fingerprint}  {path.stat().st_size / 1e3:.0f} kB  pack of "
                f"{pack.bundle_name} ({pack.bundle})  {pack.licence}\n  {pack.description}\n  from {path}"
            )
