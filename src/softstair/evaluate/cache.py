"""Finished measurements: those of an earlier run, in its output, and those of an unfinished run.

The output is its own cache. While a run is at work its rows go, line by line, to a file beside
the output; it is deleted when the output is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from softstair.errors import UsageError

from .machine import Machine
from .results import SCHEMA, CodecUsed, Row, Timing, read_results

Place = tuple[str, float, str]  # key, quality, picture
Moment = tuple[str, float]  # key, quality


@dataclass(frozen=True)
class Finished:
    """What need not be measured again, by key (``key_of``).

    timings: of the earlier and of the unfinished run; fresh_timings: of the latter alone.
    """

    rows: dict[Place, Row]
    timings: dict[Moment, Timing]
    fresh_timings: dict[Moment, Timing]

    def times_for(self, moments: Iterable[Moment], pictures: int) -> dict[Moment, Timing]:
        """Times that a run over a number of pictures need not take; over none, it takes no others."""
        if pictures == 0:
            return {moment: self.timings[moment] for moment in moments if moment in self.timings}
        return {
            moment: timing
            for moment in moments
            if (timing := self.fresh_timings.get(moment)) is not None and timing.pictures == pictures
        }


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the file beside the output; it holds one of the two."""

    key: str
    row: Row | None = None
    timing: Timing | None = None


def key_of(used: CodecUsed, data_hash: str) -> str:
    """Of all that decides a row beside its quality and picture."""
    return hashlib.sha256(msgspec.json.encode((SCHEMA, data_hash, used))).hexdigest()[:32]


def unfinished_beside(output: Path) -> Path:
    """Where rows are kept while a run is at work: ``results.json`` has ``results.rows.jsonl``."""
    return output.with_suffix(".rows.jsonl")


def forget(output: Path) -> None:
    """Delete an output and what an unfinished run left beside it."""
    output.unlink(missing_ok=True)
    unfinished_beside(output).unlink(missing_ok=True)


def read_finished(output: Path, data_set: str, machine: Machine) -> Finished:
    """All that earlier runs with this output have measured.

    Times of another machine are left out.

    Raises:
        UsageError: the output is there and does not hold results of this data set.
    """
    rows: dict[Place, Row] = {}
    timings: dict[Moment, Timing] = {}
    if output.exists():
        try:
            earlier = read_results(output)
        except UsageError as error:
            raise UsageError(f"{error} Pass --fresh to replace it, or name another output.") from error
        if earlier.data_set != data_set:
            raise UsageError(
                f"{output} holds results of {earlier.data_set}, not of {data_set}; name another output, "
                "or pass --fresh to replace it."
            )
        keys = {used.name: key_of(used, earlier.data_hash) for used in earlier.codecs}
        rows = {(keys[row.codec], row.quality, row.picture): row for row in earlier.rows}
        if machine.computes_like(earlier.machine):
            timings = {(keys[timing.codec], timing.quality): timing for timing in earlier.timings}
    fresh: dict[Moment, Timing] = {}
    for line in _lines(unfinished_beside(output)):
        if line.row is not None:
            rows[line.key, line.row.quality, line.row.picture] = line.row
        if line.timing is not None:
            fresh[line.key, line.timing.quality] = line.timing
    return Finished(rows, timings | fresh, fresh)


def check_nothing_is_lost(finished: Finished, keys: Mapping[str, str], wanted: Collection[Place]) -> None:
    """Refuse a run whose output would leave out rows that are still good.

    Args:
        keys: of the run, by codec name; rows of other versions of these codecs may go.
        wanted: the places that the run fills.

    Raises:
        UsageError: such rows exist.
    """
    lost = {
        f"{row.codec} at {row.quality:g}"
        for place, row in finished.rows.items()
        if place not in wanted and place[0] == keys.get(row.codec, place[0])
    }
    if lost:
        some = ", ".join(sorted(lost)[:3]) + (", ..." if len(lost) > 3 else "")
        raise UsageError(
            f"The output holds rows that this run would drop ({some}); ask for them too, name another "
            "output, or pass --fresh to measure without them."
        )


class Unfinished:
    """The file beside an output, to be written to while a run is at work."""

    def __init__(self, output: Path) -> None:
        """Open the file and add to what it holds.

        Raises:
            UsageError: it cannot be written.
        """
        self._path = unfinished_beside(output)
        try:
            self._file: BinaryIO = self._path.open("ab")
        except OSError as error:
            raise UsageError(f"{self._path} cannot be written: {error.strerror}.") from error
        if self._file.tell():
            self._file.write(b"\n")  # an earlier run may have left its last line unfinished

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, key: str, row: Row | None = None, timing: Timing | None = None) -> None:
        """Keep a row or a timing; it is on its way to the disk when this returns."""
        self._file.write(msgspec.json.encode(_Line(key, row, timing)) + b"\n")
        self._file.flush()

    def delete(self) -> None:
        """Delete the closed file: all of it has gone into the output."""
        self._path.unlink(missing_ok=True)


def _lines(path: Path) -> list[_Line]:
    """Lines of a file; those that are damaged or of another make are passed over."""
    lines: list[_Line] = []
    if not path.exists():
        return lines
    decoder = msgspec.json.Decoder(_Line)
    for line in path.read_bytes().splitlines():
        try:
            lines.append(decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return lines
