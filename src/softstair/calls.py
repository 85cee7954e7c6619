"""What ``import softstair`` offers: encoding, decoding, and what a stream says of itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle, open_bundle
from softstair.codec import MAX_MEMORY, Rate, View, choose_mode, decode_view, divisor_of, encode_picture
from softstair.errors import (
    PartialPicture,
    PictureChanged,
)
from softstair.pictures import picture_from
from softstair.stream import MAX_PIXELS, MAX_SIDE, Buffer, StreamReader


@dataclass(frozen=True)
class StreamInfo:
    """What a stream says of itself, read without a bundle.

    colour: "rgb" or "grey". mode: how symbols were chosen. fingerprint: of the bundle, hex; zeros if
    nothing is learned, and then mode and rate position say nothing. tiles: how many the picture is cut
    into. exact_tiles: how many of them are exact, at least in part.
    """

    width: int
    height: int
    colour: str
    mode: str
    rate_position: int
    fingerprint: str
    tiles: int
    exact_tiles: int


def encode(
    image: Any,
    quality: float | None = None,
    *,
    rate_position: int | None = None,
    target_size: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    lossless: bool = False,
    effort: int | None = None,
    mode: str | None = None,
    bundle: Bundle | None = None,
    threads: int | None = None,
    max_memory: int = MAX_MEMORY,
) -> bytes:
    """Encode a picture; ask for at most one of quality, rate position, targets and lossless.

    Args:
        image: a PIL image of any mode, whose ICC, EXIF and XMP are kept, or a uint8 array (H, W),
            (H, W, 3), or with alpha as a last channel (docs/pictures.md).
        quality: 0 to 100, by default 75; 100 is lossless.
        rate_position: the native knob, 0 to ``bundle.last_position``, 1/32 octave of step size.
        target_size: bytes of the file, not exceeded.
        target_bpp: bits per pixel of the file, not exceeded.
        target_psnr: dB (RGB), at least.
        lossless: every sample as it is, of hidden colours, too.
        effort: 1 to 9, from fast to small (docs/modes.md).
        mode: how symbols are chosen: scalar, rdoq, tcq4, tcq8, tcq16 or tcq32; by default the
            bundle's own.
        bundle: by default the shipped one.
        threads: by default all usable cores.
        max_memory: bytes that the process may take, about, the picture included.

    Returns:
        The bytes of a .stair file.

    Raises:
        UsageError: an image or a wish that cannot be met.
        StreamError: a picture that is too large for a stream or for ``max_memory``.

    Warns:
        PictureChanged: something of the image is not encoded as it was.
    """
    rate = Rate(quality, rate_position, target_size, target_bpp, target_psnr, lossless)
    bundle = bundle or open_bundle()
    chosen = choose_mode(bundle, effort, mode)
    picture = picture_from(image)
    for note in picture.notes:
        warnings.warn(note.text, PictureChanged, stacklevel=2)
    return encode_picture(picture, rate, bundle, mode=chosen, threads=threads, max_memory=max_memory).data


def decode(
    data: Buffer,
    *,
    region: tuple[int, int, int, int] | None = None,
    scale: float = 1,
    allow_partial: bool = False,
    bundle: Bundle | None = None,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_memory: int = MAX_MEMORY,
) -> npt.NDArray[np.uint8]:
    """Decode a .stair file, or a part of it.

    Args:
        data: the file's bytes.
        region: left, top, width and height in pixels of the picture; only the tiles that it needs
            are read.
        scale: 1, 1/2, 1/4, 1/8 or 1/16. Pixels are decoded at full size and averaged, so that this
            saves memory, not time; a region is widened to whole pixels of the result.
        allow_partial: show what there is of a file that ends early or is damaged, grey elsewhere, and
            warn, instead of raising. A tile that the file ends in is shown unverified.
        bundle: by default the installed one that the file asks for.
        threads: by default all usable cores.
        max_pixels: refuse pictures with more, whatever the region and the scale.
        max_memory: bytes that the process may take, about, the picture included.

    Returns:
        uint8, (H, W, 3); (H, W) for grey; with alpha as a last channel where the file has one.

    Raises:
        StreamError: the data cannot be read.
        BundleError: the bundle is missing or damaged.
        UsageError: a region that is not inside the picture, or another scale.

    Warns:
        PartialPicture: something is missing; only with ``allow_partial``.
    """
    view = View(region, divisor_of(scale), allow_partial)
    decoded = decode_view(data, view, bundle, threads=threads, max_pixels=max_pixels, max_memory=max_memory)
    if decoded.damage:
        warnings.warn(f"The picture is not complete: {decoded.damage}.", PartialPicture, stacklevel=2)
    return decoded.picture.array


def info(data: Buffer) -> StreamInfo:
    """Read a stream's header and index; needs no bundle.

    Raises:
        StreamError: not a stream, or cut inside its index.
    """
    reader = StreamReader(data, max_pixels=MAX_SIDE * MAX_SIDE)
    header = reader.header
    return StreamInfo(
        header.width,
        header.height,
        header.colour.name.lower(),
        str(header.mode),
        header.position,
        header.fingerprint.hex(),
        header.grid.count,
        len(reader.exact),
    )
