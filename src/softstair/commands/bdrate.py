"""softstair bdrate."""

from __future__ import annotations

import click

METRIC_KEYS = ("ssimulacra2", "psnr", "ms-ssim", "butteraugli", "butteraugli-max", "cvvdp")


@click.command("bdrate")
@click.argument("anchor")
@click.argument("test")
@click.option("--metric", type=click.Choice(METRIC_KEYS), default="psnr", show_default=True)
def command(anchor: str, test: str, metric: str) -> None:
    """Show how many more or fewer bits TEST needs than ANCHOR at equal quality, by two interpolations.

    Each is FILE.json of softstair eval, or FILE.json::CODEC, or a table of points,
    FILE.csv::DATASET::CODEC::VARIANT. What is left away from the end stands for all, each against
    each. Negative: the test needs fewer bits.
    """
    from softstair.evaluate import METRICS, check_same_pictures, delta_rate, delta_table, read_curves

    chosen = METRICS[metric]
    anchors, tests = read_curves(anchor, chosen), read_curves(test, chosen)
    check_same_pictures([*anchors, *tests])
    if len(anchors) == len(tests) == 1:
        delta_rate(anchors[0].points, tests[0].points)  # says why, if there is none
    for line in delta_table(anchors, tests, chosen):
        click.echo(line)
