"""From a picture to a stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from softstair import _core
from softstair.bundle import Bundle
from softstair.engine import Planes
from softstair.errors import LimitExceeded, TargetOutOfReach, UsageError
from softstair.mode import Mode
from softstair.pictures import Picture, check_size, fill_hidden
from softstair.stream import Colour, Header, join_stream, pack_extras
from softstair.tiles import ONE_TILE, UNIT, TileGrid

from .budget import MAX_MEMORY, Plan, latent_bytes, plan_encoder
from .crew import Crew, usable_cores
from .geometry import Geometry, borders_of
from .plane import LatentPlane
from .rate_control import largest_within, smallest_reaching, weight_within
from .tile import Analysed, CodedTile, TileCoder
from .windows import analyse_box, synthesise_windows

DEFAULT_QUALITY = 75.0
# Tiles of 2048 pixels: 0.1 to 0.2 % more bytes than one tile, where 1024 costs 0.4 to 0.9 %.
_LAYOUT = 8
_REMEMBERED = 3  # codings of a picture: a search ends beside what it will return
# What the time of an encoder buys: mode by effort.
MODE_OF_EFFORT = {
    1: Mode.SCALAR,
    2: Mode.RDOQ,
    3: Mode.TCQ4,
    4: Mode.TCQ8,
    5: Mode.TCQ32,
    6: Mode.TCQ32,
    7: Mode.TCQ32,
    8: Mode.TCQ32,
    9: Mode.TCQ32,
}


@dataclass(frozen=True)
class Rate:
    """What is asked for; exactly one field is set, or none for the default quality.

    quality: 0 to 100, linear in the rate position. position: the native knob. target_size: bytes
    of the file. target_bpp: bits per pixel of the file. target_psnr: dB, RGB, at least.
    """

    quality: float | None = None
    position: int | None = None
    target_size: int | None = None
    target_bpp: float | None = None
    target_psnr: float | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"Ask for one of {' and '.join(given)}, not for {len(given)} at once.")
        if any(not math.isfinite(value) for value in vars(self).values() if value is not None):
            raise UsageError(f"{given[0].replace('_', ' ').capitalize()} must be a number that is finite.")
        for name in ("target_size", "target_bpp"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise UsageError(f"{name.replace('_', ' ').capitalize()} must be more than 0, not {value:g}.")
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise UsageError(f"Quality runs from 0 to 100, not to {self.quality:g}.")

    @property
    def is_target(self) -> bool:
        """True if the position must be searched for."""
        return (self.target_size, self.target_bpp, self.target_psnr) != (None, None, None)

    def size_limit(self, pixels: int) -> int | None:
        """Bytes that the file of so many pixels may have, if that is what is asked for."""
        return self.target_size if self.target_bpp is None else int(self.target_bpp * pixels / 8)


@dataclass(frozen=True)
class Encoded:
    """A file and what is known of it. table_bits: what the tables alone charge for the payload."""

    data: bytes
    position: int
    table_bits: float
    payload_bytes: int


@dataclass(frozen=True)
class Payloads:
    """Payloads of all tiles at a rate position."""

    tiles: tuple[bytes, ...]
    table_bits: float


def choose_mode(bundle: Bundle, effort: int | None = None, mode: str | None = None) -> Mode:
    """The mode of an effort, the mode asked for, or else the bundle's own.

    Raises:
        UsageError: both are asked for, no such effort, or the bundle lacks the mode.
    """
    if effort is not None:
        if mode is not None:
            raise UsageError(f"Ask for effort {effort} or for mode {mode}, not for both.")
        if effort not in MODE_OF_EFFORT:
            raise UsageError(f"Efforts run from 1 to {max(MODE_OF_EFFORT)}, not to {effort}.")
        mode = MODE_OF_EFFORT[effort]
    return bundle.mode_named(mode or bundle.manifest.encoding.mode)


def choose_layout(height: int, width: int) -> int:
    """One tile for pictures of up to 2048 pixels a side, tiles of that side for others."""
    return ONE_TILE if max(height, width) <= _LAYOUT * UNIT else _LAYOUT


def encode_picture(
    picture: Picture,
    rate: Rate,
    bundle: Bundle,
    *,
    mode: str | None = None,
    threads: int | None = None,
    max_memory: int = MAX_MEMORY,
) -> Encoded:
    """A picture as a .stair file.

    Args:
        mode: by default the bundle's own.
        threads: by default all usable cores.
        max_memory: bytes that the process may take for it, about, the picture included.

    Raises:
        LimitExceeded: more pixels than a decoder accepts by default, or more memory than allowed.
        TargetOutOfReach: no rate position meets the target.
        UsageError: a quality or position outside its range, or a mode that the bundle lacks.
    """
    encoder = PictureEncoder(
        picture,
        bundle,
        mode=mode,
        threads=threads,
        max_memory=max_memory,
        many=rate.is_target,
        decodes=rate.target_psnr is not None,
    )
    return encoder.fit(rate)


class PictureEncoder:
    """Files of one picture at as many rate positions as are asked for.

    Args:
        many: keep the latents, if memory allows, so that they are computed once.
        decodes: a target will be a PSNR, for which the picture is decoded, too.
        mode, threads, max_memory: as for ``encode_picture``, as are the errors.
    """

    def __init__(
        self,
        picture: Picture,
        bundle: Bundle,
        *,
        mode: str | None = None,
        threads: int | None = None,
        max_memory: int = MAX_MEMORY,
        many: bool = True,
        decodes: bool = False,
    ) -> None:
        height, width = picture.pixels.shape[:2]
        check_size(width, height, "The picture")
        self._bundle, self._mode = bundle, choose_mode(bundle, mode=mode)
        self._grid = TileGrid(height, width, choose_layout(height, width))
        plan, keep = _plan(
            picture, bundle, self._grid, max_memory, threads or usable_cores(), keep=many, decodes=decodes
        )
        crew = Crew(bundle, self._mode, threads or usable_cores(), plan.workers)
        picture = replace(picture, pixels=fill_hidden(picture.pixels, picture.alpha))
        self._coder = PictureCoder(picture, self._grid, crew, plan, keep=keep)
        alpha = None if picture.alpha is None else picture.alpha.tobytes()
        self._extras = pack_extras(alpha, picture.metadata, self._grid)
        self._colour = Colour.GREY if picture.is_grey else Colour.RGB

    def analyse(self) -> None:
        """Do now what all rate positions share; else it is done for the first of them."""
        self._coder.analyse()

    def position_for(self, rate: Rate) -> int:
        """The rate position that is asked for, or that meets a target."""
        pixels = self._grid.height * self._grid.width
        try:
            return _choose(rate, self._bundle, pixels, lambda p: len(self._stream(p)), self._coder.psnr)
        except TargetOutOfReach as error:
            beside = len(self._extras.packed)
            limit = rate.size_limit(pixels)
            if limit is None or beside < limit / 2:
                raise
            raise TargetOutOfReach(
                f"{beside} bytes of the file are metadata and alpha, which no rate makes smaller, and "
                f"{limit} were asked for in all; leave metadata out with --strip, or ask for more bytes."
            ) from error

    def encode(self, position: int, rate_weight: float | None = None) -> Encoded:
        """The file at a rate position, with the mode's rate weight or another one."""
        payloads = self._coder.code(position, rate_weight)
        size = sum(map(len, payloads.tiles))
        return Encoded(self._stream(position, rate_weight), position, payloads.table_bits, size)

    def fit(self, rate: Rate) -> Encoded:
        """The file that is asked for.

        Files of neighbouring positions are some 2 % apart. Where a size is asked for, the next position
        with a heavier rate weight comes nearer, if the mode has a search to weigh rate in.
        """
        position = self.position_for(rate)
        limit, after = rate.size_limit(self._grid.height * self._grid.width), position + 1
        if limit is None or after > self._bundle.last_position:
            return self.encode(position)
        setting = self._bundle.at(after, self._mode)
        if setting.thresholds is not None:
            return self.encode(position)
        weight = weight_within(
            lambda weight: len(self._stream(after, weight)),
            limit,
            len(self._stream(position)),
            setting.rate_weight,
        )
        return self.encode(position) if weight is None else self.encode(after, weight)

    def _stream(self, position: int, rate_weight: float | None = None) -> bytes:
        grid = self._grid
        header = Header(
            self._bundle.fingerprint, grid.width, grid.height, self._colour, self._mode, position, grid.layout
        )
        return join_stream(header, self._coder.code(position, rate_weight).tiles, self._extras)


