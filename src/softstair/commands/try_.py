"""softstair try."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from . import files

Pixels = npt.NDArray[np.uint8]


@click.command("try")
@click.argument("photo")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), default=50.0, show_default=True)
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    help="Where to leave the files; a new temporary one by default.",
)
def command(photo: str, quality: float, output: str | None) -> None:
    """Compress a photograph, bring it back, and compare with JPEG, WebP and AVIF of that size."""
    from softstair import open_bundle
    from softstair.codec import Rate, decode_picture, encode_picture
    from softstair.pictures import read_picture, write_picture

    picture = read_picture(files.read(photo), photo)
    bundle = open_bundle()
    start = time.perf_counter()
    encoded = encode_picture(picture, Rate(quality=quality), bundle)
    middle = time.perf_counter()
    decoded = decode_picture(encoded.data)
    end = time.perf_counter()

    folder = Path(output or tempfile.mkdtemp(prefix="softstair-"))
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(photo).stem
    files.write(str(folder / f"{stem}.stair"), encoded.data)
    files.write(str(folder / f"{stem}.png"), write_picture(decoded, ".png"))

    height, width = picture.pixels.shape[:2]
    click.echo(f"{photo}: {width}x{height}, {3 * width * height} bytes as pixels\n")
    click.echo(f"{'':10}{'bytes':>9}{'bpp':>8}{'PSNR':>9}")
    _row("stair", len(encoded.data), picture.rgb, decoded.rgb)
    for name in ("AVIF", "WEBP", "JPEG"):
        attempt = nearest_below(picture.rgb, name, len(encoded.data))
        if attempt is None:
            click.echo(f"{name.lower():10}{'cannot be as small':>26}")
        else:
            _row(name.lower(), attempt[0], picture.rgb, attempt[1])
    click.echo(
        f"\nEncoded in {1e3 * (middle - start):.0f} ms and decoded in {1e3 * (end - middle):.0f} ms, "
        f"networks loaded included.\nThe files are in {folder}"
    )


def _row(name: str, size: int, original: Pixels, decoded: Pixels) -> None:
    height, width = original.shape[:2]
    error = np.square(original.astype(np.float64) - decoded).mean()
    psnr = 10 * np.log10(255**2 / max(error, 1e-9))
    click.echo(f"{name:10}{size:>9}{8 * size / (width * height):>8.3f}{psnr:>6.2f} dB")


def nearest_below(original: Pixels, name: str, limit: int) -> tuple[int, Pixels] | None:
    """The best JPEG, WEBP or AVIF of not more than ``limit`` bytes: its size and decoded pixels."""
    from PIL import Image

    image = Image.fromarray(original)

    def encode(quality: int) -> bytes:
        buffer = io.BytesIO()
        options = {"optimize": True, "progressive": True} if name == "JPEG" else {}
        image.save(buffer, name, quality=quality, **options)
        return buffer.getvalue()

    best = _last_that_fits(encode, limit)
    if best is None:
        return None
    with Image.open(io.BytesIO(best)) as decoded:
        return len(best), np.asarray(decoded.convert("RGB"))


def _last_that_fits(encode: Callable[[int], bytes], limit: int) -> bytes | None:
    low, high, best = 0, 100, None
    while low <= high:
        middle = (low + high) // 2
        data = encode(middle)
        if len(data) <= limit:
            best, low = data, middle + 1
        else:
            high = middle - 1
    return best
