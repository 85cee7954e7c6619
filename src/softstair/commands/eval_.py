"""softstair eval."""

from __future__ import annotations

from pathlib import Path

import click

from . import options


@click.command("eval")
@click.argument("dataset")
@click.option("-o", "--output", type=options.PATH, required=True, metavar="FILE.json")
@click.option("--data-root", type=options.PATH, help="Folder of the named data sets.")
@click.option("--model", metavar="BUNDLE", help="Installed bundle by name, or a .stairs file.")
@click.option(
    "--peers", default="", metavar="NAMES", help="Other codecs, such as jpeg,webp,avif-420, or all."
)
@click.option(
    "--rate-positions", default="", metavar="LIST", help="Such as 0,32,64; all rate points by default."
)
@click.option("--modes", default="", metavar="LIST", help="Such as scalar,tcq8; the bundle's own by default.")
@click.option(
    "--judges",
    default="all",
    show_default=True,
    metavar="LIST",
    help="Some of grid,butteraugli,cvvdp, or none; all that are installed by default.",
)
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Pictures at once.")
@click.option(
    "--timings",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Afterwards, time N pictures for each codec and quality, one at a time; 0 keeps earlier times.",
)
@click.option("--fresh", is_flag=True, help="Discard what FILE.json holds and measure everything again.")
def command(
    dataset: str,
    output: Path,
    data_root: Path | None,
    model: str | None,
    peers: str,
    rate_positions: str,
    modes: str,
    judges: str,
    jobs: int,
    timings: int,
    fresh: bool,
) -> None:
    """Measure Softstair and other codecs on a data set, by encoding and decoding real files.

    DATASET is kodak, photos768 or large1200 under --data-root, or any folder. Writes one JSON
    file and, beside it, the same as Markdown. Repeated, it measures only what is missing.
    """
    from rich.console import Console
    from rich.progress import Progress

    from softstair import files
    from softstair.errors import UsageError
    from softstair.evaluate import (
        absent_judges,
        evaluate,
        find_data_set,
        find_judges,
        find_peers,
        markdown,
        softstair_codec,
    )

    try:
        positions = [int(part) for part in rate_positions.split(",") if part.strip()] or None
    except ValueError as error:
        raise UsageError(
            f"--rate-positions takes whole numbers like 0,32,64, not {rate_positions}."
        ) from error
    names = [name.strip() for name in peers.split(",") if name.strip()]
    wanted: list[str | None] = [mode.strip() for mode in modes.split(",") if mode.strip()]
    own = [softstair_codec(model, positions, mode=mode) for mode in wanted or [None]]
    codecs = [*own, *find_peers(names)]
    asked = [] if judges == "none" else [name.strip() for name in judges.split(",") if name.strip()]
    panel = find_judges(asked)
    for judge in absent_judges() if "all" in asked else ():
        click.echo(judge.needs, err=True)
    files.check_suffix(str(output), [".json"])
    data_set = find_data_set(dataset, data_root)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"Measuring {data_set.name}", total=None)
        results = evaluate(
            codecs,
            data_set,
            output,
            jobs=jobs,
            timings=timings,
            resume=not fresh,
            judges=panel,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    report = markdown(results)
    files.write(str(output.with_suffix(".md")), report.encode())
    click.echo(report)
