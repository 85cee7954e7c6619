"""The path of a tile: pixels to an entropy-coded payload and back.

    y = analysis(x);  z^ = round(hyper analysis(y))
    in four phases: mu from z^ and y^ so far;  q = quantize((y - mu) * gain);  y^ = mu + q / gain

The decoder reads all q in integers; float networks only turn into pixels what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from softstair import _core
from softstair.bundle import Bundle
from softstair.engine import Networks, Planes
from softstair.errors import CorruptStream
from softstair.quantize.phases import PHASES
from softstair.quantize.rates import hat_weights
from softstair.quantize.staircase import STATES, rounded

from .geometry import WHOLE_PICTURE, Borders, Geometry, to_even, to_pixels, to_planes

_Z_LIMIT = 127
_MIRRORED = 2  # positions of y^, and of z^, that the mean network is shown beyond a tile

# Symbols of residuals in steps, both (C, rows, columns); those of other phases are not used.
Decide = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int16]]


@dataclass(frozen=True)
class Analysed:
    """Latents of a tile, float32 (1, C, rows, columns): all that rate control starts from."""

    geometry: Geometry
    latents: Planes
    borders: Borders = WHOLE_PICTURE


@dataclass(frozen=True)
class CodedTile:
    """A tile as coded.

    payload: bytes. latents: y^, (1, C, rows, columns). table_bits: what the tables alone charge.
    """

    payload: bytes
    latents: Planes
    table_bits: float


@dataclass(frozen=True)
class Symbols:
    """Symbols of a tile, int16: z (h, w, Z) and y (rows, columns, C).

    Those of y are in steps; in the modes of a trellis, in half steps.
    """

    z: npt.NDArray[np.int16]
    y: npt.NDArray[np.int16]


class TileCoder:
    """Codes and decodes tiles with one bundle and one set of networks in one mode.

    parallel: float networks may run while a thread of its own reads symbols.
    """

    def __init__(self, bundle: Bundle, networks: Networks, mode: str, *, parallel: bool = False) -> None:
        self.bundle, self.mode = bundle, mode
        self._networks, self._parallel = networks, parallel

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
        networks, hat = self._networks, self._hat(position)
        gain = self.bundle.gain(position)[None, :, None, None]
        z = networks.hyper_analysis(to_even(analysed.latents), gain, hat)
        z_hat = np.clip(rounded(z, self.bundle.z_thresholds(position)), -_Z_LIMIT, _Z_LIMIT)
        rows, columns = analysed.geometry.rows, analysed.geometry.columns
        z_symbols = np.ascontiguousarray(z_hat[0].transpose(1, 2, 0)).astype(np.int16)
        tile = _core.TileEncoder(self.bundle.model(position, self.mode), z_symbols, rows, columns)
        decoded = np.zeros_like(analysed.latents)
        means = Means(networks, z_hat, hat, decoded, analysed.borders)
        y = np.ascontiguousarray(analysed.latents[0])
        scale = self.bundle.inverse_step(position, self.mode)
        if rate_weight is None:
            rate_weight = self.bundle.rate_weight(self.mode)
        grid = self.bundle.grid(position, self.mode)
        if decide is None and (thresholds := self.bundle.thresholds(position, self.mode)) is not None:
            decide = thresholds.decide
        for phase in range(PHASES):
            tile.begin_phase()
            mean = means.of_phase(decoded, phase)
            if decide is None:
                tile.quantize(y, mean, scale, rate_weight, grid, decoded[0])
                continue
            symbols = decide((y - mean) * scale[:, None, None])
            tile.put(np.ascontiguousarray(symbols.transpose(1, 2, 0)))
            step = self.bundle.step(position, self.mode)
            _core.reconstruct_phase(phase, tile.symbols, STATES[self.mode], grid, mean, step, decoded[0])
        return CodedTile(tile.finish(), decoded, sum(tile.cross_entropy()))

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
        if not self._parallel:
            return self.reconstruct(self.read_symbols(payload, geometry, position, index), position, borders)
        # Reading is serial, and needs no means: these follow a phase behind, the first of z alone.
        tile = self._open(payload, geometry, position, index)
        with ThreadPoolExecutor(1) as reader:
            phases = [reader.submit(self.read_phase, tile, index) for _ in range(PHASES)]
            means = self.means_of(tile.z, geometry.rows, geometry.columns, position, borders)
            decoded = np.zeros((1, self.bundle.channels, geometry.rows, geometry.columns), np.float32)
            for phase, read in enumerate(phases):
                read.result()
                self.put_back(tile.y, position, means, phase, decoded)
        return decoded

    def read_symbols(self, payload: bytes, geometry: Geometry, position: int, index: int = 0) -> Symbols:
        """Entropy decoding: integers alone. index: of the tile, for messages.

        Raises:
            CorruptStream: the payload is not what an encoder wrote.
        """
        tile = self._open(payload, geometry, position, index)
        for _ in range(PHASES):
            self.read_phase(tile, index)
        return Symbols(tile.z, tile.y)

    def reconstruct(self, symbols: Symbols, position: int, borders: Borders = WHOLE_PICTURE) -> Planes:
        """y^ from symbols, (1, C, rows, columns)."""
        rows, columns, channels = symbols.y.shape
        means = self.means_of(symbols.z, rows, columns, position, borders)
        decoded = np.zeros((1, channels, rows, columns), np.float32)
        for phase in range(PHASES):
            self.put_back(symbols.y, position, means, phase, decoded)
        return decoded

    def synthesise(self, latents: Planes, geometry: Geometry, position: int) -> npt.NDArray[np.uint8]:
        """Pixels (H, W, 3) from y^."""
        return to_pixels(self._networks.synthesis(latents, self._hat(position)), geometry)

    def _open(self, payload: bytes, geometry: Geometry, position: int, index: int) -> _core.TileDecoder:
        model = self.bundle.model(position, self.mode)
        with _of_tile(index):
            return _core.TileDecoder(model, payload, geometry.rows, geometry.columns)

    def read_phase(self, tile: _core.TileDecoder, index: int) -> None:
        """Read the next phase of a tile's symbols."""
        with _of_tile(index):
            tile.read_phase()

    def means_of(
        self, z: npt.NDArray[np.int16], rows: int, columns: int, position: int, borders: Borders
    ) -> Means:
        """The mean network of a tile whose z is known; its first phase is done."""
        z_hat = np.ascontiguousarray(z.transpose(2, 0, 1))[None].astype(np.float32)
        nothing = np.zeros((1, self.bundle.channels, rows, columns), np.float32)
        return Means(self._networks, z_hat, self._hat(position), nothing, borders)

    def put_back(
        self, symbols: npt.NDArray[np.int16], position: int, means: Means, phase: int, decoded: Planes
    ) -> None:
        """Write y^ of a phase into ``decoded``, which has that of the phases before."""
        mean, step = means.of_phase(decoded, phase), self.bundle.step(position, self.mode)
        grid = self.bundle.grid(position, self.mode)
        _core.reconstruct_phase(phase, symbols, STATES[self.mode], grid, mean, step, decoded[0])

    def _hat(self, position: int) -> Planes:
        return hat_weights(position, self.bundle.points)


