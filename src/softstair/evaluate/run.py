"""Running codecs over a data set: real bytes there, real pixels back.

A run that was stopped, or that is repeated with more codecs, measures only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from softstair import __version__
from softstair.codec import Encoded
from softstair.errors import SoftstairError, UsageError
from softstair.peers import Codec

from .cache import Moment, Place, Unfinished, check_nothing_is_lost, forget, key_of, read_finished
from .complexity import complexity_of
from .data import DataSet, Pixels, hash_pixels, read_rgb
from .judges import Judge
from .machine import Machine, describe_machine
from .metrics import mean_squared_error, ms_ssim, psnr_of, ssimulacra2
from .own import Softstair
from .results import SCHEMA, CodecUsed, Results, Row, Timing, average, finite, write_results
from .timing import time_codec

Progress = Callable[[int, int], None]  # measurements done, measurements in all
LARGEST_OVERHEAD = 0.01  # of a payload's bytes against what its tables charge
_ALARM_BYTES = 10_000  # smaller payloads may differ by more: lanes cost some bytes each


@dataclass(frozen=True)
class _Task:
    """A measurement. judges: to be asked. known: the row, where they are all that it lacks."""

    codec: Codec
    quality: float
    path: Path
    judges: tuple[Judge, ...]
    known: Row | None = None


@dataclass(frozen=True)
class _Plan:
    """What a run measures. keys: by codec name. tasks, moments: in the order of the results."""

    data_hash: str
    keys: dict[str, str]
    tasks: dict[Place, _Task]
    moments: tuple[Moment, ...]


def evaluate(
    codecs: Sequence[Codec],
    data_set: DataSet,
    output: Path,
    *,
    jobs: int = 1,
    timings: int = 0,
    resume: bool = True,
    judges: Sequence[Judge] = (),
    progress: Progress | None = None,
) -> Results:
    """Measure codecs on a data set and write ``output``, a JSON file.

    Args:
        codecs: with names that differ.
        data_set: pictures, each at least 161 pixels a side.
        output: the JSON file. What it holds of the same pixels, and of codecs of the same name,
            settings, version and bundle, is not measured again.
        jobs: pictures at once; with more than one the caller's module must be importable
            (processes are spawned).
        timings: how many pictures, the first of the data set, are timed by codec and quality,
            after all rows, one at a time. 0 keeps the times that ``output`` has.
        resume: False forgets ``output`` and what an unfinished run left.
        judges: to be asked beside the metrics that every row has. A row that lacks some of them
            alone is coded again, and keeps its metrics if the file and the pixels are the same.
        progress: called with the number of finished measurements and of all.

    Raises:
        UsageError: no or equally named codecs, no job, a negative number of timings, a picture that
            is too small, an output that cannot be written, that holds something else, or that
            holds rows of codecs or qualities that this run leaves out.
        SoftstairError: a codec returned a picture of another size; or Softstair's payload is more
            than 1 % off what its tables charge, on a payload of more than 10 kB.
    """
    names = [codec.name for codec in codecs]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"Codecs to evaluate need different names, not {', '.join(names)}.")
    for name, value, least in (("jobs", jobs, 1), ("timings", timings, 0)):
        if value < least:
            raise UsageError(f"{name} must be {least} or more, not {value}.")
    plan = _plan(codecs, data_set, tuple(judges))
    machine = describe_machine()
    if not resume:
        forget(output)
    finished = read_finished(output, data_set.name, machine)
    check_nothing_is_lost(finished, plan.keys, plan.tasks)
    known = {place: finished.rows[place] for place in plan.tasks if place in finished.rows}
    rows = {place: row for place, row in known.items() if not _unasked(row, judges)}
    reused = len(rows)
    timed = data_set.paths[:timings]
    times = finished.times_for(plan.moments, len(timed))
    total = len(plan.tasks) + (len(plan.moments) if timed else 0)

    def step() -> None:
        if progress is not None:
            progress(len(rows) + (len(times) if timed else 0), total)

    with Unfinished(output) as unfinished:
        missing = {
            place: replace(task, known=known.get(place))
            for place, task in plan.tasks.items()
            if place not in rows
        }
        for place, row in _measure_all(missing, jobs):
            rows[place] = row
            unfinished.add(place[0], row)
            step()
        if timed:
            for moment, timing in _time_all(codecs, plan.keys, timed, set(times)):
                times[moment] = timing
                unfinished.add(moment[0], timing=timing)
                step()
    results = _results(codecs, data_set, plan, rows, times, machine, jobs, reused)
    write_results(results, output)
    unfinished.delete()
    return results


def _plan(codecs: Sequence[Codec], data_set: DataSet, judges: tuple[Judge, ...]) -> _Plan:
    data_hash = hash_pixels(data_set)
    keys = {codec.name: key_of(_used(codec), data_hash) for codec in codecs}
    tasks = {
        (keys[codec.name], quality, path.name): _Task(codec, quality, path, judges)
        for codec in codecs
        for quality in codec.qualities
        for path in data_set.paths
    }
    moments = tuple((keys[codec.name], quality) for codec in codecs for quality in codec.qualities)
    return _Plan(data_hash, keys, tasks, moments)


def _results(
    codecs: Sequence[Codec],
    data_set: DataSet,
    plan: _Plan,
    rows: dict[Place, Row],
    times: dict[Moment, Timing],
    machine: Machine,
    jobs: int,
    reused: int,
) -> Results:
    ordered = tuple(rows[place] for place in plan.tasks)
    return Results(
        schema=SCHEMA,
        data_set=data_set.name,
        data_hash=plan.data_hash,
        pictures=len(data_set.paths),
        machine=machine,
        softstair=__version__,
        jobs=jobs,
        reused_rows=reused,
        codecs=tuple(_used(codec) for codec in codecs),
        complexity=tuple(
            complexity_of(codec.open(), codec.name) for codec in codecs if isinstance(codec, Softstair)
        ),
        timings=tuple(times[moment] for moment in plan.moments if moment in times),
        means=average(ordered),
        rows=ordered,
    )


def _time_all(
    codecs: Sequence[Codec], keys: dict[str, str], paths: Sequence[Path], done: set[Moment]
) -> Iterator[tuple[Moment, Timing]]:
    """Times that are not done yet, codec by codec."""
    pictures = [read_rgb(path) for path in paths]
    for codec in codecs:
        key = keys[codec.name]
        missing = [quality for quality in codec.qualities if (key, quality) not in done]
        for timing in time_codec(codec, missing, pictures):
            yield (key, timing.quality), timing


def _measure_all(tasks: dict[Place, _Task], jobs: int) -> Iterator[tuple[Place, Row]]:
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


def _unasked(row: Row, judges: Sequence[Judge]) -> tuple[Judge, ...]:
    """The judges that have not seen a row."""
    return tuple(judge for judge in judges if getattr(row, judge.field) is None)


def _measure(task: _Task) -> Row:
    codec, pixels = task.codec, read_rgb(task.path)
    try:
        data, counted = _encode(codec, pixels, task.quality)
        decoded = codec.decode(data)
        if decoded.shape != pixels.shape:
            raise SoftstairError(f"{pixels.shape} went in, {decoded.shape} came back.")
        if counted is not None:
            _check_estimate(counted)
        row = _with_metrics(task, len(data), counted, pixels, decoded)
        for judge in _unasked(row, task.judges):
            row = replace(row, **judge.judge(pixels, decoded, codec.cells))
    except SoftstairError as failure:
        where = f"{task.path.name} by {codec.name} at {task.quality:g}"
        raise type(failure)(f"{where}: {failure}") from failure
    return row


def _with_metrics(
    task: _Task, file_bytes: int, counted: Encoded | None, pixels: Pixels, decoded: Pixels
) -> Row:
    """A row without judges, or the known one if the same has come out again."""
    error = mean_squared_error(pixels, decoded)
    mse = round(error, 6)
    if task.known is not None and (task.known.file_bytes, task.known.mse) == (file_bytes, mse):
        return task.known
    height, width, _ = pixels.shape
    ratio = finite(psnr_of(error))
    return Row(
        codec=task.codec.name,
        quality=task.quality,
        picture=task.path.name,
        width=width,
        height=height,
        file_bytes=file_bytes,
        bpp=round(file_bytes * 8 / (width * height), 6),
        mse=mse,
        psnr=None if ratio is None else round(ratio, 6),
        ms_ssim=round(ms_ssim(pixels, decoded), 8),
        ssimulacra2=round(ssimulacra2(pixels, decoded), 6),
        payload_bytes=None if counted is None else counted.payload_bytes,
        table_bits=None if counted is None else round(counted.table_bits, 2),
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
        own.mode if own else None,
    )
