"""What runs on this machine, how fast, and whether all is well."""

from __future__ import annotations

import platform
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from softstair import _core
from softstair.bundle import Bundle, installed, open_bundle
from softstair.codec import usable_cores
from softstair.codec.geometry import Geometry
from softstair.codec.tile import TileCoder
from softstair.engine import Engine, choose_engine, load_networks, openvino_installed
from softstair.errors import SoftstairError
from softstair.processor import processor_name, vector_extensions
from softstair.quantize.rates import POSITIONS_PER_OCTAVE

PURPOSES = {
    "openvino": "another engine, a little faster",
    "cluster": "softstair encode --scheduler",
    "eval": "softstair eval, bdrate, plot, report",
    "judges": "softstair eval --judges cvvdp",
    "web": "softstair view",
    "wasm": "make web",
    "formats": "HEIC and JPEG XL as sources",
    "learn": "softstair build, train, derive, finetune, export",
}
_POSITION = 5 * POSITIONS_PER_OCTAVE // 2
_RUNS = 3
_WORST = 20.0  # mean squared error that the built-in picture may come back with

Pixels = npt.NDArray[np.uint8]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Package:
    """A dependency. version: None if it is missing. extra: None if all need it. purpose: what for."""

    name: str
    version: str | None
    extra: str | None
    purpose: str


@dataclass(frozen=True)
class InstalledBundle:
    """A bundle that streams can be decoded with. fingerprint: hex. size: bytes."""

    name: str
    fingerprint: str
    size: int
    origin: str


@dataclass(frozen=True)
class Times:
    """Milliseconds by stage on a picture of 768x512 pixels, medians of warm runs.

    first: the first picture there and back, networks loaded. coding: the networks of entropy coding,
    quantization and the coder. symbols: entropy decoding. means: of all phases.
    """

    engine: str
    first: float
    analysis: float
    coding: float
    symbols: float
    means: float
    synthesis: float

    @property
    def encode(self) -> float:
        return self.analysis + self.coding

    @property
    def decode(self) -> float:
        return self.symbols + self.means + self.synthesis


@dataclass(frozen=True)
class Findings:
    """All of it. engine: the one asked for. problems: sentences; empty if all is well."""

    version: str
    python: str
    system: str
    processor: str
    vector_extensions: tuple[str, ...]
    core_has_vector_kernels: bool
    cores: int
    threads: int
    engine: str
    packages: tuple[Package, ...]
    bundles: tuple[InstalledBundle, ...]
    times: tuple[Times, ...]
    problems: tuple[str, ...]


def examine(threads: int | None = None) -> Findings:
    """Look at everything and code a built-in picture on every engine; takes seconds.

    Args:
        threads: of the networks; by default all usable cores.
    """
    threads = threads or usable_cores()
    problems: list[str] = []
    engine = _noting(problems, choose_engine)
    return Findings(
        version=metadata.version("softstair"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=processor_name(),
        vector_extensions=vector_extensions(),
        core_has_vector_kernels=_core.simd_available(),
        cores=usable_cores(),
        threads=threads,
        engine=engine or "none",
        packages=tuple(_packages()),
        bundles=_noting(problems, lambda: _installed(problems)) or (),
        times=_noting(problems, lambda: _measure_all(threads, problems)) or (),
        problems=tuple(dict.fromkeys(problems)),  # what goes on to fail is said once
    )


def _noting(problems: list[str], look: Callable[[], Result]) -> Result | None:
    """What a look finds; None, and a problem more, if it fails."""
    try:
        return look()
    except (SoftstairError, ImportError) as error:
        problems.append(str(error))
        return None


def _packages() -> Iterator[Package]:
    """The dependencies that this package declares, those of development left out."""
    for line in metadata.requires("softstair") or ():
        name, extra = re.findall(r"^[\w.-]+|(?<=extra == [\"'])\w+", line + "; extra == 'None'")[:2]
        if extra != "None" and extra not in PURPOSES:
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = None
        yield Package(name, version, None if extra == "None" else extra, PURPOSES.get(extra, ""))


def _installed(problems: list[str]) -> tuple[InstalledBundle, ...]:
    with warnings.catch_warnings(record=True) as passed_over:
        warnings.simplefilter("always")
        found = tuple(map(_describe, installed()))
    problems.extend(str(one.message) for one in passed_over)
    return found


def _describe(bundle: Bundle) -> InstalledBundle:
    return InstalledBundle(bundle.name, bundle.fingerprint.hex(), bundle.size, bundle.origin)


def _measure_all(threads: int, problems: list[str]) -> tuple[Times, ...]:
    """Times of every engine; they must agree on the symbols, and on pixels but for a grey level."""
    bundle, picture = open_bundle(), built_in_picture()
    mode = bundle.mode_named(bundle.manifest.encoding.mode)
    engines = [Engine.ONNX_RUNTIME, *([Engine.OPENVINO] if openvino_installed() else [])]
    times, shown = [], []
    for engine in engines:
        coder = TileCoder(bundle, load_networks(bundle, threads, engine, mode), mode)
        found = _noting(problems, lambda: _measure(bundle, coder, engine, picture))  # noqa: B023, it is called now
        if found is not None:
            times.append(found[0])
            shown.append(found[1].astype(int))
            if np.square(shown[-1] - picture).mean() > _WORST:
                problems.append(f"The built-in picture comes back damaged from {engine}.")
            if np.abs(shown[-1] - shown[0]).max() > 1:
                problems.append(f"{engine} and {engines[0]} show different pictures.")
    return tuple(times)


def _measure(bundle: Bundle, coder: TileCoder, engine: Engine, picture: Pixels) -> tuple[Times, Pixels]:
    geometry = Geometry(picture.shape[1], picture.shape[0])
    rounds, clock = [], time.perf_counter
    for _ in range(1 + _RUNS):
        marks = [clock()]
        analysed = coder.analyse(picture)
        marks.append(clock())
        coded = coder.code(analysed, _POSITION)
        marks.append(clock())
        symbols = coder.read_symbols(coded.payload, geometry, _POSITION)
        marks.append(clock())
        latents = coder.reconstruct(symbols, _POSITION)
        marks.append(clock())
        pixels = coder.synthesise(latents, geometry, _POSITION)
        marks.append(clock())
        rounds.append([1e3 * float(value) for value in np.diff(marks)])
    plain = bundle.at(_POSITION, coder.mode, simd=False).model
    z, y = plain.decode(coded.payload, geometry.rows, geometry.columns)
    if not (np.array_equal(z, symbols.z) and np.array_equal(y, symbols.y)):
        raise SoftstairError("The vector kernels of the core read other symbols than the portable ones.")
    stages = [round(statistics.median(values), 1) for values in zip(*rounds[1:], strict=True)]
    return Times(engine, round(sum(rounds[0]), 1), *stages), pixels


def built_in_picture() -> Pixels:
    """Waves under a fine texture, uint8 (512, 768, 3)."""
    rows, columns = np.mgrid[0:512, 0:768]
    waves = 127 + 60 * np.sin(rows / 23)[..., None] * np.cos(columns[..., None] / (17, 29, 41))
    texture = 6 * np.sin(rows * columns / 97)[..., None]
    picture: Pixels = (waves + texture).astype(np.uint8)
    return picture
