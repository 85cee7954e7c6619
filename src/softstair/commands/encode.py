"""softstair encode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from softstair import __version__, files
from softstair.errors import UsageError
from softstair.folders.jobs import Job, WorkList, plan
from softstair.folders.work import Product, run_here
from softstair.mode import Mode

from . import options, running

if TYPE_CHECKING:
    from softstair.bundle import Bundle, Pack
    from softstair.codec import Encoded, Rate

_ALL = "all"  # pages
_AUTO = "auto"  # packs
_LAST_PAGE = 1_000_000


@dataclass(frozen=True)
class Encoding:
    """What ``softstair encode`` makes of a picture.

    fingerprints: of the bundle with the pack in it, hex, and of packs that may change it. keeps_sources:
    where the file would be larger than its source. like: the old file of the picture.
    """

    rate: Rate
    mode: str | None
    strip: frozenset[str]
    model: str | None
    pack: str | None
    fingerprints: tuple[str, ...]
    threads: int
    max_memory: int
    keeps_sources: bool = False
    progressive: bool = False
    layers: int | None = None
    like: bytes | None = None

    @property
    def settings(self) -> bytes:
        """Memory and threads decide no byte of a file."""
        deciding = [__version__, self.fingerprints, self.rate, self.mode, sorted(self.strip)]
        deciding += [self.progressive, self.layers, self.like]
        return msgspec.json.encode(deciding)

    def __call__(self, source: bytes, job: Job) -> Product:
        from softstair.codec import choose_pack, encode_like, encode_picture
        from softstair.pictures import Note, read_picture, strip

        bundle, packs = opened(self.model, self.pack)
        if fingerprints(bundle, packs) != self.fingerprints:
            raise UsageError(
                f"Bundle and packs are {', '.join(fingerprints(bundle, packs))} on the worker, not "
                f"{', '.join(self.fingerprints)}; install the same ones everywhere."
            )
        picture = read_picture(source, job.name, page=job.page, max_memory=self.max_memory)
        picture = strip(picture, self.strip)
        if packs and not self.rate.is_exact:
            bundle = choose_pack(bundle, packs, picture.pixels, self.rate, self.threads)
        if self.like is None:
            encoded = encode_picture(
                picture,
                self.rate,
                bundle,
                mode=self.mode,
                progressive=self.progressive,
                layers=self.layers,
                threads=self.threads,
                max_memory=self.max_memory,
            )
        else:
            encoded = encode_like(
                picture,
                self.like,
                None if self.model is None else bundle,
                threads=self.threads,
                max_memory=self.max_memory,
            )
        height, width = picture.pixels.shape[:2]
        size, notes = len(encoded.data), picture.notes
        if size > len(source):
            larger = f"It is larger as a .stair file: {size} bytes, and {len(source)} as it was"
            if self.keeps_sources:
                line = f"{job.name} is kept: {len(source)} bytes, and {size} as a .stair file"
                return Product(None, line, notes)
            notes += (Note("larger than the source", f"{larger}; --skip-larger keeps such sources."),)
        return Product(
            encoded.data,
            f"{job.name} -> {job.target}: {width}x{height}, {size} bytes, "
            f"{8 * size / (width * height):.3f} bpp, {_how(encoded)}",
            notes,
        )


def opened(model: str | None, pack: str | None) -> tuple[Bundle, tuple[Pack, ...]]:
    """The bundle with the pack in it, and the packs of which each picture may choose one."""
    from softstair.bundle import open_bundle, packs_of

    if pack != _AUTO:
        return open_bundle(model, pack=pack), ()
    bundle = open_bundle(model)
    return bundle, tuple(packs_of(bundle))


def fingerprints(bundle: Bundle, packs: tuple[Pack, ...]) -> tuple[str, ...]:
    """All that decide what files are, in hex."""
    return bundle.fingerprint.hex(), *(pack.fingerprint.hex() for pack in packs)


def _how(encoded: Encoded) -> str:
    if encoded.position is None:
        return "in fewer colours" if encoded.is_reduced else "exact"
    drawn = ", drawn parts in fewer colours" if encoded.is_reduced else ", exact in part"
    partly = drawn if encoded.exact_tiles else ""
    return f"rate position {encoded.position}{partly}"


class _Page(click.ParamType[int | str]):
    """The number of a page, or all of them."""

    name = "N|all"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        text = str(value)
        if text != _ALL and not (text.isdecimal() and 1 <= int(text) <= _LAST_PAGE):
            self.fail(f"{text!r} is neither a page number, counted from 1, nor {_ALL}.", param, ctx)
        return _ALL if text == _ALL else int(text)


@click.command("encode")
@click.argument("sources", nargs=-1, required=True, metavar="IN...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="Output file, or folder for several inputs; - is standard output.",
)
@click.option(
    "-q",
    "--quality",
    type=click.FloatRange(0, 100),
    help="0 to 100; 75 by default, 100 is lossless.",
)
@click.option("--lossless", is_flag=True, help="Code the picture without loss.")
@click.option("--target-size", type=options.Size(), help="Largest file size, such as 180k; never exceeded.")
@click.option(
    "--target-bpp",
    type=click.FloatRange(0, min_open=True),
    help="Most bits per pixel; never exceeded.",
)
@click.option("--target-psnr", type=float, help="Lowest PSNR in dB; never undercut.")
@click.option(
    "--rate-position",
    type=click.IntRange(0, 255),
    help="Exact setting of the rate, in 1/32 octave of step size.",
)
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(1, 9),
    help="1 scalar, 2 rdoq, 3 tcq4, 4 tcq8, 5 tcq32, 6 to 9 tcq512.",
)
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    help="How symbols are chosen; the bundle's own by default.",
)
@click.option(
    "--like",
    metavar="OLD.stair",
    help="The file that the picture was decoded from before it was edited: what is the same stays.",
)
@click.option(
    "--progressive", is_flag=True, help="Show all of a large picture early, while its file arrives."
)
@click.option(
    "--layers",
    type=click.IntRange(2, 4),
    help="Make one file that truncate cuts to smaller ones: 2 to 4 qualities, the last as asked for.",
)
@click.option("-j", "--jobs", type=click.IntRange(1), help="Cores to use; all by default.")
@options.max_memory
@options.strip
@click.option(
    "--page",
    type=_Page(),
    help="Page or frame to encode, counted from 1, or all: each becomes a file in a folder.",
)
@click.option("--skip-larger", is_flag=True, help="Write no file that is larger than its source.")
@click.option("--keep-times", is_flag=True, help="Copy the times of the sources to the outputs.")
@click.option("--model", metavar="BUNDLE", help="Installed bundle by name, or a .stairs file.")
@click.option(
    "--pack",
    metavar="PACK|auto",
    help="Installed pack by name, or a .pack file: adapts the bundle. auto: what each picture asks for.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Address of a Dask cluster to use, such as tcp://host:8786 (extra cluster).",
)
@click.option("--force", is_flag=True, help="Replace outputs that exist.")
def command(
    sources: tuple[str, ...],
    output: str | None,
    quality: float | None,
    lossless: bool,
    target_size: int | None,
    target_bpp: float | None,
    target_psnr: float | None,
    rate_position: int | None,
    effort: int | None,
    mode: str | None,
    like: str | None,
    progressive: bool,
    layers: int | None,
    jobs: int | None,
    max_memory: int | None,
    strip: str,
    page: int | str | None,
    skip_larger: bool,
    keep_times: bool,
    model: str | None,
    pack: str | None,
    scheduler: str | None,
    force: bool,
) -> None:
    """Compress pictures of any common format, or all in a folder, to .stair files.

    Sub-folders are mirrored below OUT. Rerun the same command to do only what is not finished.

    Ask for at most one of quality, lossless, rate position and targets. Targets are met on the bytes of
    the file and never overshot.
    """
    from softstair.codec import MAX_MEMORY, Rate, choose_mode, usable_cores
    from softstair.folders.cluster import absolute, run_on_cluster
    from softstair.pictures import missing_suffixes, source_suffixes

    if scheduler is not None and jobs is not None:
        raise UsageError(
            "The workers of a cluster set how many pictures are coded at once; leave out --jobs."
        )
    rate = Rate(quality, rate_position, target_size, target_bpp, target_psnr, lossless or None)
    others = effort or mode or progressive or layers or pack == _AUTO
    if like is not None and (rate != Rate() or others or page is not None):
        raise UsageError(
            "--like takes rate, mode, order and pack from the old file; leave the other options out."
        )
    if like is not None and (len(sources) > 1 or Path(sources[0]).is_dir()):
        raise UsageError("--like is for one picture; name that alone.")
    if layers is not None and (effort or mode or progressive):
        raise UsageError(
            "--layers has a mode and an order of its own; leave --effort, --mode and --progressive out."
        )
    kinds = options.kinds_of(strip)
    work_list = plan(sources, output, ".stair", source_suffixes(), missing_suffixes())
    work_list = _on_pages(_checked(work_list), page)
    bundle, packs = opened(model, pack)
    chosen = choose_mode(bundle, effort, mode) if layers is None else None
    cores = jobs or usable_cores()
    workers = min(cores, len(work_list.jobs))
    runner = run_here(workers)
    if scheduler is not None:
        work_list, runner, workers = absolute(work_list), run_on_cluster(scheduler), cores
    work = Encoding(
        rate,
        chosen,
        kinds,
        model,
        pack,
        fingerprints(bundle, packs),
        max(1, cores // workers),
        MAX_MEMORY if max_memory is None else max_memory,
        skip_larger,
        progressive,
        layers,
        None if like is None else files.read(like),
    )
    running.run_all(
        work_list, work, runner, "Encoding", force=force, keep_times=keep_times, most=work.max_memory
    )


def _checked(work_list: WorkList) -> WorkList:
    """Refuses names of outputs that promise another format."""
    from softstair.pictures import is_picture_name

    for job in work_list.jobs:
        suffix = Path(job.target).suffix
        if is_picture_name(suffix) and not files.is_special(Path(job.target)):
            raise UsageError(f"{job.target} would be a .stair file called {suffix}; name it .stair.")
    return work_list


def _on_pages(work_list: WorkList, page: int | str | None) -> WorkList:
    """The same jobs on one page each, or on every page in a folder of the output's name."""
    if page is None:
        return work_list
    if isinstance(page, int):
        return replace(work_list, jobs=tuple(replace(job, page=page) for job in work_list.jobs))
    from softstair.pictures import count_pages

    jobs: list[Job] = []
    for job in work_list.jobs:
        if files.STANDARD in (job.source, job.target):
            raise UsageError("--page all needs a file to read and files to write, not -; name them.")
        count = count_pages(files.read(job.source), job.source)
        folder = Path(job.target).with_suffix("")
        for number in range(1, count + 1) if count > 1 else ():
            target = folder / f"{number:0{len(str(count))}}.stair"
            jobs.append(replace(job, target=str(target), page=number, makes_folder=True))
        if count == 1:
            jobs.append(job)
    return replace(work_list, jobs=tuple(jobs))
