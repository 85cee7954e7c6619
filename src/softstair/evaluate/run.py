"""Running codecs over a data set: real bytes there, real pixels back.

Every finished picture is kept in a file of JSON lines beside the output, so that a run that was
stopped, or that is repeated with more codecs, measures only what is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import BinaryIO

import msgspec

from softstair import __version__
from softstair.codec import Encoded
from softstair.errors import SoftstairError, UsageError

from .data import DataSet, Pixels, hash_pixels, read_rgb
from .metrics import mean_squared_error, ms_ssim, psnr_of
from .own import Softstair
from .peers import Codec
from .results import (
    SCHEMA,
    CodecUsed,
    Results,
    Row,
    average,
    describe_machine,
    finite,
    write_results,
)

Progress = Callable[[int, int], None]  # rows done, rows in all
LARGEST_OVERHEAD = 0.01  # of a payload's bytes against what its tables charge
_ALARM_BYTES = 10_000  # smaller payloads may differ by more: lanes cost some bytes each


@dataclass(frozen=True)
class _Task:
    codec: Codec
    quality: float
    path: Path
    under_load: bool


class _Kept(msgspec.Struct, frozen=True):
    """A line of the cache. key: of the data set and the codec."""

    key: str
    row: Row


_Place = tuple[str, float, str]  # key, quality, picture


def evaluate(
    codecs: Sequence[Codec],
    data_set: DataSet,
    output: Path,
    *,
    jobs: int = 1,
    resume: bool = True,
    progress: Progress | None = None,
) -> Results:
    """Measure codecs on a data set and write ``output``, a JSON file.

    Args:
        codecs: with names that differ.
        data_set: pictures, each at least 161 pixels a side.
        output: the JSON file, replaced if there; finished rows lie in ``cache_beside(output)``.
        jobs: pictures at once. With more than one, times are taken under load and marked so, and
            the caller's module must be importable (processes are spawned).
        resume: reuse rows of the cache that belong to the same pixels, and to a codec of the same
            name, settings, version and bundle.
        progress: called with the number of finished rows and of all rows.

    Raises:
        UsageError: no or equally named codecs, no job, a picture that is too small, an output that
            cannot be written.
        SoftstairError: a codec returned a picture of another size; or Softstair's payload is more
            than 1 % off what its tables charge, on a payload of more than 10 kB.
    """
    names = [codec.name for codec in codecs]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"Codecs to evaluate need names that differ, not: {', '.join(names)}.")
    if jobs < 1:
        raise UsageError(f"An evaluation needs at least one job, not {jobs}.")
    machine, data_hash = describe_machine(), hash_pixels(data_set)
    cache = cache_beside(output)
    keys = {codec.name: _key(codec, data_hash) for codec in codecs}
    tasks = {
        (keys[codec.name], quality, path.name): _Task(codec, quality, path, jobs > 1)
        for codec in codecs
        for quality in codec.qualities
        for path in data_set.paths
    }
    found = _read_cache(cache) if resume else {}
    rows = {place: found[place] for place in tasks if place in found}
    reused = len(rows)
    missing = {place: task for place, task in tasks.items() if place not in rows}
    with _append_to(cache) as file:
        for place, row in _measure_all(missing, jobs):
            rows[place] = row
            file.write(msgspec.json.encode(_Kept(place[0], row)) + b"\n")
            file.flush()
            if progress is not None:
                progress(len(rows), len(tasks))
    ordered = tuple(rows[place] for place in tasks)
    results = Results(
        schema=SCHEMA,
        data_set=data_set.name,
        data_hash=data_hash,
        pictures=len(data_set.paths),
        machine=machine,
        softstair=__version__,
        jobs=jobs,
        reused_rows=reused,
        codecs=tuple(_used(codec) for codec in codecs),
        means=average(ordered),
        rows=ordered,
    )
    write_results(results, output)
    return results


def cache_beside(output: Path) -> Path:
    """Where finished rows are kept: ``results.json`` has ``results.rows.jsonl``."""
    return output.with_suffix(".rows.jsonl")


def _measure_all(tasks: dict[_Place, _Task], jobs: int) -> Iterator[tuple[_Place, Row]]:
    """Rows as they are finished."""
    if jobs == 1 or len(tasks) < 2:
        for place, task in tasks.items():
            yield place, _measure(task)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_measure, task): place for place, task in tasks.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _measure(task: _Task) -> Row:
    codec, pixels = task.codec, read_rgb(task.path)
    try:
        codec.prepare()
        start = perf_counter()
        data, counted = _encode(codec, pixels, task.quality)
        encoded = perf_counter()
        decoded = codec.decode(data)
        end = perf_counter()
        if decoded.shape != pixels.shape:
            raise SoftstairError(f"{pixels.shape} went in, {decoded.shape} came back.")
        if counted is not None:
            _check_estimate(counted)
        error, similarity = mean_squared_error(pixels, decoded), ms_ssim(pixels, decoded)
    except SoftstairError as failure:
        where = f"{task.path.name} by {codec.name} at {task.quality:g}"
        raise type(failure)(f"{where}: {failure}") from failure
    height, width, _ = pixels.shape
    return Row(
        codec=codec.name,
        quality=task.quality,
        picture=task.path.name,
        width=width,
        height=height,
        file_bytes=len(data),
        bpp=len(data) * 8 / (width * height),
        mse=error,
        psnr=finite(psnr_of(error)),
        ms_ssim=similarity,
        encode_seconds=encoded - start,
        decode_seconds=end - encoded,
        under_load=task.under_load,
        payload_bytes=None if counted is None else counted.payload_bytes,
        table_bits=None if counted is None else counted.table_bits,
    )


def _encode(codec: Codec, pixels: Pixels, quality: float) -> tuple[bytes, Encoded | None]:
    if isinstance(codec, Softstair):
        counted = codec.encode_counted(pixels, quality)
        return counted.data, counted
    return codec.encode(pixels, quality), None


def _check_estimate(encoded: Encoded) -> None:
    if encoded.payload_bytes <= _ALARM_BYTES:
        return
    estimate = encoded.table_bits / 8
    if abs(encoded.payload_bytes - estimate) > LARGEST_OVERHEAD * encoded.payload_bytes:
        raise SoftstairError(
            f"The payload has {encoded.payload_bytes} bytes and its tables charge {estimate:.0f}, "
            f"more than {LARGEST_OVERHEAD:.0%} apart; the entropy coder or the tables are at fault."
        )


def _used(codec: Codec) -> CodecUsed:
    own = codec if isinstance(codec, Softstair) else None
    return CodecUsed(
        codec.name,
        codec.settings,
        codec.version,
        own.bundle if own else None,
        own.fingerprint if own else None,
    )


def _key(codec: Codec, data_hash: str) -> str:
    """Of all that decides a row beside its quality and picture."""
    return hashlib.sha256(msgspec.json.encode((SCHEMA, data_hash, _used(codec)))).hexdigest()[:32]


def _append_to(path: Path) -> BinaryIO:
    """The cache, to be appended to; ends a line that an earlier run left unfinished."""
    try:
        file = path.open("ab")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    if file.tell():
        file.write(b"\n")
    return file


def _read_cache(path: Path) -> dict[_Place, Row]:
    """Rows of a cache file; lines that are damaged or of another make are passed over."""
    kept: dict[_Place, Row] = {}
    if not path.exists():
        return kept
    decoder = msgspec.json.Decoder(_Kept)
    for line in path.read_bytes().splitlines():
        try:
            entry = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        kept[entry.key, entry.row.quality, entry.row.picture] = entry.row
    return kept
