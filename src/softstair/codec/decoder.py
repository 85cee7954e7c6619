"""From a stream to a picture, or to a part of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from softstair.bundle import Bundle, find_bundle
from softstair.engine import Planes
from softstair.errors import CorruptStream, StreamError, UnsupportedStream, UsageError
from softstair.pictures import Picture, for_a_part
from softstair.stream import MAX_PIXELS, Buffer, Colour, Header, Metadata, StreamReader
from softstair.tiles import Box, TileGrid

from .budget import MAX_MEMORY, plan_decoder
from .crew import Crew, networks_of, usable_cores
from .geometry import STRIDE, Geometry, borders_of
from .plane import LatentPlane
from .tile import Symbols, TileCoder
from .windows import Pixels, synthesise_windows

_LEAST_READ = 1 / 64  # of the tiles; where fewer are there, there is no picture to be completed
SCALES = (1, 2, 4, 8, 16)  # one over the size of what is decoded


def divisor_of(scale: float) -> int:
    """The divisor of a view that is to have a scale: 1, 1/2 .. 1/16.

    Raises:
        UsageError: another scale.
    """
    for divisor in SCALES:
        if scale * divisor == 1:
            return divisor
    raise UsageError(f"Pictures can be scaled by one over {_spoken(SCALES)}, not by {scale:g}.")


@dataclass(frozen=True)
class View:
    """What of a picture is wanted.

    region: left, top, width and height in pixels of the picture; by default all of it. divisor:
    one of ``SCALES``; every so many pixels each way become their mean, and a region is widened to
    whole ones. allow_partial: fill tiles that are damaged or missing instead of raising.
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

    missing: tiles that the view needed but were damaged or not there, filled with grey or with what
    the network makes of no information; only with ``allow_partial``. needed: how many tiles the view
    needed. complete_extras: False if alpha and metadata were damaged and left out.
    """

    picture: Picture
    missing: tuple[int, ...]
    needed: int
    complete_extras: bool

    @property
    def damage(self) -> str | None:
        """What is missing, as a sentence without a subject; None if nothing is."""
        parts = []
        if self.missing:
            parts.append(
                f"{len(self.missing)} of {self.needed} tiles were damaged or missing and were filled"
            )
        if not self.complete_extras:
            parts.append("alpha and metadata were damaged or missing and were left out")
        return "; ".join(parts) or None


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
    if reader.exact:
        raise UnsupportedStream("The stream has exact tiles; update this release.")
    region = view.box(header)
    bundle = _bundle_of(header, bundle)
    threads = threads or usable_cores()
    fixed = _fixed_bytes(reader, view, region)
    plan = plan_decoder(reader.grid, bundle.channels, fixed, max_memory, threads, region=region)
    crew = Crew(bundle, header.mode, threads, plan.workers)
    windows = TileGrid(header.height, header.width, plan.window)
    in_one_piece = windows.count == 1 and region == windows.whole
    reach = 0 if in_one_piece else crew.synthesis_reach()
    source = TileSource(reader, crew, partial_allowed=view.allow_partial)
    source.check(region.cells(STRIDE).grown(reach, windows.whole.cells(STRIDE)).times(STRIDE))
    alpha, metadata, complete_extras = _extras(reader, view, region)
    if region != windows.whole or view.divisor > 1:
        metadata = for_a_part(metadata, *view.shown(header))
    plane = LatentPlane(reader.grid, source.latents)
    pixels: Pixels | None = None
    target = region.cells(view.divisor)
    for box, window in synthesise_windows(
        crew.whole, plane, header.position, windows, region, reach, source.has_nothing
    ):
        if header.colour is Colour.GREY:
            window = np.rint(window.mean(axis=2)).astype(np.uint8)
        window = _reduced(window, view.divisor)
        if box == region:
            pixels = np.ascontiguousarray(window)
            break
        if pixels is None:  # not before the first row of tiles proved that it is there
            pixels = np.empty((target.rows, target.columns, *window.shape[2:]), np.uint8)
        pixels[box.cells(view.divisor).seen_from(target).slices] = window
    assert pixels is not None  # a region is never empty
    missing = tuple(sorted(source.missing))
    return Decoded(Picture(pixels, alpha, metadata), missing, source.needed, complete_extras)


def read_symbols(
    data: Buffer, bundle: Bundle | None = None, *, threads: int | None = None
) -> Iterator[Symbols]:
    """The symbols of every tile of a .stair file: what must be the same on every machine."""
    reader = StreamReader(data)
    header, bundle = reader.header, _bundle_of(reader.header, bundle)
    networks = networks_of(bundle, threads or usable_cores(), header.mode)
    coder = TileCoder(bundle, networks, header.mode)
    for index in range(reader.grid.count):
        box = reader.grid.box(index)
        geometry = Geometry(box.columns, box.rows)
        yield coder.read_symbols(reader.tile(index), geometry, header.position, index)


class TileSource:
    """Decodes tiles of a stream; where it may, it makes up for those that it cannot.

    missing: tiles that were made up for. needed: how many were checked.
    """

    def __init__(self, reader: StreamReader, crew: Crew, *, partial_allowed: bool) -> None:
        self._reader, self._crew, self._partial = reader, crew, partial_allowed
        self.missing: set[int] = set()
        self.needed = 0

    def check(self, box: Box) -> None:
        """Check all tiles that a box of pixels needs, before time is spent on any of them.

        Raises:
            StreamError: one is truncated or corrupt; where gaps are allowed, all but a few are.
        """
        last: StreamError | None = None
        for index in self._reader.grid.meeting(box):
            self.needed += 1
            try:
                self._reader.tile(index)
            except StreamError as error:
                if not self._partial:
                    raise
                self.missing.add(index)
                last = error
        if last is not None and self.needed - len(self.missing) < max(1, self.needed * _LEAST_READ):
            raise last

    def has_nothing(self, box: Box) -> bool:
        """True if all tiles that a box of pixels meets are missing."""
        return all(index in self.missing for index in self._reader.grid.meeting(box))

    def latents(self, indices: Sequence[int]) -> Iterator[Planes]:
        """y^ of tiles, (1, C, rows, columns); zero where it is missing."""
        return self._crew.map(self._decode, indices)

    def _decode(self, coder: TileCoder, index: int) -> Planes:
        header, box = self._reader.header, self._reader.grid.box(index)
        geometry = Geometry(box.columns, box.rows)
        if index not in self.missing:
            try:
                payload = self._reader.tile(index)
                borders = borders_of(box, self._reader.grid.whole)
                return coder.decode(payload, geometry, header.position, index, borders)
            except StreamError:
                if not self._partial:
                    raise
                self.missing.add(index)
        return np.zeros((1, coder.channels, geometry.rows, geometry.columns), np.float32)


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
    return _reduced(plane, view.divisor), metadata, True


def _fixed_bytes(reader: StreamReader, view: View, region: Box) -> int:
    """Memory for the decoded pixels, for metadata, and for an alpha plane while it is inflated."""
    header, shown = reader.header, region.cells(view.divisor)
    samples = 1 if header.colour is Colour.GREY else 3
    alpha = 3 * reader.has_alpha * header.width * header.height
    return samples * shown.rows * shown.columns + alpha + reader.most_metadata()


def _reduced(pixels: Pixels, divisor: int) -> Pixels:
    """Means of blocks of divisor x divisor pixels, of what there is at the right and the bottom."""
    if divisor == 1:
        return pixels
    sums = pixels
    for axis in (0, 1):
        sums = np.add.reduceat(sums, range(0, pixels.shape[axis], divisor), axis, np.uint32)
    counts = [np.add.reduceat(np.ones(side, np.uint32), range(0, side, divisor)) for side in pixels.shape[:2]]
    area = np.multiply.outer(*counts).reshape(*sums.shape[:2], *([1] * (pixels.ndim - 2)))
    result: Pixels = ((sums + area // 2) // area).astype(np.uint8)
    return result


def _bundle_of(header: Header, bundle: Bundle | None) -> Bundle:
    bundle = bundle or find_bundle(header.fingerprint)
    if bundle.fingerprint != header.fingerprint:
        raise UsageError(
            f"The stream was made with bundle {header.fingerprint.hex()}, not with {bundle.name} "
            f"({bundle.fingerprint.hex()}); leave --model away or name the right one."
        )
    if header.position > bundle.last_position:
        raise CorruptStream(
            f"Rate position {header.position} is beyond the bundle's last, {bundle.last_position}."
        )
    bundle.mode_named(header.mode)
    return bundle


def _spoken(values: Sequence[int]) -> str:
    return f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
