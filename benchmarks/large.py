"""Time and peak memory of large pictures beside AVIF and JPEG XL, as Markdown tables.

    python benchmarks/large.py PHOTOGRAPH... [--megapixels 1 12 50 100] [--threads 1] [--quality 50]

Pictures of so many megapixels, 4:3: the first photograph scaled down, cut to size, or, where it is
too small, continued by its mirror images. Every measurement is a process of its own; its peak
includes the interpreter and the pixels as an array (3 bytes a pixel). The settings of AVIF and JPEG
XL are those that make a part of two megapixels as small as Softstair does. Time is that of the processor
in one run, which other work on the machine hardly moves; files are not part of it.

The last tables say what tiles do to a picture: error next to the borders of tiles against the same
pixels without tiles, and what a region and a small scale cost.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
REACH = 8  # pixels on either side of a border of tiles


@dataclass(frozen=True)
class Settings:
    """What all processes are told. avif: quality; jxl: distance."""

    threads: int
    quality: float
    avif: int = 60
    jxl: float = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--megapixels", nargs="+", type=int, default=[1, 12, 50, 100])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*json.loads(arguments.one))))
        return
    settings = Settings(arguments.threads, arguments.quality)
    with tempfile.TemporaryDirectory() as folder:
        pictures = {
            size: save_picture(arguments.photographs[0], size, Path(folder)) for size in arguments.megapixels
        }
        with Image.open(arguments.photographs[0]) as image:
            middle = image.convert("RGB").crop(centred(image.width, image.height, 1600, 1200))
        settings = matched(np.asarray(middle), settings)
        compare(pictures, settings)
        parts(pictures[arguments.megapixels[-1]], settings)
        print_borders(arguments.photographs, settings)


def compare(pictures: dict[int, Path], settings: Settings) -> None:
    """The table of sizes and codecs."""
    print(
        "# Large pictures\n\n"
        "Processor seconds, and the most memory that a process held, interpreter and pixels included "
        f"(3 MB a megapixel); {settings.threads} thread(s). Softstair at quality {settings.quality:g}, "
        f"AVIF 4:4:4 (libaom, speed 6) at {settings.avif}, JPEG XL (effort 7) at distance "
        f"{settings.jxl:.2f}. What the photograph does not fill, its mirror images do.\n"
    )
    print("| megapixels | codec | bpp | encode s | peak MB | decode s | peak MB |")
    print("| --: | --- | --: | --: | --: | --: | --: |")
    for size, path in pictures.items():
        for codec in ("softstair", "avif", "jxl"):
            stream = path.with_suffix(f".{codec}")
            there = run("encode", codec, path, stream, settings)
            back = run("decode", codec, path, stream, settings)
            bpp = 8 * stream.stat().st_size / np.load(path, mmap_mode="r").size * 3
            print(
                f"| {size} | {codec} | {bpp:.3f} | {there['seconds']:.1f} | {there['mb']:.0f} | "
                f"{back['seconds']:.1f} | {back['mb']:.0f} |",
                flush=True,
            )


def parts(path: Path, settings: Settings) -> None:
    """What parts of the largest picture cost."""
    from softstair.codec.encoder import choose_layout
    from softstair.tiles import TileGrid

    height, width, _ = np.load(path, mmap_mode="r").shape
    tile = TileGrid(height, width, choose_layout(height, width)).box(0)
    stream = path.with_suffix(".softstair")
    centre = [tile.columns // 2 - 320, tile.rows // 2 - 240]
    print(f"\n## Parts\n\nOf the {width}x{height} picture:\n\n| | decode s | peak MB |\n| --- | --: | --: |")
    for name, view in (
        ("region of 640x480 inside a tile", {"region": [*centre, 640, 480]}),
        (
            "region of 1920x1080 around a corner of four",
            {"region": [tile.right - 960, tile.bottom - 540, 1920, 1080]},
        ),
        ("all of it at 1/8", {"scale": 1 / 8}),
    ):
        found = run("decode", "softstair", path, stream, settings, view)
        print(f"| {name} | {found['seconds']:.1f} | {found['mb']:.0f} |", flush=True)


def run(
    action: str,
    codec: str,
    path: Path,
    stream: Path,
    settings: Settings,
    view: dict[str, object] | None = None,
) -> dict[str, float]:
    """One measurement in a process of its own."""
    task = json.dumps([action, codec, str(path), str(stream), vars(settings), view or {}])
    command = [sys.executable, __file__, str(path), "--one", task]
    result: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    return result


def measure(
    action: str, codec: str, path: str, stream: str, settings: dict[str, float], view: dict[str, object]
) -> dict[str, float]:
    """Seconds and peak memory, of whatever this process does."""
    there, back = CODECS[codec]
    chosen = Settings(**settings)  # type: ignore[arg-type]
    if action == "encode":
        pixels = np.load(path)
        start = time.process_time()
        data = there(pixels, chosen)
        seconds = time.process_time() - start
        Path(stream).write_bytes(data)
    else:
        data = Path(stream).read_bytes()
        start = time.process_time()
        back(data, chosen, view)
        seconds = time.process_time() - start
    return {"seconds": seconds, "mb": peak() / 1e6}


def peak() -> int:
    """Most bytes that this process has held. ru_maxrss would begin with what its parent held."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def encode_softstair(pixels: Pixels, settings: Settings) -> bytes:
    import softstair

    return softstair.encode(pixels, quality=settings.quality, threads=settings.threads)


def decode_softstair(data: bytes, settings: Settings, view: dict[str, object]) -> Pixels:
    import softstair

    return softstair.decode(data, threads=settings.threads, **view)  # type: ignore[arg-type]


