"""Results of a run: what was measured, on what, and their one JSON file.

docs/evaluation.md is the schema, with units. A line of the file holds a row, so that a file in
version control shows what changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from softstair.errors import UsageError
from softstair.whole_file import write_whole

from .machine import Machine
from .metrics import psnr_of

SCHEMA = 2


@dataclass(frozen=True)
class Row:
    """One picture through one codec at one quality.

    file_bytes: of the whole file. bpp: 8 * file_bytes / pixels. mse: squared grey levels. psnr:
    dB, None where the picture came back exactly. ms_ssim: 0 to 1. ssimulacra2: its score, 100 for
    equal pictures, no lower end. payload_bytes, table_bits: Softstair's entropy-coded payload and
    what its tables alone charge for it.

    By judges, None where they were not asked: butteraugli, butteraugli_max: 3-norm and maximum of
    the distance, 0 for equal pictures. cvvdp: JOD, 10 for equal pictures. smooth, grid_across,
    grid_beside: as in ``Grid``; 0 where a codec has no lattice.
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
    ssimulacra2: float
    payload_bytes: int | None = None
    table_bits: float | None = None
    butteraugli: float | None = None
    butteraugli_max: float | None = None
    cvvdp: float | None = None
    smooth: float | None = None
    grid_across: float | None = None
    grid_beside: float | None = None


@dataclass(frozen=True)
class Mean:
    """All pictures of one codec at one quality.

    bpp, psnr (dB), ms_ssim and ssimulacra2: means over pictures, each with equal weight.
    psnr_of_mean_mse: dB, of the mean MSE; never to be mixed with psnr. ms_ssim_db: -10 log10 of
    one minus the mean. None: infinite. entropy_overhead: payload over what its tables charge,
    less one; Softstair alone.

    butteraugli, butteraugli_max, cvvdp: means over pictures, None where not all were judged. grid:
    mean step across lines over the mean step beside them, over all smooth positions of all
    pictures; None where there are none.
    """

    codec: str
    quality: float
    pictures: int
    bpp: float
    psnr: float | None
    psnr_of_mean_mse: float | None
    ms_ssim: float
    ms_ssim_db: float | None
    ssimulacra2: float
    entropy_overhead: float | None = None
    butteraugli: float | None = None
    butteraugli_max: float | None = None
    cvvdp: float | None = None
    grid: float | None = None


@dataclass(frozen=True)
class Timing:
    """How long one codec takes at one quality; one picture at a time, networks loaded.

    pictures: how many were timed. threads: that the codec was given. encode_seconds,
    decode_seconds: medians over the pictures, between pixels and a whole file in memory. load:
    one-minute load average when it began, of all programs; None where a system has none.
    """

    codec: str
    quality: float
    pictures: int
    threads: int
    encode_seconds: float
    decode_seconds: float
    load: float | None


@dataclass(frozen=True)
class Part:
    """A network of a bundle. kmac: thousands of multiply-accumulates a picture pixel, all runs."""

    name: str
    kmac: float
    parameters: int


@dataclass(frozen=True)
class Complexity:
    """What a bundle costs, counted for a picture of 768x512.

    fingerprint: hex. encoder_kmac, decoder_kmac: thousands of multiply-accumulates a picture
    pixel; both hold the networks that predict symbols. bundle_bytes: of all its entries.
    """

    codec: str
    fingerprint: str
    encoder_kmac: float
    decoder_kmac: float
    parameters: int
    bundle_bytes: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class CodecUsed:
    """A codec of the run; bundle, fingerprint (hex) and mode are Softstair's."""

    name: str
    settings: str
    version: str
    bundle: str | None = None
    fingerprint: str | None = None
    mode: str | None = None


@dataclass(frozen=True)
class Results:
    """All that a run found. rows and means: by codec, quality and picture, in the run's order.

    data_hash: ``hash_pixels`` of the data set. reused_rows: how many rows come from an earlier run.
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
    complexity: tuple[Complexity, ...]
    timings: tuple[Timing, ...]
    means: tuple[Mean, ...]
    rows: tuple[Row, ...]


def average(rows: Iterable[Row]) -> tuple[Mean, ...]:
    """Means by codec and quality, in the order in which rows come."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.codec, row.quality), []).append(row)
    return tuple(_average_group(group) for group in groups.values())


def write_results(results: Results, path: Path) -> None:
    """Write the JSON file, whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        write_whole(path, _to_json(results))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def read_results(path: Path) -> Results:
    """Read a file that ``write_results`` wrote.

    Raises:
        UsageError: it cannot be read, or is of another schema.
    """
    try:
        data = path.read_bytes()
        schema = msgspec.json.decode(data, type=_Schema).schema
        if schema != SCHEMA:
            raise UsageError(f"{path} has schema {schema}, this release reads {SCHEMA}; evaluate again.")
        return msgspec.json.decode(data, type=Results)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} does not hold results of an evaluation: {error}.") from error


class _Schema(msgspec.Struct):
    """The one field that results of every schema have."""

    schema: int


def _to_json(results: Results) -> bytes:
    fields = []
    for name, value in msgspec.to_builtins(results).items():
        text = msgspec.json.encode(value).decode()
        if isinstance(value, (list, tuple)) and value:
            text = "[\n" + ",\n".join(msgspec.json.encode(item).decode() for item in value) + "\n]"
        fields.append(f'"{name}":{text}')
    return ("{" + ",\n".join(fields) + "}\n").encode()


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
        ssimulacra2=float(np.mean([row.ssimulacra2 for row in rows])),
        entropy_overhead=payload / charged - 1 if charged else None,
        butteraugli=_mean_mark([row.butteraugli for row in rows]),
        butteraugli_max=_mean_mark([row.butteraugli_max for row in rows]),
        cvvdp=_mean_mark([row.cvvdp for row in rows]),
        grid=_mean_grid(rows),
    )


def _mean_mark(marks: list[float | None]) -> float | None:
    given = [mark for mark in marks if mark is not None]
    return float(np.mean(given)) if len(given) == len(marks) else None


def _mean_grid(rows: list[Row]) -> float | None:
    if any(row.smooth is None for row in rows):
        return None
    counts = np.array([(row.smooth or 0) * row.width * row.height for row in rows])
    across = counts @ np.array([row.grid_across or 0 for row in rows])
    beside = counts @ np.array([row.grid_beside or 0 for row in rows])
    return float(across / beside) if beside else None
