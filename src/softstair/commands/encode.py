"""softstair encode."""

from __future__ import annotations

import warnings

import click

from softstair.errors import UsageError
from softstair.quantize.staircase import STATES

from . import files

_SOURCES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"})


@click.command("encode")
@click.argument("sources", nargs=-1, required=True, metavar="IN...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="File, or folder for several inputs; - is standard output.",
)
@click.option("-q", "--quality", type=click.FloatRange(0, 100), help="0 to 100; 75 if nothing is asked for.")
@click.option("--target-size", type=files.Size(), help="Largest file, like 180k; not exceeded.")
@click.option(
    "--target-bpp",
    type=click.FloatRange(0, min_open=True),
    help="Most bits per pixel; not exceeded.",
)
@click.option("--target-psnr", type=float, help="Least PSNR in dB.")
@click.option(
    "--rate-position",
    type=click.IntRange(0, 255),
    help="The native knob, 1/32 octave of step size.",
)
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(1, 9),
    help="1 scalar, 2 rdoq, 3 tcq4, 4 tcq8, from 5 tcq32.",
)
@click.option(
    "--mode", type=click.Choice(list(STATES)), help="How symbols are chosen; the bundle's own by default."
)
@click.option("-j", "--jobs", type=click.IntRange(1), help="Cores to use; all by default.")
@click.option("--max-memory", type=files.Size(), help="Most memory a picture may take, about; 2G by default.")
@click.option(
    "--strip",
    metavar="KINDS",
    default="",
    help="Metadata to leave out: exif,xmp,icc or all. Pixels are turned if their orientation goes.",
)
@click.option("--model", metavar="BUNDLE", help="Name of an installed bundle, or a .stairs file.")
@click.option("--force", is_flag=True, help="Replace outputs that exist.")
def command(
    sources: tuple[str, ...],
    output: str | None,
    quality: float | None,
    target_size: int | None,
    target_bpp: float | None,
    target_psnr: float | None,
    rate_position: int | None,
    effort: int | None,
    mode: str | None,
    jobs: int | None,
    max_memory: int | None,
    strip: str,
    model: str | None,
    force: bool,
) -> None:
    """Compress pictures (PNG, JPEG, WebP, TIFF; a folder means all in it) to .stair files.

    Ask for at most one of quality, rate position and targets. Targets are met on the bytes of
    the file and never overshot.
    """
    from PIL.Image import DecompressionBombWarning

    from softstair.bundle import open_bundle
    from softstair.codec import MAX_MEMORY, Rate, choose_mode, encode_picture, usable_cores
    from softstair.pictures import read_picture
    from softstair.pictures import strip as without

    # Pillow warns of pictures from 89 megapixels; they are what tiles are for.
    warnings.simplefilter("ignore", DecompressionBombWarning)

    rate = Rate(quality, rate_position, target_size, target_bpp, target_psnr)
    kinds = _kinds(strip)
    work_list = files.plan(sources, output, ".stair", _SOURCES)
    bundle = open_bundle(model)
    chosen = choose_mode(bundle, effort, mode)
    cores = jobs or usable_cores()
    workers = min(cores, len(work_list))

    def work(job: files.Job) -> str:
        files.check_free(job.target, force=force)
        picture = without(read_picture(files.read(job.source), job.source), kinds)
        encoded = encode_picture(
            picture,
            rate,
            bundle,
            mode=chosen,
            threads=max(1, cores // workers),
            max_memory=max_memory or MAX_MEMORY,
        )
        files.write(job.target, encoded.data)
        height, width = picture.pixels.shape[:2]
        size = len(encoded.data)
        return (
            f"{job.source} -> {job.target}: {width}x{height}, {size} bytes, "
            f"{8 * size / (width * height):.3f} bpp, rate position {encoded.position}"
        )

    files.run_all(work_list, work, workers, "Encoding")


def _kinds(strip: str) -> frozenset[str]:
    known = {"exif", "xmp", "icc"}
    kinds = {kind.strip() for kind in strip.split(",") if kind.strip()}
    if "all" in kinds:
        return frozenset(known)
    if kinds - known:
        raise UsageError(f"--strip takes exif, xmp, icc or all, not {', '.join(sorted(kinds - known))}.")
    return frozenset(kinds)
