"""
Entropy coding and the integer scale network. Everything here is exact.
"""

from collections.abc import Sequence
from typing import Annotated, overload

import numpy
from numpy.typing import NDArray

# C-contiguous arrays of one, two or three dimensions, on the CPU; what is not to be written may be read-only.
FloatCube = Annotated[
    NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
]
FloatCubeInAnyOrder = Annotated[
    NDArray[numpy.float32], dict(shape=(None, None, None), device="cpu", writable=False)
]
FloatRow = Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)]
Int16Cube = Annotated[
    NDArray[numpy.int16], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
]
Int16Matrix = Annotated[
    NDArray[numpy.int16], dict(shape=(None, None), order="C", device="cpu", writable=False)
]
Int16Row = Annotated[NDArray[numpy.int16], dict(shape=(None,), order="C", device="cpu", writable=False)]
Int32Row = Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)]
UInt16Row = Annotated[NDArray[numpy.uint16], dict(shape=(None,), order="C", device="cpu", writable=False)]
FloatCubeToWrite = Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")]

IN_CELL: float
IN_LAST_CELL: float
MOST_SMOOTHING: int

def simd_available() -> bool:
    """True if vector kernels are built in and usable here."""

def release_memory() -> None:
    """Give back to the system what is free, where its allocator would keep it (glibc)."""

def to_pixels(planes: FloatCubeInAnyOrder, height: int, width: int, smoothing: int) -> NDArray[numpy.uint8]:
    """The upper left (height, width, 3) of planes (3, H, W) about [0, 1], rounded.

    smoothing: threshold of the smoothing that stops at edges, in grey levels; 0: none.
    """

def spread(
    block: FloatCube,
    top: int,
    left: int,
    height: int,
    width: int,
    factor: int,
    adds: bool,
    plane: FloatCubeToWrite,
    row: int,
    column: int,
) -> None:
    """Put or add patches of a block (rows, columns, factor * factor * C) where they lie on a plane (H, W, C)."""

def jpeg_is_damaged(data: bytes) -> bool:
    """True if Huffman codes of a JPEG file are not what its headers announce."""

class Tables:
    """A set of integer CDFs, one row after the other."""

    def __init__(self, cdf: UInt16Row, offsets: Int32Row) -> None:
        """Raises ValueError unless every row runs strictly from 0 to 2**14."""

    @property
    def rows(self) -> int: ...
    def leaning(self, signs: SignNetwork) -> Tables:
        """The same, and after every row one for each lean of signs.

        Raises ValueError if those have other rows.
        """

    def encode(self, rows: Int16Row, symbols: Int16Row, lanes: int) -> bytes:
        """Code symbols, int16 (n,), each by its row, int16 (n,)."""

    def decode(self, data: bytes, rows: Int16Row, lanes: int) -> NDArray[numpy.int16]:
        """The symbols again, int16 (n,). Raises ValueError 'truncated' or 'corrupt'."""

class ScaleNetwork:
    """Integer weights, shared by all pictures."""

    def __init__(
        self,
        layers: dict[str, tuple[NDArray[numpy.int16], NDArray[numpy.int32]]],
        phase_bias: Int32Row,
        simd: bool = True,
    ) -> None:
        """Raises ValueError if a layer is missing, misshapen or could overflow int32."""

class PlaceNetwork:
    """What latents of a place say of others of the same phase there."""

    def __init__(
        self,
        weight: Int16Cube,
        near: NDArray[numpy.int16],
        expected: Int16Row,
        gain: Int16Row,
        bias: Int16Row,
        simd: bool = True,
    ) -> None:
        """Raises ValueError if anything is misshapen, looks ahead or could overflow int32."""

class SignNetwork:
    """Which sign latents of a place lean to."""

    def __init__(
        self,
        weight: Int16Cube,
        near: NDArray[numpy.int16],
        gain: Int16Row,
        unit: Int16Row,
        growth: Int16Row,
        skew: Int16Row,
        simd: bool = True,
    ) -> None:
        """Raises ValueError if anything is misshapen, looks ahead or could overflow int32."""

class HyperNetwork:
    """Mean and scale of every z from what was read before."""

    def __init__(
        self,
        channels: int,
        live: Int32Row,
        around: Int16Cube,
        before: Int16Matrix,
        head: Int16Cube,
        own: Int16Cube,
        tables: Tables,
        simd: bool = True,
    ) -> None:
        """Raises ValueError if anything is misshapen or could overflow int32."""

    def rows(self, z: Int16Cube, rate: Int32Row) -> tuple[NDArray[numpy.int16], NDArray[numpy.int16]]:
        """Table rows of the live channels of z (h, w, Z) and what is coded with them, int16 (h, w, n)."""

class Model:
    """All that decides how the symbols of one rate position are read."""

    def __init__(
        self,
        network: ScaleNetwork,
        z_tables: Tables,
        y_tables: Tables,
        base: int,
        skip: int,
        rate_bias: Int32Row,
        exponent: Int32Row,
        states: int = 1,
        place: PlaceNetwork | None = None,
        hyper: HyperNetwork | None = None,
        hyper_rate: NDArray[numpy.int32] | None = None,
        signs: SignNetwork | None = None,
        leaning: Tables | None = None,
    ) -> None:
        """states: of the trellis; 1 is scalar quantization. place, hyper, signs: context networks, or None.

        leaning: y_tables as signs need them.
        """

    def log_scale(self, z: Int16Cube, height: int, width: int) -> NDArray[numpy.int16]:
        """s(z^), int16 (height, width, C), 1/32 octave."""

    def decode(
        self, data: bytes, height: int, width: int
    ) -> tuple[NDArray[numpy.int16], NDArray[numpy.int16]]:
        """Symbols (z, y), int16, (h, w, channels). Raises ValueError 'truncated' or 'corrupt'."""