class PictureCoder:
    """Codes one picture at as many rate positions as are asked for.

    Args:
        keep: hold the latents of all tiles, so that they are computed once; else once a position.
    """

    def __init__(self, picture: Picture, grid: TileGrid, crew: Crew, plan: Plan, *, keep: bool) -> None:
        self._pixels, self._alpha, self._grid, self._crew = picture.pixels, picture.alpha, grid, crew
        self._windows = TileGrid(grid.height, grid.width, plan.window)
        self._kept: dict[int, Analysed] | None = {} if keep else None
        # The latest ones, by position and rate weight.
        self._coded: dict[tuple[int, float | None], Payloads] = {}
        self._measured: dict[int, float] = {}

    def analyse(self) -> None:
        """Compute the latents that are kept, if they are."""
        if self._kept is not None:
            for index in range(self._grid.count):
                self._analysed(index)

    def code(self, position: int, rate_weight: float | None = None) -> Payloads:
        """Payloads of all tiles, with the mode's rate weight or another one."""
        key = position, rate_weight
        if key not in self._coded:
            coded = self._code_tiles(range(self._grid.count), position, rate_weight)
            self._remember(key, [(tile.payload, tile.table_bits) for tile in coded])
        return self._coded[key]

    def psnr(self, position: int) -> float:
        """PSNR in dB, over all samples that can be seen. Codes the picture, too."""
        if position not in self._measured:
            self._measured[position] = self._measure(position)
        return self._measured[position]

    def _remember(self, key: tuple[int, float | None], tiles: Iterable[tuple[bytes, float]]) -> None:
        payloads, table_bits = zip(*tiles, strict=True)
        self._coded[key] = Payloads(payloads, sum(table_bits))
        if len(self._coded) > _REMEMBERED:
            del self._coded[next(iter(self._coded))]

    def _measure(self, position: int) -> float:
        coded: dict[int, tuple[bytes, float]] = {}

        def decoded(indices: Sequence[int]) -> Iterator[Planes]:
            for index, tile in zip(indices, self._code_tiles(indices, position), strict=True):
                coded[index] = tile.payload, tile.table_bits
                yield tile.latents

        whole, plane = self._grid.whole, LatentPlane(self._grid, decoded)
        reach = 0 if self._windows.count == 1 else self._crew.synthesis_reach()
        error, seen = 0.0, 0
        for box, pixels in synthesise_windows(self._crew.whole, plane, position, self._windows, whole, reach):
            original = self._pixels[box.slices]
            if original.ndim == 2:
                original = original[..., None]
            squares = np.square(pixels.astype(np.float32) - original)
            if self._alpha is not None:
                squares = squares[self._alpha[box.slices] > 0]
            error += float(squares.sum(dtype=np.float64))
            seen += squares.size
        self._remember((position, None), (coded[index] for index in range(self._grid.count)))
        return float("inf") if error == 0 else float(10 * np.log10(255**2 * seen / error))

    def _code_tiles(
        self, indices: Sequence[int], position: int, rate_weight: float | None = None
    ) -> Iterator[CodedTile]:
        """As many tiles at a time as may be worked on."""

        def work(coder: TileCoder, analysed: Analysed) -> CodedTile:
            return coder.code(analysed, position, rate_weight=rate_weight)

        for first in range(0, len(indices), self._crew.workers):
            batch = [self._analysed(index) for index in indices[first : first + self._crew.workers]]
            yield from self._crew.map(work, batch)
            if self._grid.count > 1:
                _core.release_memory()

    def _analysed(self, index: int) -> Analysed:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        box = self._grid.box(index)
        latents = analyse_box(self._crew.whole, self._pixels, box, self._windows, self._crew.analysis_reach)
        borders = borders_of(box, self._grid.whole)
        analysed = Analysed(Geometry(box.columns, box.rows), latents, borders)
        if self._kept is not None:
            self._kept[index] = analysed
        return analysed


