"""What ``import softstair`` offers: encoding, decoding, and what a stream says of itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle, open_bundle
from softstair.codec import (
    MAX_MEMORY,
    Latents,
    Rate,
    View,
    choose_mode,
    decode_view,
    divisor_of,
    encode_like,
    encode_picture,
    pooled_latents,
)
from softstair.errors import (
    PartialPicture,
    PictureChanged,
    UsageError,
)
from softstair.pictures import picture_from
from softstair.stream import MAX_PIXELS, MAX_SIDE, Buffer, StreamReader


@dataclass(frozen=True)
class StreamInfo:
    """What a stream's header says, read without a bundle.

    colour: "rgb" or "grey". mode: how symbols were chosen. fingerprint: of the bundle, in hex; zeros if
    no tile is learned, in which case mode and rate position have no meaning. tiles: how many there are.
    exact_tiles: how many of them are exact, at least in part. pack: the fingerprint of the pack that
    changed the bundle, in hex, or None. reduced_tiles: how many would be exact, but are in fewer colours.
    layers: how many are there as a whole, of how many the file was made with; both 1 if it is in none. The
    rate position is that of the last one that is there.
    """

    width: int
    height: int
    colour: str
    mode: str
    rate_position: int
    fingerprint: str
    tiles: int
    exact_tiles: int
    pack: str | None = None
    reduced_tiles: int = 0
    layers: int = 1
    made_layers: int = 1


def encode(
    image: Any,
    quality: float | None = None,
    *,
    rate_position: int | None = None,
    target_size: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    lossless: bool = False,
    like: Buffer | None = None,
    effort: int | None = None,
    mode: str | None = None,
    progressive: bool = False,
    layers: int | None = None,
    bundle: Bundle | None = None,
    threads: int | None = None,
    max_memory: int = MAX_MEMORY,
) -> bytes:
    """Encode a picture. Set at most one of quality, rate position, a target, lossless and like.

    Args:
        image: a PIL image of any mode, whose ICC, EXIF and XMP are kept, or a uint8 array (H, W),
            (H, W, 3), or with alpha as the last channel (docs/pictures.md).
        quality: 0 to 100, by default 75; 100 is lossless.
        rate_position: exact setting of the rate, 0 to ``bundle.last_position``, in 1/32 octave of step size.
        target_size: largest file in bytes, never exceeded.
        target_bpp: most bits per pixel of the file, never exceeded.
        target_psnr: lowest PSNR in dB over RGB, never undercut.
        lossless: keep every sample, also of colours under full transparency.
        like: the .stair file that the picture was decoded from before it was edited in places: what was not
            edited stays as it was, and rate, mode, order and bundle are the old file's.
        effort: 1 to 9, from fastest to smallest file (docs/modes.md).
        mode: how symbols are chosen: scalar, rdoq, tcq4, tcq8, tcq16, tcq32 or tcq512; by default the
            bundle's own.
        progressive: show all of a large picture early, less sharp, while its file arrives.
        layers: 2 to 4: one file that ``truncate`` cuts to smaller ones, each of half as wide steps as the one
            before. What is asked for is the whole file; it takes more bytes than one without layers.
        bundle: by default the shipped one.
        threads: by default all usable cores.
        max_memory: approximate limit of the process's memory in bytes, picture included.

    Returns:
        The bytes of a .stair file.

    Raises:
        UsageError: the image or an option is not valid, or a target cannot be met.
        StreamError: the picture is too large for a stream or for ``max_memory``.

    Warns:
        PictureChanged: something in the image could not be kept as it was.
    """
    rate = Rate(quality, rate_position, target_size, target_bpp, target_psnr, lossless)
    if like is not None:
        return _encode_like(
            image, like, rate, (effort, mode, progressive or None, layers), bundle, threads, max_memory
        )
    _check(bundle, threads)
    bundle = bundle or open_bundle()
    _check_layers(layers, effort)
    chosen = choose_mode(bundle, effort, mode) if layers is None else mode
    picture = picture_from(image)
    for note in picture.notes:
        warnings.warn(note.text, PictureChanged, stacklevel=2)
    return encode_picture(
        picture,
        rate,
        bundle,
        mode=chosen,
        progressive=progressive,
        layers=layers,
        threads=threads,
        max_memory=max_memory,
    ).data


def _encode_like(
    image: Any,
    old: Buffer,
    rate: Rate,
    others: tuple[Any, ...],
    bundle: Bundle | None,
    threads: int | None,
    max_memory: int,
) -> bytes:
    if rate != Rate(lossless=False) or any(value is not None for value in others):
        raise UsageError("What is like an old file has its rate, mode and order; ask for nothing else.")
    picture = picture_from(image)
    for note in picture.notes:
        warnings.warn(note.text, PictureChanged, stacklevel=3)
    return encode_like(picture, old, bundle, threads=threads, max_memory=max_memory).data


def _check_layers(layers: Any, effort: int | None) -> None:
    if layers is None:
        return
    if not isinstance(layers, Integral) or layers is True:
        raise UsageError(f"Layers must be a whole number, not {layers!r}.")
    if effort is not None:
        raise UsageError("Layers have a mode of their own; leave effort out.")


def _check(bundle: Any, threads: Any) -> None:
    if bundle is not None and not isinstance(bundle, Bundle):
        raise UsageError(f"A bundle is what softstair.open_bundle returns, not {bundle!r}.")
    if threads is not None and (not isinstance(threads, Integral) or threads < 1):
        raise UsageError(f"Threads must be a whole number of at least 1, not {threads!r}.")


def _whole(region: Any) -> tuple[int, int, int, int] | None:
    if region is None:
        return None
    try:
        left, top, width, height = map(index, region)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"A region is left, top, width and height, four whole numbers, not {region!r}."
        ) from error
    return left, top, width, height


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
        scale: 1, 1/2, 1/4 .. 1/64. From 1/4 on, bundles with a head for it make small pictures in a
            part of the time, a little less exact; from 1/32 on sooner still. Else pixels are decoded at full
            size and averaged, which saves memory but not time. A region is widened to whole pixels of the
            result.
        allow_partial: decode as much as a cut or damaged file holds, leave the rest grey, and warn
            instead of raising. The tile in which the file ends cannot be verified.
        bundle: by default the installed one that the file asks for.
        threads: by default all usable cores.
        max_pixels: refuse larger pictures, whatever the region and the scale.
        max_memory: approximate limit of the process's memory in bytes, picture included.

    Returns:
        uint8, (H, W, 3); (H, W) for grey; with alpha as the last channel if the file has it.

    Raises:
        StreamError: the data cannot be read.
        BundleError: the bundle is missing or damaged.
        UsageError: the region is not inside the picture, or the scale is another.

    Warns:
        PartialPicture: a part is missing; only with ``allow_partial``.
    """
    _check(bundle, threads)
    view = View(_whole(region), divisor_of(scale), allow_partial)
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
        reader.shown_position,
        header.fingerprint.hex(),
        header.grid.count,
        0 if reader.is_reduced else len(reader.exact),
        None if header.pack is None else header.pack.hex(),
        len(reader.exact) if reader.is_reduced else 0,
        reader.layers,
        header.layers,
    )


def latents(
    data: Buffer, *, cells: int = 1, bundle: Bundle | None = None, threads: int | None = None
) -> Latents:
    """What a .stair file's latents say of its picture, in a part of the time that pixels take.

    Args:
        data: the file's bytes.
        cells: y^ is pooled over so many parts of the picture each way, 1 to 16.
        bundle: by default the installed one that the file asks for.
        threads: by default all usable cores.

    Returns:
        Mean and standard deviation of every channel in every cell; with those of other files of the same
        ``fingerprint`` they find pictures that are alike.

    Raises:
        StreamError: the data cannot be read.
        BundleError: the bundle is missing or damaged.
        UsageError: the picture is exact, so that it has none, or another number of cells.
    """
    return pooled_latents(data, cells, bundle, threads)
