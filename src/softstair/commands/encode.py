"""softstair encode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import msgspec

from softstair import __version__
from softstair.errors import UsageError
from softstair.quantize.staircase import STATES

from . import batch, files
from .jobs import Job, plan

if TYPE_CHECKING:
    from softstair.codec import Rate

_SOURCES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Encoding:
    """What ``softstair encode`` makes of a picture. fingerprint: of the bundle, hex."""

    rate: Rate
    mode: str
    strip: frozenset[str]
    model: str | None
    fingerprint: str
    threads: int
    max_memory: int

    @property
    def settings(self) -> bytes:
        """Memory and threads decide no byte of a file."""
        deciding = [__version__, self.fingerprint, self.rate, self.mode, sorted(self.strip)]
        return msgspec.json.encode(deciding)

    def __call__(self, source: bytes, job: Job) -> batch.Product:
        import warnings

        from PIL.Image import DecompressionBombWarning

        from softstair.bundle import open_bundle
        from softstair.codec import encode_picture
        from softstair.pictures import read_picture, strip

        bundle = open_bundle(self.model)
        if bundle.fingerprint.hex() != self.fingerprint:
            raise UsageError(
                f"Bundle {bundle.name} is {bundle.fingerprint.hex()} where the work is done, not "
                f"{self.fingerprint}; install the same one everywhere."
            )
        # Pillow warns of pictures from 89 megapixels; they are what tiles are for.
        warnings.simplefilter("ignore", DecompressionBombWarning)
        picture = strip(read_picture(source, job.source), self.strip)
        encoded = encode_picture(
            picture, self.rate, bundle, mode=self.mode, threads=self.threads, max_memory=self.max_memory
        )
        height, width = picture.pixels.shape[:2]
        size = len(encoded.data)
        return batch.Product(
            encoded.data,
            f"{job.source} -> {job.target}: {width}x{height}, {size} bytes, "
            f"{8 * size / (width * height):.3f} bpp, rate position {encoded.position}",
        )


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
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Let a Dask cluster do it, such as tcp://host:8786 (extra cluster).",
)
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
    scheduler: str | None,
    force: bool,
) -> None:
    """Compress pictures (PNG, JPEG, WebP, TIFF; a folder means all in it) to .stair files.

    Sub-folders are mirrored below OUT. Run again, the same command does only what is not finished.

    Ask for at most one of quality, rate position and targets. Targets are met on the bytes of
    the file and never overshot.
    """
    from softstair.bundle import open_bundle
    from softstair.codec import MAX_MEMORY, Rate, choose_mode, usable_cores

    from .cluster import absolute, run_on_cluster

    if scheduler is not None and jobs is not None:
        raise UsageError("The workers of a cluster decide how much is done at once; leave --jobs away.")
    rate = Rate(quality, rate_position, target_size, target_bpp, target_psnr)
    kinds = _kinds(strip)
    work_list = plan(sources, output, ".stair", _SOURCES)
    bundle = open_bundle(model)
    chosen = choose_mode(bundle, effort, mode)
    cores = jobs or usable_cores()
    workers = min(cores, len(work_list.jobs))
    runner = batch.run_here(workers)
    if scheduler is not None:
        work_list, runner, workers = absolute(work_list), run_on_cluster(scheduler), cores
    work = Encoding(
        rate,
        chosen,
        kinds,
        model,
        bundle.fingerprint.hex(),
        max(1, cores // workers),
        max_memory or MAX_MEMORY,
    )
    batch.run_all(work_list, work, runner, "Encoding", force=force)


def _kinds(strip: str) -> frozenset[str]:
    known = {"exif", "xmp", "icc"}
    kinds = {kind.strip() for kind in strip.split(",") if kind.strip()}
    if "all" in kinds:
        return frozenset(known)
    if kinds - known:
        raise UsageError(f"--strip takes exif, xmp, icc or all, not {', '.join(sorted(kinds - known))}.")
    return frozenset(kinds)
