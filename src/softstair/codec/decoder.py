"""From a stream to a picture, or to a part of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from softstair.bundle import Bundle, find_bundle
from softstair.engine import in_layers
from softstair.errors import BundleError, CorruptStream, StreamError, TruncatedStream, UsageError
from softstair.mode import POSITIONS_PER_LAYER
from softstair.pictures import Picture, for_a_part
from softstair.quantize.grids import STRIDE
from softstair.quantize.rates import hat_weights
from softstair.stream import (
    MAX_PIXELS,
    NO_BUNDLE,
    Buffer,
    Colour,
    Header,
    Metadata,
    StreamReader,
    read_exact_payload,
    read_header,
)
from softstair.tiles import Box, TileGrid

from . import icon
from .budget import MAX_MEMORY, check_exact, exact_bytes, plan_decoder
from .geometry import Geometry
from .latent_plane import LatentPlane
from .preview import SCALE, preview_windows
from .small import SCALE as SMALL_SCALE
from .small import has_small, reduced, region_of_small
from .source import ExactCover, TileSource
from .tile import Symbols, TileCoder
from .windows import GREY, Pixels, synthesise_windows
from .workers import Workers, networks_of, usable_cores

SCALES = (1, 2, 4, 8, 16, 32, 64)  # one over the size of what is decoded


def divisor_of(scale: float) -> int:
    """The divisor of a view that is to have a scale: 1, 1/2 .. 1/64.

    Raises:
        UsageError: another scale.
    """
    for divisor in SCALES:
        if scale * divisor == 1:
            return divisor
    raise UsageError(f"Pictures can be scaled by 1 over {_spoken(SCALES)}, not by {scale}.")


@dataclass(frozen=True)
class View:
    """What of a picture is wanted.

    region: left, top, width and height in pixels of the picture; by default all of it. divisor:
    one of ``SCALES``; every so many pixels each way become their mean, and a region is widened to
    whole ones. allow_partial: show as much as there is of a file that ends early or is damaged, and
    grey elsewhere, instead of raising.
    """

    region: tuple[int, int, int, int] | None = None
    divisor: int = 1
    allow_partial: bool = False

    def box(self, header: Header) -> Box:
        """The region of a picture.

        Raises:
            UsageError: it is empty or not inside the picture.
        """
        whole = header.grid.whole
        if self.region is None:
            return whole
        left, top, width, height = self.region
        region = Box(top, left, top + height, left + width)
        if min(left, top) < 0 or min(width, height) < 1 or not region.inside(whole):
            raise UsageError(
                f"The region {left},{top},{width},{height} is not inside the picture of "
                f"{header.width}x{header.height} pixels."
            )
        return region.cells(self.divisor).times(self.divisor).within(whole)

    def shown(self, header: Header) -> tuple[int, int]:
        """Width and height of what it shows of a picture.

        Raises:
            UsageError: as for ``box``.
        """
        target = self.box(header).cells(self.divisor)
        return target.columns, target.rows


@dataclass(frozen=True)
class Decoded:
    """A picture, or what a view shows of it.

    missing: tiles that the view needed but were damaged or not there, and are grey. cut: tiles that
    the file ends in, shown as far as their bytes reach, which nothing verified. Both only with
    ``allow_partial``. damaged: those of the missing that were there. needed: how many tiles the view
    needed. complete_extras: False if alpha and metadata were damaged or not there and left out. layers: if
    the file ends within one, how many are whole, and how many it was made with.
    """

    picture: Picture
    missing: tuple[int, ...]
    cut: tuple[int, ...]
    damaged: tuple[int, ...]
    needed: int
    complete_extras: bool
    layers: tuple[int, int] | None = None

    @property
    def damage(self) -> str | None:
        """What is missing, as a sentence without a subject; None if nothing is."""
        parts = []
        if self.damaged:
            parts.append(f"{len(self.damaged)} of {self.needed} tiles were damaged and are grey")
        if ends := self._ends_early():
            parts.append(ends)
        if self.layers is not None:
            parts.append("the file ends early: {} of {} layers are shown".format(*self.layers))
        if not self.complete_extras:
            parts.append("alpha and metadata were damaged or missing and were left out")
        return "; ".join(parts) or None

    def _ends_early(self) -> str | None:
        absent = len(self.missing) - len(self.damaged)
        if not self.cut:
            return f"the file ends early: {absent} of {self.needed} tiles are grey" if absent else None
        if self.needed == 1:
            return "the file ends early and is shown as far as its bytes reach"
        shown = f"the file ends early: {len(self.cut)} of {self.needed} tiles as far as the bytes reach"
        return f"{shown}, {absent} grey" if absent else shown


def decode_picture(
    data: Buffer,
    bundle: Bundle | None = None,
    *,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_memory: int = MAX_MEMORY,
) -> Picture:
    """The whole picture of a .stair file: ``decode_view`` of all of it."""
    return decode_view(
        data, View(), bundle, threads=threads, max_pixels=max_pixels, max_memory=max_memory
    ).picture


def decode_view(
    data: Buffer,
    view: View,
    bundle: Bundle | None = None,
    *,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_memory: int = MAX_MEMORY,
) -> Decoded:
    """What a view shows of a .stair file; only the tiles that it needs are read.

    Args:
        bundle: overrides the search by fingerprint.
        threads: by default all usable cores.
        max_pixels: refuse pictures with more, whatever the view.
        max_memory: bytes that the process may take for it, about.

    Raises:
        StreamError: the data cannot be read, or is larger than allowed.
        BundleError: its bundle is missing or damaged.
        UsageError: the view is not one of this picture, or the bundle is another one.
    """
    reader = StreamReader(data, max_pixels=max_pixels)
    header = reader.header
    region = view.box(header)
    if view.divisor >= SMALL_SCALE and has_small(header) and not view.allow_partial:
        small = _small(reader, view, bundle, threads, max_memory)
        if small is not None:
            return small
    source = TileSource(reader, partial_allowed=view.allow_partial)
    fixed, made = _fixed_bytes(reader, view, region), 1
    if header.fingerprint == NO_BUNDLE:
        windows = _exact_windows(reader, source, region, fixed, max_memory)
    else:
        bundle = bundle_of(header, bundle)
        all_learned = not reader.exact and not view.allow_partial
        threads = threads or usable_cores()
        as_icon = all_learned and bundle.icons and view.divisor >= icon.SCALE
        as_preview = all_learned and bundle.previews and view.divisor >= SCALE
        layered = not as_icon and not as_preview and in_layers(bundle, header.mode)
        work = _begin(reader, source, bundle, region, fixed, threads, max_memory, layered)
        if as_icon:
            windows, made = _as_icon(work, reader, source, region, bundle, threads), icon.MADE
        elif as_preview:
            windows, made = _previewed(work, reader, source, region, bundle, threads), SCALE
        else:
            windows = _synthesised(work, reader, source, region)
    alpha, metadata, complete_extras = _extras(reader, view, region)
    layers = _layers(reader, view) if complete_extras else None
    if region != reader.grid.whole or view.divisor > 1:
        metadata = for_a_part(metadata, *view.shown(header))
    cover = ExactCover(reader, source)
    pixels: Pixels | None = None
    target = region.cells(view.divisor)
    for box, window in windows:
        if header.colour is Colour.GREY:
            window = np.rint(window.mean(axis=2)).astype(np.uint8)
        cover.put_over(box, window)
        source.paint_unread(box, window)
        window = reduced(window, view.divisor // made)
        if box == region:
            pixels = np.ascontiguousarray(window)
            break
        if pixels is None:  # not before the first row of tiles proved that it is there
            pixels = np.empty((target.rows, target.columns, *window.shape[2:]), np.uint8)
        pixels[box.cells(view.divisor).seen_from(target).slices] = window
    assert pixels is not None  # a region is never empty
    return Decoded(
        Picture(pixels, alpha, metadata),
        tuple(sorted(source.missing)),
        tuple(sorted(source.cut.indices)),
        tuple(sorted(source.damaged)),
        source.needed,
        complete_extras,
        layers,
    )


def read_symbols(
    data: Buffer, bundle: Bundle | None = None, *, threads: int | None = None
) -> Iterator[Symbols]:
    """The symbols of every tile of a .stair file that has any: what must be the same on every machine."""
    reader = StreamReader(data)
    if reader.header.fingerprint == NO_BUNDLE:
        return
    header, bundle = reader.header, bundle_of(reader.header, bundle)
    networks = networks_of(bundle, threads or usable_cores(), header.mode)
    coder = TileCoder(bundle, networks, header.mode, layers=header.layers)
    for index in range(reader.grid.count):
        box = reader.grid.box(index)
        geometry = Geometry(box.columns, box.rows)
        payload = reader.tile(index)
        if index in reader.exact and not (payload := read_exact_payload(payload, index).learned):
            continue
        yield coder.read_symbols(payload, geometry, header.position, index)


def _small(
    reader: StreamReader, view: View, bundle: Bundle | None, threads: int | None, max_memory: int
) -> Decoded | None:
    """The view of the small picture that the file has beside the tiles; None if it has none that opens."""
    metadata, stream = reader.beside()
    if stream is None:
        return None
    header, small = reader.header, read_header(stream)
    if (small.height, small.width) != tuple(
        -(-side // SMALL_SCALE) for side in (header.height, header.width)
    ):
        raise CorruptStream(
            f"The small picture of {small.width}x{small.height} pixels is not that of the picture of "
            f"{header.width}x{header.height}."
        )
    inner = View(region_of_small(view.box(header)), view.divisor // SMALL_SCALE)
    try:
        decoded = decode_view(stream, inner, bundle, threads=threads, max_memory=max_memory)
    except BundleError:
        return None  # the tiles may be exact and need none
    part = for_a_part(metadata, *view.shown(header))
    return replace(decoded, picture=replace(decoded.picture, metadata=part))


@dataclass(frozen=True)
class _Work:
    """What learned pixels are made with.

    windows: how the picture is cut. plane: latents, as they are asked for. thrifty: as of ``budget.Plan``.
    """

    workers: Workers
    windows: TileGrid
    plane: LatentPlane
    thrifty: bool


def _begin(
    reader: StreamReader,
    source: TileSource,
    bundle: Bundle,
    region: Box,
    fixed: int,
    threads: int,
    max_memory: int,
    layered: bool,
) -> _Work:
    fixed += exact_bytes(reader.grid, region) if reader.exact else 0
    header = reader.header
    plan = plan_decoder(
        reader.grid, bundle.channels, fixed, max_memory, threads, region=region, in_layers=layered
    )
    workers = Workers(bundle, header.mode, threads, plan.workers, header.layers, plan.windows)
    windows = TileGrid(header.height, header.width, plan.window)
    plane = LatentPlane(reader.grid, lambda indices: source.latents(workers, indices), thrifty=plan.thrifty)
    return _Work(workers, windows, plane, plan.thrifty)


def _synthesised(
    work: _Work, reader: StreamReader, source: TileSource, region: Box
) -> Iterator[tuple[Box, Pixels]]:
    """Learned pixels of a region, window by window; whatever they need was checked before."""
    workers, windows, smoothing = work.workers, work.windows, reader.header.smoothing
    in_one_piece = windows.count == 1 and region == windows.whole
    field = 0 if in_one_piece or source.hides(region) else workers.synthesis_field(smoothing)
    needed = region.cells(STRIDE).grown(field, windows.whole.cells(STRIDE)).times(STRIDE)
    source.check(needed.within(windows.whole), workers.whole)
    return synthesise_windows(
        workers, work.plane, reader.shown_position, smoothing, windows, region, field, source.is_blank
    )


def _previewed(
    work: _Work, reader: StreamReader, source: TileSource, region: Box, bundle: Bundle, threads: int
) -> Iterator[tuple[Box, Pixels]]:
    """A quarter of the pixels of a region, made without the synthesis, as ``_synthesised`` makes all."""
    header = reader.header
    source.check(region)
    hat = hat_weights(reader.shown_position, bundle.points)
    networks = networks_of(bundle, threads, header.mode)
    return preview_windows(networks, hat, work.plane, work.windows, region)


def _as_icon(
    work: _Work, reader: StreamReader, source: TileSource, region: Box, bundle: Bundle, threads: int
) -> Iterator[tuple[Box, Pixels]]:
    """A sixteenth of the pixels of a region, made without the mean network, too."""
    source.check(region)
    networks = networks_of(bundle, max(1, threads // work.workers.count), reader.header.mode)
    plane = LatentPlane(
        reader.grid, lambda indices: source.icons(work.workers, networks, indices), thrifty=work.thrifty
    )
    return icon.icon_windows(plane, work.windows, region)


def _exact_windows(
    reader: StreamReader, source: TileSource, region: Box, fixed: int, max_memory: int
) -> Iterator[tuple[Box, Pixels]]:
    """Grey pixels of a region, tile by tile, to be covered; tiles were checked before."""
    check_exact(fixed + exact_bytes(reader.grid, region), reader.grid, max_memory)
    source.check(region)
    boxes = (reader.grid.box(index).within(region) for index in reader.grid.meeting(region))
    return ((box, np.full((box.rows, box.columns, 3), GREY, np.uint8)) for box in boxes)


def _extras(reader: StreamReader, view: View, region: Box) -> tuple[Pixels | None, Metadata, bool]:
    """Alpha of the region and metadata, and whether they are all that the stream should have."""
    try:
        alpha, metadata = reader.extras()
    except StreamError:
        if not view.allow_partial:
            raise
        return None, Metadata(), False
    if alpha is None:
        return None, metadata, True
    plane = np.frombuffer(alpha, np.uint8).reshape(reader.header.height, reader.header.width)
    if region != reader.grid.whole:
        plane = plane[region.slices].copy()
    return reduced(plane, view.divisor), metadata, True


def _layers(reader: StreamReader, view: View) -> tuple[int, int] | None:
    """As in ``Decoded``; raises unless that is allowed."""
    try:
        reader.check_layers()
    except TruncatedStream:
        if not view.allow_partial:
            raise
        return reader.layers, reader.header.layers
    return None


def _fixed_bytes(reader: StreamReader, view: View, region: Box) -> int:
    """Memory for the decoded pixels, for metadata, and for an alpha plane while it is inflated."""
    header, shown = reader.header, region.cells(view.divisor)
    samples = 1 if header.colour is Colour.GREY else 3
    alpha = 3 * reader.has_alpha * header.width * header.height
    return samples * shown.rows * shown.columns + alpha + reader.most_metadata()


def bundle_of(header: Header, bundle: Bundle | None) -> Bundle:
    """The bundle given, or the installed one that a stream asks for.

    Raises:
        BundleError: it is missing or damaged.
        StreamError, UsageError: stream and bundle do not belong together.
    """
    if bundle is None or (header.pack is not None and bundle.fingerprint == header.fingerprint):
        bundle = find_bundle(header.fingerprint, header.pack, bundle)
    if bundle.fingerprint != header.needs:
        pack = "" if header.pack is None else f" and pack {header.pack.hex()}"
        raise UsageError(
            f"The stream was made with bundle {header.fingerprint.hex()}{pack}, not with {bundle.name} "
            f"({bundle.fingerprint.hex()}); leave out --model and --pack or name the right ones."
        )
    finest = header.position + POSITIONS_PER_LAYER * (header.layers - 1)
    if finest > bundle.last_position:
        raise CorruptStream(
            f"The stream has rate position {finest}; the bundle ends at {bundle.last_position}."
        )
    bundle.mode_named(header.mode)
    return bundle


def _spoken(values: Sequence[int]) -> str:
    return f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
