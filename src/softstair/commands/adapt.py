"""softstair adapt."""

from __future__ import annotations

from pathlib import Path

import click

from softstair import files
from softstair.errors import UsageError

from . import learning, options
from .speech import say


@click.command("adapt")
@click.argument("folder", type=options.PATH)
@click.option("-o", "--output", required=True, metavar="OUT", help="The pack, a .pack file.")
@click.option(
    "--minutes",
    type=click.FloatRange(0),
    default=20,
    show_default=True,
    help="Longest training of the transforms; with 0 they stay as they are.",
)
@click.option("--name", help="Name of the pack; that of the file by default.")
@click.option(
    "--licence", default="unknown", help="Licence of the pack, of which its pictures may have a say."
)
@click.option(
    "--data", default="", help="What the pictures are and where they come from, for the pack to say."
)
@click.option("--model", metavar="BUNDLE", help="Installed bundle by name, or a .stairs file.")
@click.option("--force", is_flag=True, help="Replace an output that exists.")
@learning.jobs
def command(
    folder: Path,
    output: str,
    minutes: float,
    name: str | None,
    licence: str,
    data: str,
    model: str | None,
    force: bool,
    jobs: int | None,
) -> None:
    """Adapt a bundle to pictures like those in FOLDER; 25 are enough.

    What comes out is a small file that encode and decode take as --pack. After the transforms, what codes
    their symbols learns anew, in a few minutes more. A fifth of the pictures is held back: training stops
    when it no longer helps them, transforms that do not make their files smaller stay as they were, and a
    pack that gains nothing there is not written. Interrupted, the same command goes on.
    """
    from softstair.bundle import PACK_SUFFIX, open_bundle

    learning.import_torch(jobs)
    from softstair.learn.stages.adapt import Adaptation, adapt

    target = Path(output)
    if target.suffix != PACK_SUFFIX:
        raise UsageError(f"{output} would be a pack without the suffix {PACK_SUFFIX}; name it so.")
    files.check_free(output, force=force)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder of pictures.")
    bundle = open_bundle(model)
    settings = Adaptation(name or target.stem, licence, minutes, data=data)
    gain = adapt(bundle, folder, target, settings, say=say)
    say(
        f"{output}: {target.stat().st_size} bytes. On the pictures held back files take {gain.bits:+.1f} % "
        f"of bits at equal quality, and {gain.packed} bytes instead of {gain.base} at the default quality."
    )
