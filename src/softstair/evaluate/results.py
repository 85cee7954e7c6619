"""Results of a run: what was measured, on what, and their one JSON file."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path

import msgspec
import numpy as np

from softstair.codec import usable_cores
from softstair.errors import UsageError

from .metrics import psnr_of

SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """One picture through one codec at one quality.

    file_bytes: of the whole file. bpp: 8 * file_bytes / pixels. mse: squared grey levels. psnr:
    dB, None where the picture came back exactly. Times: seconds. under_load: other jobs of the run
    were at work meanwhile. payload_bytes, table_bits: Softstair's entropy-coded payload and what
    its tables alone charge for it.
    """

    codec: str
    quality: float
    picture: str
    width: int
    height: int
    file_bytes: int
    bpp: float
    mse: float
    psnr: float | None
    ms_ssim: float
    encode_seconds: float
    decode_seconds: float
    under_load: bool
    payload_bytes: int | None = None
    table_bits: float | None = None


@dataclass(frozen=True)
class Mean:
    """All pictures of one codec at one quality.

    bpp, psnr (dB), ms_ssim and times (seconds): means over pictures, each with equal weight.
    psnr_of_mean_mse: dB, of the mean MSE; never to be mixed with psnr. ms_ssim_db: -10 log10 of
    one minus the mean. None: infinite. entropy_overhead: payload over what its tables charge,
    less one; Softstair alone.
    """

    codec: str
    quality: float
    pictures: int
    bpp: float
    psnr: float | None
    psnr_of_mean_mse: float | None
    ms_ssim: float
    ms_ssim_db: float | None
    encode_seconds: float
    decode_seconds: float
    under_load: bool
    entropy_overhead: float | None = None


@dataclass(frozen=True)
class CodecUsed:
    """A codec of the run; bundle and fingerprint are Softstair's."""

    name: str
    settings: str
    version: str
    bundle: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Machine:
    """Where a run took place. load: one-minute load average at its start, other programs' too."""

    machine: str
    processor: str
    cores: int
    python: str
    numpy: str
    onnxruntime: str
    load: float | None


@dataclass(frozen=True)
class Results:
    """All that a run found. rows and means: by codec, quality and picture, in the run's order.

    data_hash: ``hash_pixels`` of the data set. reused_rows: how many rows come from an earlier run,
    perhaps on another machine, which matters to times alone.
    """

    schema: int
    data_set: str
    data_hash: str
    pictures: int
    machine: Machine
    softstair: str
    jobs: int
    reused_rows: int
    codecs: tuple[CodecUsed, ...]
    means: tuple[Mean, ...]
    rows: tuple[Row, ...]


def average(rows: Iterable[Row]) -> tuple[Mean, ...]:
    """Means by codec and quality, in the order in which rows come."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.codec, row.quality), []).append(row)
    return tuple(_average_group(group) for group in groups.values())


def describe_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(
        platform.machine(),
        _processor(),
        usable_cores(),
        platform.python_version(),
        np.__version__,
        version_of("onnxruntime"),
        round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


def write_results(results: Results, path: Path) -> None:
    """Write the JSON file, whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def read_results(path: Path) -> Results:
    """Read a file that ``write_results`` wrote.

    Raises:
        UsageError: it cannot be read, or is of another schema.
    """
    try:
        results = msgspec.json.decode(path.read_bytes(), type=Results)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} does not hold results of an evaluation: {error}.") from error
    if results.schema != SCHEMA:
        raise UsageError(f"{path} has schema {results.schema}, this release reads {SCHEMA}; evaluate again.")
    return results


def finite(value: float) -> float | None:
    """A value as JSON can hold it: None for infinity."""
    return float(value) if np.isfinite(value) else None


def _average_group(rows: list[Row]) -> Mean:
    similarity = float(np.mean([row.ms_ssim for row in rows]))
    exact = any(row.psnr is None for row in rows)
    payload = sum(row.payload_bytes or 0 for row in rows) * 8
    charged = sum(row.table_bits or 0.0 for row in rows)
    return Mean(
        codec=rows[0].codec,
        quality=rows[0].quality,
        pictures=len(rows),
        bpp=float(np.mean([row.bpp for row in rows])),
        psnr=None if exact else float(np.mean([row.psnr for row in rows])),
        psnr_of_mean_mse=finite(psnr_of(float(np.mean([row.mse for row in rows])))),
        ms_ssim=similarity,
        ms_ssim_db=float(-10 * np.log10(1 - similarity)) if similarity < 1 else None,
        encode_seconds=float(np.mean([row.encode_seconds for row in rows])),
        decode_seconds=float(np.mean([row.decode_seconds for row in rows])),
        under_load=any(row.under_load for row in rows),
        entropy_overhead=payload / charged - 1 if charged else None,
    )


def _processor() -> str:
    """The processor's name; Linux tells it in /proc/cpuinfo alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
