"""From a picture to a stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real

import numpy as np

from softstair import _core
from softstair.bundle import Bundle
from softstair.errors import LimitExceeded, TargetOutOfReach, UsageError
from softstair.mode import POSITIONS_PER_LAYER, Mode
from softstair.pictures import Picture, check_size, fill_hidden
from softstair.quantize.grids import STRIDE
from softstair.quantize.layers import in_layers
from softstair.stream import MOST_LAYERS, NO_BUNDLE, Colour, Header, join_stream, pack_extras
from softstair.tiles import ONE_TILE, UNIT, TileGrid

from .budget import MAX_MEMORY, Plan, check_exact, exact_tile_bytes, latent_bytes, plan_encoder
from .colours import INK_PALETTES, PALETTES
from .flatness import CellMap, look_at_cells, spread
from .forms import Form, divide, exact_images, images_in_fewer_colours, wholly_exact, worth_of_a_bit
from .grain import grain_of
from .ink import Mask, find_ink
from .picture_coder import PictureCoder
from .prefix import first_part
from .quality import DEFAULT_QUALITY, position_of_quality, quality_of_position
from .rate_control import largest_within, smallest_reaching, weight_within
from .small import LARGE, small_of
from .small import QUALITY as SMALL_QUALITY
from .workers import Workers, usable_cores

_WORTH_DIVIDING = 0.9  # of the cost in one piece: with what is saved less, dividing seldom helps
# Of the cost of a drawing in one learned piece: where another form saves less, it takes many more bytes for
# fewer errors, and shades suffer.
_WORTH_MIXING = 0.95
# Whatever takes hardly fewer bytes than the exact picture is not worth a single grey level.
_WORTH_EXACTNESS = 1.005
_TIMES_SEEN = 2  # letters that blur and bands in shades are seen sooner than what a photograph loses
# Tiles of 2048 pixels: 0.1 to 0.2 % more bytes than one tile, where 1024 costs 0.4 to 0.9 %.
_LAYOUT = 8
# What the time of an encoder buys: mode by effort.
MODE_OF_EFFORT = {
    1: Mode.SCALAR,
    2: Mode.RDOQ,
    3: Mode.TCQ4,
    4: Mode.TCQ8,
    5: Mode.TCQ32,
    6: Mode.TCQ512,
    7: Mode.TCQ512,
    8: Mode.TCQ512,
    9: Mode.TCQ512,
}


@dataclass(frozen=True)
class Rate:
    """What is asked for; exactly one field is set, or none for the default quality.

    lossless: every sample as it is; so is a quality of 100.
    quality: 0 to 100 (``codec.quality``). position: the native knob. target_size: bytes
    of the file. target_bpp: bits per pixel of the file. target_psnr: dB, RGB, at least.
    """

    quality: float | None = None
    position: int | None = None
    target_size: int | None = None
    target_bpp: float | None = None
    target_psnr: float | None = None
    lossless: bool | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None and value is not False]
        if len(given) > 1:
            raise UsageError(f"Ask for only one of {', '.join(given)}.")
        for name, value in vars(self).items():
            wanted = Integral if name == "position" else Real
            is_number = isinstance(value, wanted) and not isinstance(value, bool)
            if name != "lossless" and value is not None and not is_number:
                kind = "a whole number" if wanted is Integral else "a number"
                raise UsageError(f"{name.replace('_', ' ').capitalize()} must be {kind}, not {value!r}.")
        if any(not math.isfinite(value) for value in vars(self).values() if value is not None):
            raise UsageError(f"{given[0].replace('_', ' ').capitalize()} must be a finite number.")
        for name in ("target_size", "target_bpp"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise UsageError(f"{name.replace('_', ' ').capitalize()} must be more than 0, not {value:g}.")
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise UsageError(f"Quality must be from 0 to 100, not {self.quality:g}.")

    @property
    def is_exact(self) -> bool:
        """True if nothing may be lost."""
        return bool(self.lossless) or self.quality == 100

    @property
    def is_target(self) -> bool:
        """True if the position must be searched for."""
        return (self.target_size, self.target_bpp, self.target_psnr) != (None, None, None)

    def size_limit(self, pixels: int) -> int | None:
        """Bytes that the file of so many pixels may have, if that is what is asked for."""
        return self.target_size if self.target_bpp is None else int(self.target_bpp * pixels / 8)


@dataclass(frozen=True)
class Encoded:
    """A file and what is known of it.

    position: rate position of what is learned; None if nothing is. table_bits: what the tables alone
    charge for that, which has ``payload_bytes``. exact_tiles: how many are, at least in part.
    is_reduced: what is exact is of the picture in fewer colours.
    """

    data: bytes
    position: int | None
    table_bits: float
    payload_bytes: int
    exact_tiles: int
    is_reduced: bool = False


def choose_mode(bundle: Bundle, effort: int | None = None, mode: str | None = None) -> Mode:
    """The mode of an effort, the mode asked for, or else the bundle's own.

    Raises:
        UsageError: both are asked for, no such effort, or the bundle lacks the mode.
    """
    if effort is not None:
        if mode is not None:
            raise UsageError(f"Ask for effort {effort} or for mode {mode}, not for both.")
        if effort not in MODE_OF_EFFORT:
            raise UsageError(f"Effort must be from 1 to {max(MODE_OF_EFFORT)}, not {effort}.")
        # A bundle without it has the mode of less effort.
        modes = [MODE_OF_EFFORT[less] for less in range(effort, 0, -1)]
        mode = next((one for one in modes if one in bundle.modes), modes[0])
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
    progressive: bool = False,
    layers: int | None = None,
    threads: int | None = None,
    max_memory: int = MAX_MEMORY,
) -> Encoded:
    """A picture as a .stair file.

    Args:
        mode: by default the bundle's own.
        progressive: first all of the picture less sharp, where it has several tiles.
        layers: 2 to 4, so that the file can be cut behind each; mode and order are theirs.
        threads: by default all usable cores.
        max_memory: bytes that the process may take for it, about, the picture included.

    Raises:
        LimitExceeded: more pixels than a decoder accepts by default, or more memory than allowed.
        TargetOutOfReach: no rate position meets the target.
        UsageError: a quality or position outside its range, a mode that the bundle lacks, or layers and
            what they exclude.
    """
    if layers is not None and rate.is_exact:
        raise UsageError("A lossless file has no layers; ask for a quality below 100.")
    encoder = PictureEncoder(
        picture,
        bundle,
        mode=mode,
        progressive=progressive,
        layers=layers,
        threads=threads,
        max_memory=max_memory,
        many=rate.is_target,
        decodes=rate.target_psnr is not None,
    )
    return encoder.fit(rate)


def small_beside(picture: Picture, bundle: Bundle, threads: int) -> bytes | None:
    """The file of a picture at 1/32, for one that is large enough to hold it."""
    if max(picture.pixels.shape[:2]) <= LARGE:
        return None
    small = small_of(_without_hidden(picture))
    return encode_picture(small, Rate(quality=SMALL_QUALITY), bundle, threads=threads).data


class PictureEncoder:
    """Files of one picture at as many rate positions as are asked for.

    Args:
        many: keep the latents, if memory allows, so that they are computed once.
        decodes: a target will be a PSNR, for which the picture is decoded, too.
        mode, progressive, layers, threads, max_memory: as for ``encode_picture``, as are the errors. The
            rate position is that of the last layer.
    """

    def __init__(
        self,
        picture: Picture,
        bundle: Bundle,
        *,
        mode: str | None = None,
        progressive: bool = False,
        layers: int | None = None,
        threads: int | None = None,
        max_memory: int = MAX_MEMORY,
        many: bool = True,
        decodes: bool = False,
    ) -> None:
        height, width = picture.pixels.shape[:2]
        check_size(width, height, "The picture")
        if layers is not None:
            mode = _mode_of_layers(layers, mode, progressive)
        self._layers = layers or 1
        self._first = POSITIONS_PER_LAYER * (self._layers - 1)  # rate position of the coarsest file
        self._bundle, self._mode = bundle, choose_mode(bundle, mode=mode)
        self._grid = TileGrid(height, width, choose_layout(height, width))
        self._progressive = progressive and self._grid.count > 1  # one tile has that order anyway
        self._original, self._picture = picture, _without_hidden(picture)
        self._many, self._decodes = many, decodes
        self._threads, self._max_memory = threads or usable_cores(), max_memory
        alpha = None if picture.alpha is None else picture.alpha.tobytes()
        small = small_beside(picture, bundle, self._threads)
        self._extras = pack_extras(alpha, picture.metadata, self._grid, small)
        self._colour = Colour.GREY if picture.is_grey else Colour.RGB
        # Of one rate position: forms of one piece in fewer colours, and divided ones.
        self._latest_fewer: tuple[int, tuple[Form, ...]] | None = None
        self._latest: tuple[int, tuple[Form, ...]] | None = None

    def analyse(self) -> None:
        """Do now what all rate positions share; else it is done for the first of them."""
        for form in self._forms:
            if form.coder is not None:
                form.coder.analyse()

    def position_for(self, rate: Rate) -> int:
        """The rate position that is asked for, or that meets a target; the last if nothing may be lost.

        Raises:
            TargetOutOfReach, UsageError: as for ``fit``.
        """
        position = self._choose(rate)[1]
        return self._bundle.last_position if position is None else position

    def encode(self, position: int, rate_weight: float | None = None) -> Encoded:
        """The file at a rate position, with the mode's rate weight or another one.

        What is exact, if anything, is what costs less: a bit saved, or the error that it would save.
        """
        return self._encoded(self._form_at(position), position, rate_weight)

    def fit(self, rate: Rate) -> Encoded:
        """The file that is asked for.

        Files of neighbouring positions are some 2 % apart. Where a size is asked for, the next position
        with a heavier rate weight comes nearer, if the mode has a search to weigh rate in.

        Raises:
            TargetOutOfReach: no file is as small as asked for.
            UsageError: there is no such rate position.
        """
        form, position = self._choose(rate)
        limit = rate.size_limit(self._pixels)
        if limit is None or position is None or position == self._bundle.last_position:
            return self._encoded(form, position)
        after = position + 1
        setting = self._bundle.at(after, self._mode)
        setting = in_layers(setting) if self._layers > 1 else setting
        if setting.thresholds is not None:
            return self._encoded(form, position)
        weight = weight_within(
            lambda weight: len(self._stream(form, after, weight)),
            limit,
            len(self._stream(form, position)),
            setting.rate_weight,
        )
        if weight is None:
            return self._encoded(form, position)
        return self._encoded(form, after, weight)

    @property
    def _pixels(self) -> int:
        return self._grid.height * self._grid.width

    @cached_property
    def _forms(self) -> tuple[Form, ...]:
        """Forms of one piece that may be best; the learned one first, of drawings the lossless one last.

        Of drawings without those in fewer colours, which a rate position has its own of.
        """
        if self._layers > 1:
            return (Form(self._coder()),)
        try:
            if self._unlike is not None:
                exact = self._exact
                return (Form(self._coder(several=True)), exact)
            if self._ink is not None:
                return (Form(self._coder(several=True)), *self._with_ink(self._ink))
        except LimitExceeded:
            pass
        return (Form(self._coder()),)

    def _forms_at(self, position: int) -> tuple[Form, ...]:
        """Forms of one piece that may be best at a rate position, in the same order."""
        first, *others = self._forms
        if not others or self._unlike is None:
            return self._forms
        if self._latest_fewer is None or self._latest_fewer[0] != position:
            self._latest_fewer = position, tuple(self._fewer(position))
        return (first, *self._latest_fewer[1], *others)

    @cached_property
    def _unlike(self) -> CellMap | None:
        return look_at_cells(self._picture.pixels)

    @cached_property
    def _ink(self) -> Mask | None:
        """Ink of a page; one with transparency has none, as what is hidden is black."""
        return find_ink(self._picture.pixels) if self._picture.alpha is None else None

    def _divided(self, position: int) -> tuple[Form, ...]:
        """Forms with each cell as it costs less at a rate position; none if that saves little."""
        if self._latest is None or self._latest[0] != position:
            self._latest = position, tuple(self._divide(position))
        return self._latest[1]

    def _divide(self, position: int) -> Iterator[Form]:
        learned, *others = self._forms_at(position)
        if not others or learned.coder is None or self._unlike is None:
            return
        exactly = min(others, key=lambda form: self._cost(form, position))
        cells, cost = divide(
            self._unlike, exactly, learned.coder.measure(position), self._worth_of_a_bit(position)
        )
        if cost > _WORTH_DIVIDING * min(self._cost(form, position) for form in (learned, exactly)):
            return
        try:
            chosen = spread(cells, self._grid.whole)
            coder = self._coder(chosen, several=True)
        except LimitExceeded:
            return
        yield from self._fewer(position, coder, chosen)
        yield Form(coder, exact_images(self._picture, self._grid, chosen))

    def _fewer(
        self, position: int, coder: PictureCoder | None = None, chosen: Mask | None = None
    ) -> Iterator[Form]:
        """Forms with these pixels, or all, in fewer colours, without noise that is not worth its bits."""
        palettes = () if self._picture.is_grey else PALETTES
        for images, losses, shifts in images_in_fewer_colours(
            self._picture, self._grid, palettes, chosen, self._worth_of_a_bit(position)
        ):
            yield Form(coder, images, losses, shifts)

    def _with_ink(self, ink: Mask) -> Iterator[Form]:
        """Forms with ink in few colours on learned paper."""
        self._check_exact(self._picture)
        coder = self._coder(ink, several=True)
        for images, losses, _ in images_in_fewer_colours(self._picture, self._grid, INK_PALETTES, ink):
            yield Form(coder, images, losses)

    @cached_property
    def _exact(self) -> Form:
        """All that can be seen is exact."""
        return self._exact_form(self._picture)

    @cached_property
    def _lossless(self) -> Form:
        """All is exact, seen or hidden."""
        return self._exact if self._picture is self._original else self._exact_form(self._original)

    def _exact_form(self, picture: Picture) -> Form:
        self._check_exact(picture)
        return Form(None, exact_images(picture, self._grid))

    def _check_exact(self, picture: Picture) -> None:
        alpha = 0 if picture.alpha is None else 3 * picture.alpha.nbytes
        fixed = 2 * picture.pixels.nbytes + alpha + exact_tile_bytes(self._grid)
        check_exact(fixed, self._grid, self._max_memory)

    def _coder(self, chosen: Mask | None = None, *, several: bool = False) -> PictureCoder:
        """Of what is learned beside exact pixels; these give way to what costs little.

        several: others compete, so that they are decoded and held beside each other.
        """
        picture, grid = self._picture, self._grid
        if chosen is not None:
            visible = np.where(chosen, np.uint8(0), np.uint8(255))
            picture = replace(picture, alpha=visible if picture.alpha is None else visible & picture.alpha)
        plan, keep = _plan(
            picture,
            self._bundle,
            grid,
            self._max_memory,
            self._threads,
            keep=self._many,
            decodes=self._decodes or several,
            forms=2 if several else 1,
        )
        workers = Workers(self._bundle, self._mode, self._threads, plan.workers, self._layers)
        picture = replace(picture, pixels=fill_hidden(picture.pixels, picture.alpha))
        smoothing = self._smoothing
        if chosen is None:
            return PictureCoder(picture, grid, workers, plan, smoothing, keep=keep)
        field = workers.synthesis_field(self._bundle.most_smoothing) if grid.count > 1 else 0
        left_out = wholly_exact(grid, chosen, field)
        return PictureCoder(picture, grid, workers, plan, smoothing, keep=keep, left_out=left_out)

    def _choose(self, rate: Rate) -> tuple[Form, int | None]:
        """The form that is best for what is asked for, and its rate position; None if nothing is learned."""
        if rate.is_exact:
            return self._lossless, None
        if (limit := rate.size_limit(self._pixels)) is not None:
            return self._within(limit)
        if rate.target_psnr is not None:
            return self._reaching(rate.target_psnr)
        position = position_of(rate, self._bundle.last_position)
        if position < self._first:
            quality = math.ceil(quality_of_position(self._first, self._bundle.last_position))
            raise UsageError(
                f"The last of {self._layers} layers needs a rate position of at least {self._first}, not "
                f"{position}; ask for fewer layers or for a quality from {quality} on."
            )
        return self._form_at(position), position

    def _form_at(self, position: int) -> Form:
        """The form whose bytes and error together cost least at a position; the learned one if nearly."""
        learned, *others = self._forms_at(position)
        if not others:
            return learned
        best = min((*self._divided(position), *reversed(others)), key=lambda form: self._cost(form, position))
        share = 1.0 if self._unlike is None else _WORTH_MIXING
        if self._cost(best, position) > share * self._cost(learned, position):
            best = learned
        if self._unlike is not None and self._size(self._exact, None) <= _WORTH_EXACTNESS * self._size(
            best, position
        ):
            return self._exact
        return best

    def _cost(self, form: Form, position: int) -> float:
        """In bits, errors at what they are worth there."""
        error = form.error(position) + form.shifted  # first: it codes the picture, too
        return 8.0 * self._size(form, position) + error / self._worth_of_a_bit(position)

    def _worth_of_a_bit(self, position: int) -> float:
        """Squared error that a bit should save; of what was drawn less, of scans what photographs save."""
        of_photographs = worth_of_a_bit(quality_of_position(position, self._bundle.last_position))
        return of_photographs if self._unlike is None else of_photographs / _TIMES_SEEN

    def _within(self, limit: int) -> tuple[Form, int | None]:
        """The best of at most so many bytes: exact if that fits."""
        first, last = self._first, self._bundle.last_position
        if len(self._forms) > 1 and self._size(self._exact, None) <= limit:
            return self._exact, None
        missed: list[TargetOutOfReach] = []

        def fitting(forms: Iterable[Form]) -> Iterator[tuple[Form, int | None]]:
            for form in forms:
                if form.coder is None:
                    if self._size(form, None) <= limit:
                        yield form, None
                    continue
                try:
                    yield form, first + largest_within(self._sizes(form), limit, last - first)
                except TargetOutOfReach as error:
                    missed.append(error)

        found = list(fitting(self._forms[:1]))
        at = _position_of_learned(found, first)
        found += fitting((*self._forms_at(at)[1:], *self._divided(at)))
        if not found:
            beside = len(self._extras.packed)
            if beside < limit / 2:
                raise missed[0]
            raise TargetOutOfReach(
                f"{beside} bytes of the file are metadata and alpha, which no rate makes smaller, and "
                f"{limit} were asked for in all; leave metadata out with --strip, or ask for more bytes."
            ) from missed[0]
        form, position = found[0]
        if len(found) > 1:
            form, position = min(found, key=lambda pair: pair[0].error(pair[1] or 0))
        if position == last and self._layers == 1 and self._size(self._exact, None) <= limit:
            return self._exact, None
        return form, position

    def _reaching(self, floor: float) -> tuple[Form, int | None]:
        """The smallest with a PSNR of at least ``floor`` dB; an exact one reaches any."""
        last = self._bundle.last_position

        def reaching(forms: Iterable[Form]) -> Iterator[tuple[Form, int | None]]:
            for form in forms:
                if form.coder is None:
                    if self._psnr(form, 0) >= floor:
                        yield form, None
                    continue
                with suppress(TargetOutOfReach):
                    beyond = smallest_reaching(self._psnrs(form), floor, last - self._first)
                    yield form, self._first + beyond

        found = list(reaching(self._forms[:1]))
        at = _position_of_learned(found, last)
        found += reaching((*self._forms_at(at)[1:], *self._divided(at)))
        if not found and self._layers > 1:
            raise TargetOutOfReach(
                f"Layers do not reach {floor:g} dB with this bundle; ask for less, or leave layers out."
            )
        if not found:
            found.append((self._exact, None))
        return found[0] if len(found) == 1 else min(found, key=lambda pair: self._size(*pair))

    def _sizes(self, form: Form) -> Callable[[int], int]:
        """Bytes by how far a position lies behind the first that is possible."""
        return lambda beyond: self._size(form, self._first + beyond)

    def _psnrs(self, form: Form) -> Callable[[int], float]:
        """The same for dB."""
        return lambda beyond: self._psnr(form, self._first + beyond)

    def _psnr(self, form: Form, position: int) -> float:
        """In dB, over all samples that can be seen."""
        alpha = self._picture.alpha
        seen = self._pixels if alpha is None else int(np.count_nonzero(alpha))
        error = form.error(position)
        return math.inf if error == 0 else 10 * math.log10(255**2 * 3 * seen / error)

    def _encoded(self, form: Form, position: int | None, rate_weight: float | None = None) -> Encoded:
        payloads = form.code(position or 0, rate_weight)
        data = self._stream(form, position, rate_weight)
        known = None if form.coder is None else position
        learned = payloads.table_bits, payloads.learned_bytes
        return Encoded(data, known, *learned, len(form.exact), is_reduced=form.lost > 0)

    def _smoothing(self, position: int) -> int:
        return self._bundle.smoothing_at(position, self._mode, self._grain)

    @cached_property
    def _grain(self) -> float:
        """Of the picture, if the bundle asks."""
        asks = self._bundle.manifest.encoding.smoothing_of_grain < 1
        return grain_of(self._picture.pixels) if asks else 0.0

    def _size(self, form: Form, position: int | None) -> int:
        return len(self._stream(form, position))

    def _stream(self, form: Form, position: int | None, rate_weight: float | None = None) -> bytes:
        grid = self._grid
        base, fingerprint, mode = self._bundle.base, self._bundle.fingerprint, self._mode
        fingerprint, pack = (fingerprint, None) if base is None else (base, fingerprint)
        if form.coder is None:
            fingerprint, pack, mode, position = NO_BUNDLE, None, Mode.SCALAR, 0
        assert position is not None  # what is learned has one
        header = Header(
            fingerprint,
            grid.width,
            grid.height,
            self._colour,
            mode,
            position - self._first,
            grid.layout,
            pack,
            self._layers,
            0 if form.coder is None else self._smoothing(position),
        )
        coded = form.code(position, rate_weight)
        cuts = None
        if self._progressive and form.coder is not None:
            cuts = first_parts(self._bundle.at(position, mode).model, grid, coded.tiles, form.exact)
        ends = coded.layer_ends if self._layers > 1 else None
        return join_stream(
            header, coded.tiles, self._extras, form.exact, cuts, is_reduced=form.lost > 0, layer_ends=ends
        )


def first_parts(
    model: _core.Model, grid: TileGrid, tiles: Sequence[bytes], exact: frozenset[int]
) -> list[int]:
    """Where the first phase of each payload ends, in bytes; exact ones have nothing to show early."""
    cells = [grid.box(index).cells(STRIDE) for index in range(grid.count)]
    return [
        0 if index in exact else first_part(model, payload, box.rows, box.columns)
        for index, (payload, box) in enumerate(zip(tiles, cells, strict=True))
    ]


def _position_of_learned(found: Sequence[tuple[Form, int | None]], otherwise: int) -> int:
    """Of forms with rate positions that of the first; another one if there is none."""
    return next((position for _, position in found if position is not None), otherwise)


def _mode_of_layers(layers: int, mode: str | None, progressive: bool) -> str:
    """The mode that layers are made of.

    Raises:
        UsageError: there cannot be so many, or something else was asked for that they decide.
    """
    if not 2 <= layers <= MOST_LAYERS:
        raise UsageError(f"A file has 2 to {MOST_LAYERS} layers, not {layers}.")
    if mode is not None or progressive:
        raise UsageError("Layers have a mode and an order of their own; leave mode and progressive out.")
    return Mode.RDOQ


def _plan(
    picture: Picture,
    bundle: Bundle,
    grid: TileGrid,
    max_memory: int,
    threads: int,
    *,
    keep: bool,
    decodes: bool,
    forms: int,
) -> tuple[Plan, bool]:
    """What fits into the memory, and whether the latents of all forms may stay for another position."""
    alpha = 0 if picture.alpha is None else 3 * picture.alpha.nbytes  # with its differences
    filled = 0 if picture.alpha is None or picture.alpha.all() else picture.pixels.nbytes
    fixed, channels = picture.pixels.nbytes + alpha + filled, bundle.channels
    if keep:
        try:
            latents = forms * latent_bytes(grid.height * grid.width, channels)
            return plan_encoder(grid, channels, fixed + latents, max_memory, threads, decodes=decodes), True
        except LimitExceeded:
            pass
    return plan_encoder(grid, channels, fixed, max_memory, threads, decodes=decodes), False


def position_of(rate: Rate, last: int) -> int:
    """The rate position that is asked for, where no target is."""
    if rate.position is None:
        quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
        return position_of_quality(quality, last)
    if not 0 <= rate.position <= last:
        raise UsageError(f"The rate position must be from 0 to {last}, not {rate.position}.")
    return rate.position


def _without_hidden(picture: Picture) -> Picture:
    """Black where alpha is 0, which costs nothing that is coded exactly."""
    if picture.alpha is None or picture.alpha.all():
        return picture
    shown = picture.alpha > 0
    pixels = picture.pixels * (shown if picture.is_grey else shown[..., None])
    return replace(picture, pixels=pixels.astype(np.uint8))