def _plan(
    picture: Picture,
    bundle: Bundle,
    grid: TileGrid,
    max_memory: int,
    threads: int,
    *,
    keep: bool,
    decodes: bool,
) -> tuple[Plan, bool]:
    """What fits into the memory, and whether the latents may stay for another position."""
    alpha = 0 if picture.alpha is None else 3 * picture.alpha.nbytes  # with its differences
    filled = 0 if picture.alpha is None or picture.alpha.all() else picture.pixels.nbytes
    fixed, channels = picture.pixels.nbytes + alpha + filled, bundle.channels
    if keep:
        try:
            latents = latent_bytes(grid.height * grid.width, channels)
            return plan_encoder(grid, channels, fixed + latents, max_memory, threads, decodes=decodes), True
        except LimitExceeded:
            pass
    return plan_encoder(grid, channels, fixed, max_memory, threads, decodes=decodes), False


def _choose(
    rate: Rate,
    bundle: Bundle,
    pixels: int,
    size: Callable[[int], int],
    psnr: Callable[[int], float],
) -> int:
    last = bundle.last_position
    if rate.position is not None:
        if not 0 <= rate.position <= last:
            raise UsageError(f"Rate positions run from 0 to {last}, not to {rate.position}.")
        return rate.position
    if (limit := rate.size_limit(pixels)) is not None:
        return largest_within(size, limit, last)
    if rate.target_psnr is not None:
        return smallest_reaching(psnr, rate.target_psnr, last)
    quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
    return round(quality / 100 * last)
