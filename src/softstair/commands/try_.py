"""softstair try."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from softstair import files

from .speech import say

Pixels = npt.NDArray[np.uint8]


@click.command("try")
@click.argument("photo")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), default=50.0, show_default=True)
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    help="Folder for the files; a new temporary one by default.",
)
@click.option("--force", is_flag=True, help="Replace files in that folder.")
def command(photo: str, quality: float, output: str | None, force: bool) -> None:
    """Compress and decode a photograph, and compare with JPEG, WebP and AVIF of the same size."""
    from softstair import open_bundle
    from softstair.codec import Rate, decode_picture, encode_picture
    from softstair.errors import TargetOutOfReach
    from softstair.peers import Fitter, find_peers
    from softstair.pictures import read_picture, write_picture

    folder = Path(output or tempfile.mkdtemp(prefix="softstair-"))
    files.make_folder(folder)
    stem = Path(photo).stem
    stair, back = str(folder / f"{stem}.stair"), str(folder / f"{stem}.png")
    for target in (stair, back):
        files.check_free(target, force=force, sources=[photo])
    picture = read_picture(files.read(photo), photo)
    bundle = open_bundle()
    start = time.perf_counter()
    encoded = encode_picture(picture, Rate(quality=quality), bundle)
    middle = time.perf_counter()
    decoded = decode_picture(encoded.data)
    end = time.perf_counter()

    files.write(stair, encoded.data)
    files.write(back, write_picture(decoded, ".png"))

    height, width = picture.pixels.shape[:2]
    say(f"{photo}: {width}x{height}, {3 * width * height} bytes as pixels", on_output=True)
    click.echo()
    click.echo(f"{'':10}{'bytes':>9}{'bpp':>8}{'PSNR':>9}")
    _row("stair", len(encoded.data), picture.rgb, decoded.rgb)
    for peer in find_peers(("avif-420", "webp", "jpeg-420")):
        name = peer.name.removesuffix("-420")
        try:
            fitted = Fitter(peer, picture.rgb).below(len(encoded.data))
        except TargetOutOfReach:
            click.echo(f"{name:10}{'cannot be as small':>26}")
        else:
            _row(name, len(fitted.data), picture.rgb, peer.decode(fitted.data))
    click.echo(
        f"\nEncoded in {1e3 * (middle - start):.0f} ms and decoded in {1e3 * (end - middle):.0f} ms, "
        f"networks loaded included.\nThe files are in {folder}"
    )


def _row(name: str, size: int, original: Pixels, decoded: Pixels) -> None:
    height, width = original.shape[:2]
    error = np.square(original.astype(np.float64) - decoded).mean()
    psnr = 10 * np.log10(255**2 / max(error, 1e-9))
    click.echo(f"{name:10}{size:>9}{8 * size / (width * height):>8.3f}{psnr:>6.2f} dB")