def encode_avif(pixels: Pixels, settings: Settings) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer, "AVIF", quality=settings.avif, speed=6, subsampling="4:4:4", max_threads=settings.threads
    )
    return buffer.getvalue()


def decode_avif(data: bytes, settings: Settings, view: dict[str, object]) -> Pixels:
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = settings.threads
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def encode_jxl(pixels: Pixels, settings: Settings) -> bytes:
    import imagecodecs

    return bytes(
        imagecodecs.jpegxl_encode(
            pixels, distance=settings.jxl, effort=7, lossless=False, numthreads=settings.threads
        )
    )


def decode_jxl(data: bytes, settings: Settings, view: dict[str, object]) -> Pixels:
    import imagecodecs

    return np.asarray(imagecodecs.jpegxl_decode(data, numthreads=settings.threads))


CODECS: dict[str, tuple[Callable[[Pixels, Settings], bytes], Callable[..., Pixels]]] = {
    "softstair": (encode_softstair, decode_softstair),
    "avif": (encode_avif, decode_avif),
    "jxl": (encode_jxl, decode_jxl),
}


def matched(pixels: Pixels, settings: Settings) -> Settings:
    """Settings with which the others make files of Softstair's size."""
    goal = len(encode_softstair(pixels, settings))
    worse, better = 10, 95
    while better - worse > 1:
        best = Settings(settings.threads, settings.quality, (worse + better) // 2)
        if len(encode_avif(pixels, best)) < goal:
            worse = best.avif
        else:
            better = best.avif
    best = Settings(settings.threads, settings.quality, better)
    low, high = 0.3, 8.0  # distances; bytes fall as they rise
    for _ in range(7):
        middle = (low * high) ** 0.5
        best = Settings(settings.threads, settings.quality, best.avif, round(middle, 2))
        low, high = (middle, high) if len(encode_jxl(pixels, best)) > goal else (low, middle)
    return best


def save_picture(photograph: Path, megapixels: int, folder: Path) -> Path:
    """A picture of 4:3 as a .npy file."""
    height = int((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = height * 4 // 3
    with Image.open(photograph) as image:
        image = image.convert("RGB")
        if megapixels < 2:
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        elif image.width >= width and image.height >= height:
            image = image.crop(centred(image.width, image.height, width, height))
        source = np.asarray(image)
    below, beside = max(0, height - source.shape[0]), max(0, width - source.shape[1])
    pixels = np.pad(source, ((0, below), (0, beside), (0, 0)), mode="symmetric")
    path = folder / f"{megapixels}.npy"
    np.save(path, pixels[:height, :width])
    return path


def centred(width: int, height: int, columns: int, rows: int) -> tuple[int, int, int, int]:
    """A box of columns x rows in the middle, for Pillow."""
    left, top = (width - columns) // 2, (height - rows) // 2
    return left, top, left + columns, top + rows


def print_borders(photographs: list[Path], settings: Settings) -> None:
    """PSNR next to borders of tiles and elsewhere, with tiles and without."""
    print(
        f"\n## Borders\n\nPSNR in dB within {REACH} pixels of a border of tiles, and of all other pixels; "
        "beside each, how the same pixels fare in one tile. Bytes against one tile.\n"
    )
    print("| photograph | quality | borders | in one tile | others | in one tile | bytes |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for path in photographs:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        for quality in (25, 50, 75):
            print(borders(path.stem, pixels, quality, settings), flush=True)


def borders(name: str, pixels: Pixels, quality: int, settings: Settings) -> str:
    """A row of the table: the largest layout with borders, against none."""
    from softstair import decode, open_bundle
    from softstair.codec import position_of_quality
    from softstair.codec.budget import MAX_MEMORY, Plan
    from softstair.codec.encoder import choose_layout
    from softstair.codec.picture_coder import PictureCoder
    from softstair.codec.workers import Workers
    from softstair.pictures import Picture
    from softstair.stream import Colour, Header, Metadata, join_stream, pack_extras
    from softstair.tiles import TileGrid

    bundle, (height, width, _) = open_bundle(), pixels.shape
    mode = bundle.mode_named(bundle.manifest.encoding.mode)
    position = position_of_quality(quality, bundle.last_position)
    errors, sizes = [], []
    layout = choose_layout(height, width)
    for cut in (layout, 0):
        grid = TileGrid(height, width, cut)
        workers = Workers(bundle, mode, settings.threads, 1)
        tiles = (
            PictureCoder(Picture(pixels), grid, workers, Plan(8, 1), lambda position: 0, keep=False)
            .code(position)
            .tiles
        )
        header = Header(bundle.fingerprint, width, height, Colour.RGB, mode, position, cut)
        data = join_stream(header, tiles, pack_extras(None, Metadata(), grid))
        decoded = decode(data, threads=settings.threads, max_memory=2 * MAX_MEMORY)
        errors.append(np.square(decoded.astype(np.float32) - pixels).mean(axis=2))
        sizes.append(len(data))
    near = np.zeros((height, width), bool)
    grid = TileGrid(height, width, layout)
    for index in range(grid.count):
        box = grid.box(index)
        if box.top:
            near[box.top - REACH : box.top + REACH] = True
        if box.left:
            near[:, box.left - REACH : box.left + REACH] = True
    cells = [
        f"{10 * np.log10(255**2 / error[where].mean(dtype=np.float64)):.3f}"
        for where in (near, ~near)
        for error in errors
    ]
    return f"| {name} | {quality} | {' | '.join(cells)} | {100 * (sizes[0] / sizes[1] - 1):+.2f} % |"


if __name__ == "__main__":
    main()
