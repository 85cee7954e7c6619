"""softstair plot."""

from __future__ import annotations

from pathlib import Path

import click

from softstair import files
from softstair.errors import UsageError

from .bdrate import METRIC_KEYS


@click.command("plot")
@click.argument("curves", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="FILE.svg|png")
@click.option("--metric", type=click.Choice(METRIC_KEYS), default="psnr", show_default=True)
@click.option("--published", is_flag=True, help="Add the published curves that come with Softstair.")
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def command(curves: tuple[str, ...], output: str, metric: str, published: bool, force: bool) -> None:
    """Draw rate-distortion curves: files as for softstair bdrate.

    Published curves are dashed and say so.
    """
    from softstair.evaluate import METRICS, check_same_pictures, published_beside, read_curves
    from softstair.evaluate.plot import FORMATS, plot_curves

    file_format = Path(output).suffix.removeprefix(".").lower()
    if file_format not in FORMATS:
        raise UsageError(f"{output} must end in .{', .'.join(FORMATS)}.")
    files.check_free(output, force=force, sources=curves)
    chosen = METRICS[metric]
    drawn = [curve for place in curves for curve in read_curves(place, chosen)]
    check_same_pictures(drawn)
    if published:
        more = published_beside(drawn[0], chosen)
        if not more:
            raise UsageError(
                f"There are no published curves of {chosen.label} over the pictures of {drawn[0].data_set}."
            )
        drawn += more
    files.write(output, plot_curves(drawn, chosen, file_format))