@contextmanager
def _of_tile(index: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise CorruptStream(f"The payload of tile {index} cannot be decoded: {error}.") from error


class Means:
    """The mean network on one tile, which decodes alone.

    Where the picture goes on beyond the tile, the network is shown its mirror image: zeros, which
    it knows from the borders of pictures, would cost a decibel or more on the pixels there.
    Mirroring y^ around the last position keeps the classes of positions, that is, which channels
    are known in a phase.
    """

    def __init__(
        self, networks: Networks, z_hat: Planes, hat: Planes, nothing: Planes, borders: Borders
    ) -> None:
        self._networks, self._borders = networks, borders
        self._rows, self._columns = rows, columns = nothing.shape[2:]
        if borders.any:
            z_hat = borders.mirrored(z_hat, _MIRRORED, "symmetric")
        base = networks.mean_base(z_hat, hat)
        # z^ covers two positions each: of its margin, only the inner half is needed.
        beyond_top, beyond_left = _MIRRORED * borders.top, _MIRRORED * borders.left
        last_row = 2 * beyond_top + rows + _MIRRORED * borders.bottom
        last_column = 2 * beyond_left + columns + _MIRRORED * borders.right
        self._base = np.ascontiguousarray(base[:, :, beyond_top:last_row, beyond_left:last_column])
        # Of z alone: a decoder has it before any y. Given away once, so that it is not kept beside others.
        self._first: Planes | None = self._mean(nothing, 0)

    def of_phase(self, decoded: Planes, phase: int) -> Planes:
        """mu (C, rows, columns), given y^ (1, C, rows, columns) of earlier phases."""
        if phase or self._first is None:
            return self._mean(decoded, phase)
        first, self._first = self._first, None
        return first

    def _mean(self, decoded: Planes, phase: int) -> Planes:
        if not self._borders.any:
            return np.ascontiguousarray(self._networks.mean(decoded, self._base, _one_hot(phase))[0])
        known = self._borders.mirrored(decoded, _MIRRORED, "reflect")
        mean = self._networks.mean(known, self._base, _one_hot(phase))
        return np.ascontiguousarray(self._borders.cut(mean, _MIRRORED, self._rows, self._columns)[0])


def _one_hot(phase: int) -> Planes:
    return np.eye(PHASES, dtype=np.float32)[phase : phase + 1]
