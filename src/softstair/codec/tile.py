"""The path of a tile: pixels to an entropy-coded payload and back.

    y = analysis(x);  z^ = round(hyper analysis(y))
    in four phases: mu from z^ and y^ so far;  q = quantize((y - mu) * gain);  y^ = mu + q / gain

The decoder reads all q in integers; float networks only turn decoded symbols into pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from softstair import _core
from softstair.engine import Networks, Planes
from softstair.errors import CorruptStream
from softstair.mode import Mode
from softstair.quantize.grids import STRIDE, Z
from softstair.quantize.layers import in_layers, in_planes, level_before, value_in_layer
from softstair.quantize.phases import PHASES
from softstair.quantize.setting import Setting
from softstair.quantize.staircase import rounded
from softstair.tiles import Box

from .geometry import WHOLE_PICTURE, Borders, Geometry, to_even, to_pixels, to_planes
from .means import Means, MeansInTurn, MeansOfLine, put_back

# Symbols of residuals in steps, both (C, rows, columns); those of other phases are not used.
Decide = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int16]]


class Settings(Protocol):
    """Where settings come from: a bundle, or the integers of a codec in training."""

    @property
    def channels(self) -> int:
        """Number of latents at a place."""

    def at(self, position: int, mode: Mode, *, layer: int = 0) -> Setting:
        """All there is at a rate position in a mode, so many layers on."""


@dataclass(frozen=True)
class Analysed:
    """Latents of a tile, float32 (1, C, rows, columns): all that rate control starts from."""

    geometry: Geometry
    latents: Planes
    borders: Borders = WHOLE_PICTURE


@dataclass(frozen=True)
class Begun:
    """A tile at a rate position whose z is decided, which is the same in all modes.

    z: symbols, int16 (h, w, Z). means: what z^ says of y.
    """

    analysed: Analysed
    position: int
    z: npt.NDArray[np.int16]
    means: Means


@dataclass(frozen=True)
class Decided:
    """A tile whose symbols are decided. tile: their encoder. latents: y^, (1, C, rows, columns).

    z: as of ``Begun``.
    """

    tile: _core.TileEncoder
    latents: Planes
    z: npt.NDArray[np.int16]

    @property
    def table_bits(self) -> float:
        """What the tables alone charge."""
        return sum(self.tile.cross_entropy())


@dataclass(frozen=True)
class CodedTile:
    """A tile as coded.

    payload: bytes. latents: y^, (1, C, rows, columns). table_bits: what the tables alone charge. layer_ends:
    where layers end in the payload. symbols: of y, int16 (rows, columns, C); of layers, the first one's.
    """

    payload: bytes
    latents: Planes
    table_bits: float
    symbols: npt.NDArray[np.int16]
    layer_ends: tuple[int, ...] = ()

    def bits_of_places(self) -> npt.NDArray[np.float64]:
        """About what each place takes, (rows, columns): the payload by how large symbols are."""
        sizes: npt.NDArray[np.float64] = np.log2(1.0 + np.abs(self.symbols)).sum(axis=2, dtype=np.float64)
        return sizes * (8.0 * len(self.payload) / max(float(sizes.sum()), 1.0))


@dataclass(frozen=True)
class Symbols:
    """Symbols of a tile, int16: z (h, w, Z) and y (rows, columns, C).

    Those of y are in steps; in the modes of a trellis, in half steps. layer: whose steps, from 0.
    """

    z: npt.NDArray[np.int16]
    y: npt.NDArray[np.int16]
    layer: int = 0


class TileCoder:
    """Codes and decodes tiles with the networks and integers of one codec in one mode.

    settings: a bundle, or the integers of a codec in training. parallel: float networks may run while a
    thread of its own reads symbols. layers: how many tiles are made of; a rate position is then that of the
    first.
    """

    def __init__(
        self, settings: Settings, networks: Networks, mode: Mode, *, parallel: bool = False, layers: int = 1
    ) -> None:
        self.channels, self.mode, self.layers = settings.channels, mode, layers
        self._networks, self._parallel = networks, parallel

        def at(position: int, layer: int = 0) -> Setting:
            setting = settings.at(position, mode, layer=layer)
            return in_layers(setting) if layers > 1 else setting

        self._at = lru_cache(maxsize=2 * layers)(at)

    def analyse(self, pixels: npt.NDArray[np.uint8]) -> Analysed:
        """Latents of pixels (H, W, 3); the same at every rate."""
        geometry = Geometry(pixels.shape[1], pixels.shape[0])
        return Analysed(geometry, self._networks.analysis(to_planes(pixels, geometry)))

    def code(
        self,
        analysed: Analysed,
        position: int,
        decide: Decide | None = None,
        *,
        rate_weight: float | None = None,
    ) -> CodedTile:
        """Quantize and code at a rate position.

        decide: stands in for the mode's own search. rate_weight: of the search, by default the mode's.
        """
        decided = self.decide(self.begin(analysed, position), decide, rate_weight=rate_weight)
        payload = decided.tile.finish()
        if self.layers > 1:
            return self._refine(analysed, position, decided, payload, rate_weight)
        return CodedTile(payload, decided.latents, decided.table_bits, decided.tile.symbols)

    def choose_z(self, analysed: Analysed, position: int) -> npt.NDArray[np.int16]:
        """Symbols of z at a rate position, (h, w, Z)."""
        setting = self._at(position)
        gain = setting.gain[None, :, None, None]
        z = self._networks.hyper_analysis(to_even(analysed.latents), gain, setting.hat)
        z_hat = np.clip(rounded(z, setting.z_thresholds), Z.low, Z.high)
        return np.ascontiguousarray(z_hat[0].transpose(1, 2, 0)).astype(np.int16)

    def begin(self, analysed: Analysed, position: int, z: npt.NDArray[np.int16] | None = None) -> Begun:
        """Decide z at a rate position, or take the one given."""
        setting = self._at(position)
        symbols = self.choose_z(analysed, position) if z is None else z
        z_hat = np.ascontiguousarray(symbols.transpose(2, 0, 1))[None].astype(np.float32)
        rows, columns = analysed.latents.shape[2:]
        means = Means(self._networks, z_hat, setting.hat, (rows, columns), analysed.borders)
        return Begun(analysed, position, symbols, means)

    def decide(
        self, begun: Begun, decide: Decide | None = None, *, rate_weight: float | None = None
    ) -> Decided:
        """Decide y phase by phase: each sees what the ones before it decided. Arguments as for ``code``."""
        setting, latents = self._at(begun.position), begun.analysed.latents
        y, decoded = np.ascontiguousarray(latents[0]), np.zeros_like(latents)
        tile = _core.TileEncoder(setting.model, begun.z, *y.shape[1:])
        weight = setting.rate_weight if rate_weight is None else rate_weight
        if decide is None and setting.thresholds is not None:
            decide = setting.thresholds.decide
        means, mean = begun.means.in_turn(self.channels), decoded[0]  # mu lies where y^ will
        for phase in range(PHASES):
            tile.begin_phase()
            means.put_into(decoded, phase)
            if decide is None:
                behind = self.layers - 1
                tile.quantize(
                    y,
                    mean,
                    setting.inverse_step,
                    weight,
                    setting.grid,
                    decoded[0],
                    behind,
                    setting.context_in_search and behind == 0,
                )
                continue
            symbols = decide((y - mean) * setting.inverse_step[:, None, None])
            tile.put(np.ascontiguousarray(symbols.transpose(1, 2, 0)))
            put_back(tile.symbols, phase, setting, decoded)
        return Decided(tile, decoded, begun.z)

    def _refine(
        self, analysed: Analysed, position: int, first: Decided, payload: bytes, rate_weight: float | None
    ) -> CodedTile:
        """The layers behind the first: what is quantized is what the first one was, its means kept."""
        setting, levels = self._at(position), first.tile.symbols
        error = (analysed.latents - first.latents)[0] * setting.inverse_step[:, None, None]
        residual = np.ascontiguousarray(error + in_planes(value_in_layer(levels, self.layers - 1)))
        writer = _core.LayerWriter(setting.model, first.z, levels, residual)
        weight = setting.rate_weight if rate_weight is None else rate_weight
        ends, bits = [len(payload)], first.table_bits
        for layer in range(1, self.layers):
            payload += writer.write(self._at(position, layer).model, self.layers - 1 - layer, weight)
            ends.append(len(payload))
            bits += writer.bits
        latents = self._refined(first.latents, writer.levels, self.layers - 1, setting)
        return CodedTile(payload, latents, bits, levels, tuple(ends))

    def _refined(self, first: Planes, levels: npt.NDArray[np.int16], layer: int, setting: Setting) -> Planes:
        """y^ of a layer from that of the first, whose setting is given: the means are the same."""
        before = value_in_layer(level_before(levels, layer), self.layers - 1)
        moved = value_in_layer(levels, self.layers - 1 - layer) / np.float32(1 << layer) - before
        return first + in_planes(moved)[None] * setting.step[:, None, None]

    def decode(
        self,
        payload: bytes,
        geometry: Geometry,
        position: int,
        index: int = 0,
        borders: Borders = WHOLE_PICTURE,
    ) -> Planes:
        """y^ of a payload, (1, C, rows, columns): ``reconstruct`` of ``read_symbols``.

        Raises:
            CorruptStream: the payload is not what an encoder wrote.
        """
        if not self._parallel or self.layers > 1:
            return self.reconstruct(self.read_symbols(payload, geometry, position, index), position, borders)
        # Reading is serial, and needs no means: these follow a phase behind, the first of z alone.
        tile = self.open_tile(payload, geometry, position, index)
        with ThreadPoolExecutor(1) as reader:
            phases = [reader.submit(self.read_phase, tile, index) for _ in range(PHASES)]
            filling = Symbols(tile.z, tile.y)
            return self.reconstruct(filling, position, borders, lambda phase: phases[phase].result())

    def read_symbols(self, payload: bytes, geometry: Geometry, position: int, index: int = 0) -> Symbols:
        """Entropy decoding: integers alone. index: of the tile, for messages.

        Raises:
            CorruptStream: the payload is not what an encoder wrote.
        """
        tile = self.open_tile(payload, geometry, position, index)
        for _ in range(PHASES):
            self.read_phase(tile, index)
        if self.layers > 1:
            return self._read_layers(tile, payload, position, index)
        return Symbols(tile.z, tile.y)

    def _read_layers(self, tile: _core.TileDecoder, payload: bytes, position: int, index: int) -> Symbols:
        """Symbols of the last layer of a payload, of which the first was read."""
        layer, read = 0, tile.bytes_read
        reader = _core.LayerReader(self._at(position).model, tile.z, tile.y)
        with _of_tile(index):
            while read < len(payload):
                layer += 1
                if layer == self.layers:
                    raise ValueError("corrupt")
                read += reader.read(self._at(position, layer).model, payload[read:])
        return Symbols(tile.z, reader.levels, layer)

    def read_beginning(self, payload: bytes, geometry: Geometry, position: int, index: int = 0) -> Symbols:
        """Symbols of a payload that may end early: zero where it says nothing, of as many rows as z tells of.

        Nothing verified the bytes: damage that goes unnoticed comes out as other symbols.

        Raises:
            CorruptStream: no encoder wrote that.
        """
        tile = _core.TileDecoder(self._at(position).model, geometry.rows, geometry.columns)
        with _of_tile(index):
            tile.append(payload)
        if len(tile.y):
            return Symbols(tile.z, tile.y)
        rows = min(2 * len(tile.z), geometry.rows)
        return Symbols(tile.z, np.zeros((rows, geometry.columns, self.channels), np.int16))

    def reconstruct(
        self,
        symbols: Symbols,
        position: int,
        borders: Borders = WHOLE_PICTURE,
        wait_for: Callable[[int], None] = lambda phase: None,
    ) -> Planes:
        """y^ from symbols, (1, C, rows, columns).

        wait_for: returns once the symbols of y of a phase are there, and those of z with the first.
        """
        rows, columns, channels = symbols.y.shape
        means = self.means_of(symbols.z, rows, columns, position, borders)
        decoded = np.zeros((1, channels, rows, columns), np.float32)
        first = level_before(symbols.y, symbols.layer) if symbols.layer else symbols.y
        for phase in range(PHASES):
            wait_for(phase)
            self.put_back(first, position, means, phase, decoded)
        if symbols.layer:
            return self._refined(decoded, symbols.y, symbols.layer, self._at(position))
        return decoded

    def synthesise(
        self,
        latents: Planes,
        geometry: Geometry,
        position: int,
        smoothing: int = 0,
        shown: Box | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Pixels (H, W, 3) from y^, smoothed as a header says; of some cells if not of all."""
        whole = Box(0, 0, geometry.rows, geometry.columns)
        shown = whole if shown is None else shown
        seen = shown.grown(int(smoothing > 0), whole)
        planes = self._networks.synthesis(latents, self._at(position).hat, seen)
        picture = Box(0, 0, geometry.height, geometry.width)
        inner, outer = (box.times(STRIDE).within(picture) for box in (shown, seen))
        pixels = to_pixels(planes, Geometry(outer.columns, outer.rows), smoothing)
        return pixels[inner.seen_from(outer).slices]

    def setting(self, position: int) -> Setting:
        """All there is at a rate position, of the first layer."""
        return self._at(position)

    def open_tile(self, payload: bytes, geometry: Geometry, position: int, index: int) -> _core.TileDecoder:
        """A reader of a payload that has read z."""
        with _of_tile(index):
            return _core.TileDecoder(
                self._at(position).model, payload, geometry.rows, geometry.columns, self.layers > 1
            )

    def read_phase(self, tile: _core.TileDecoder, index: int) -> None:
        """Read the next phase of a tile's symbols."""
        with _of_tile(index):
            tile.read_phase()

    def means_of(
        self, z: npt.NDArray[np.int16], rows: int, columns: int, position: int, borders: Borders
    ) -> MeansInTurn | MeansOfLine:
        """The mean network of a tile whose z is known; its first phase is done."""
        z_hat = np.ascontiguousarray(z.transpose(2, 0, 1))[None].astype(np.float32)
        hat = self._at(position).hat
        return Means(self._networks, z_hat, hat, (rows, columns), borders).in_turn(self.channels)

    def put_back(
        self,
        symbols: npt.NDArray[np.int16],
        position: int,
        means: MeansInTurn | MeansOfLine,
        phase: int,
        decoded: Planes,
    ) -> None:
        """Write y^ of a phase into ``decoded``, which has that of the phases before."""
        means.put_back(decoded, phase, symbols, self._at(position))


@contextmanager
def _of_tile(index: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise CorruptStream(f"The payload of tile {index} cannot be decoded: {error}.") from error