class TileDecoder:
    """Reads the symbols of a tile phase by phase."""

    @overload
    def __init__(self, model: Model, data: bytes, height: int, width: int, layered: bool = False) -> None:
        """Reads z. layered: others may follow this layer. Raises ValueError 'truncated' or 'corrupt'."""

    @overload
    def __init__(self, model: Model, height: int, width: int) -> None:
        """Has no bytes yet: they are appended, as far as there are any."""

    def read_phase(self) -> None:
        """
        Read the next phase; with the last, the stream must end. Raises ValueError 'truncated' or
        'corrupt'.
        """

    def append(self, data: bytes) -> None:
        """Read on, as far as whole lines of positions reach; unverified. Raises ValueError 'corrupt'."""

    @property
    def z(self) -> NDArray[numpy.int16]:
        """Symbols of z, int16 (h, w, Z): as many lines as were read."""

    @property
    def y(self) -> NDArray[numpy.int16]:
        """
        Symbols of y, int16 (height, width, C): zero where they were not read yet; no lines before all
        of z was read. The array fills up.
        """

    @property
    def bytes_read(self) -> int:
        """Bytes that the symbols read so far need."""

    @property
    def y_lines(self) -> int:
        """Lines of y that were read; those of a phase follow those of the one before."""

class TileEncoder:
    """Decides and codes the symbols of a tile phase by phase."""

    def __init__(self, model: Model, z: Int16Cube, height: int, width: int) -> None: ...
    def begin_phase(self) -> NDArray[numpy.int16]:
        """Table rows of the next phase, int16 (height, width, C / 4); -1 where nothing is coded."""

    def quantize(
        self,
        y: FloatCube,
        mean: FloatCube,
        gain: FloatRow,
        rate_weight: float,
        grid: FloatRow,
        decoded: FloatCubeToWrite,
        behind: int = 0,
        with_context: bool = False,
    ) -> None:
        """
        Quantize (y - mean) * gain for the phase begun and write mean + value / gain to
        `decoded`, planes float32 (C, height, width). rate_weight: squared steps a bit; grid: the
        fine grid in steps, or empty. behind: layers that will split the cells. with_context: bits are
        counted by rows as the context of a place is likely to correct them.
        """

    def put(self, symbols: Int16Cube) -> None:
        """Use given symbols, int16 (height, width, C), for the phase begun."""

    def finish(self) -> bytes:
        """The coded stream."""

    def cross_entropy(self) -> tuple[float, float]:
        """Bits that the tables alone charge: (z, y)."""

    @property
    def coded(self) -> tuple[NDArray[numpy.int16], NDArray[numpy.int16]]:
        """Table rows and levels of all coded latents, int16 (n,) each, in coding order."""

    @property
    def symbols(self) -> NDArray[numpy.int16]:
        """Symbols decided so far, int16 (height, width, C)."""

class LayerReader:
    """Reads layers of a tile behind the first."""

    def __init__(self, model: Model, z: Int16Cube, levels: Int16Cube) -> None:
        """levels: of the first layer, int16 (height, width, C)."""

    def read(self, model: Model, data: bytes) -> int:
        """
        Read the next layer; how many bytes it took. model: at its steps. Raises ValueError 'truncated' or
        'corrupt'.
        """

    @property
    def levels(self) -> NDArray[numpy.int16]:
        """Levels of the last layer, int16 (height, width, C)."""

class LayerWriter:
    """Decides and codes layers of a tile behind the first."""

    def __init__(self, model: Model, z: Int16Cube, levels: Int16Cube, residual: FloatCube) -> None:
        """
        levels: of the first layer, int16 (height, width, C). residual: what is quantized, float32
        (C, height, width), in its steps.
        """

    def write(self, model: Model, behind: int, rate_weight: float) -> bytes:
        """The next layer. model: at its steps. behind: how many layers come after it."""

    @property
    def bits(self) -> float:
        """What the shares of the last layer alone charged."""

    @property
    def levels(self) -> NDArray[numpy.int16]:
        """Levels of the last layer, int16 (height, width, C)."""

def search(
    states: int,
    tables: Tables,
    residual: FloatRow,
    rows: Int16Row,
    rate_weight: float,
    grid: FloatRow,
    lanes: int,
    simd: bool = True,
) -> NDArray[numpy.int16]:
    """Levels, int16 (n,), of residuals in steps, float32 (n,)."""

def follow(states: int, levels: Int16Row, lanes: int) -> NDArray[numpy.int16]:
    """Quantizer, 0 or 1, of every level, int16 (n,)."""

def reconstruct_phase(
    phase: int,
    symbols: Int16Cube,
    states: int,
    grid: FloatRow,
    mean: FloatCube,
    step: FloatRow,
    decoded: FloatCubeToWrite,
) -> None:
    """Write mean + value * step of one phase into `decoded`, all (C, height, width) but the symbols.

    The means may lie in `decoded` itself.
    """

def reconstruct_places(
    phase: int,
    symbols: Int16Cube,
    states: int,
    grid: FloatRow,
    means: Sequence[FloatCube],
    top: int,
    left: int,
    step: FloatRow,
    decoded: FloatCubeToWrite,
) -> None:
    """The same with the means of the phase by class of places, (C / 4, rows, columns) each.

    Those before a row and a column do not count.
    """

def add_to_places(parts: Sequence[FloatCube], sums: FloatCubeToWrite) -> None:
    """Add to sums (C, height, width) what there is by class of places, (C, rows, columns) each."""
