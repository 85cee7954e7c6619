"""softstair pack."""

from __future__ import annotations

import click

from softstair import files

from .speech import say


@click.group("pack")
def command() -> None:
    """Packs adapt a bundle to a kind of pictures; softstair adapt makes them."""


@command.command("flatten")
@click.argument("pack")
@click.option("-o", "--output", required=True, metavar="OUT", help="The bundle, a .stairs file.")
@click.option("--model", metavar="BUNDLE", help="The bundle that the pack changes, if it is not installed.")
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def flatten(pack: str, output: str, model: str | None, force: bool) -> None:
    """Merge a pack into its bundle for good, for archives.

    The bundle that comes out needs neither, and opens all files that were made with the pack.
    """
    from softstair.bundle import open_bundle, packed_bundle

    bundle = open_bundle(model, pack=pack)
    files.check_free(output, force=force)
    files.write(output, packed_bundle(bundle.entries), replace=force)
    say(f"{output}: {bundle.name} {bundle.fingerprint.hex()}, {bundle.size} bytes")
