"""softstair thumbnail."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from softstair import files
from softstair.errors import UsageError, of_file


@click.command("thumbnail")
@click.argument("source", metavar="FILE.stair")
@click.argument("target", metavar="FILE.png")
@click.option(
    "-s", "--size", type=click.IntRange(1, 4096), default=256, show_default=True, help="Of the longer side."
)
def command(source: str, target: str, size: int) -> None:
    """Write a small PNG of a .stair file, as desktops ask for it.

    FILE may be a file:// address; an output that exists is replaced.
    """
    from PIL import Image

    from softstair.codec import SCALES, View, decode_view
    from softstair.pictures import is_picture_name, strip
    from softstair.stream import read_header

    address = urlsplit(source)
    path = unquote(address.path) if address.scheme == "file" else source
    suffix = Path(target).suffix.lower()
    if suffix == ".stair" or (suffix != ".png" and is_picture_name(suffix)):
        raise UsageError(f"{target} would be a PNG called {suffix}; name it .png.")
    files.check_sources([target], [path])
    data = files.read(path)
    with of_file(path):
        header = read_header(data)
    # As small as is still large enough: the rest is Pillow's.
    large_enough = [d for d in SCALES if max(header.width, header.height) / d >= size]
    with of_file(path):
        picture = decode_view(data, View(divisor=max(large_enough, default=1))).picture
    picture = strip(picture, frozenset({"exif", "xmp"}))  # turned as viewers turn it
    pixels, image = picture.pixels, Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha.reshape(pixels.shape[:2])))
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", icc_profile=picture.metadata.icc)
    files.write(target, buffer.getvalue())
