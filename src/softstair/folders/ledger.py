"""What an outputs' folder knows of its files, so that finished work is not done again.

Before an output takes its name, a line says: an output of these bytes is what these settings make
of that source. The line is true whenever it is read, whatever happened in between; it says nothing
of a file that is older, cut short or changed since. An output of no bytes stands for a source that
was kept instead. Each process appends to a file of its own, so
that several, on several machines too, can work on one folder.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path
from secrets import token_hex
from threading import Lock

import msgspec

from softstair.files import cannot_write, read_regular

FOLDER = ".softstair"


class State(Enum):
    """An output before the work begins."""

    MISSING = auto()
    FINISHED = auto()  # made of this source with these settings
    STALE = auto()  # made with these settings, of what the source was before
    FOREIGN = auto()  # made with other settings, by someone else, or changed since


class Record(msgspec.Struct, frozen=True):
    """Digests of a source, of all settings that decide an output, and of that output."""

    target: str
    source: str
    settings: str
    output: str


class Ledger:
    """The records of an outputs' folder. Any number of threads may call."""

    def __init__(self, folder: Path) -> None:
        self._outputs, self._folder = folder, folder / FOLDER
        self._own = self._folder / f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}.jsonl"
        self._lock = Lock()
        self._records: dict[str, frozenset[Record]] = defaultdict(frozenset)
        self._sizes: dict[Path, int] = {}  # of the files that were read
        self._read_news()

    def state(self, target: str, source: bytes, settings: bytes) -> State:
        """Whether an output must be made. source: its bytes. settings: as for ``note``."""
        try:
            output = digest(read_regular(Path(target)))
        except FileNotFoundError:
            return State.MISSING
        except OSError:
            return State.FOREIGN
        if not self._sources(target, settings, output):
            self._read_news()  # another process may just have made it
        sources = self._sources(target, settings, output)
        if digest(source) in sources:
            return State.FINISHED
        return State.STALE if sources else State.FOREIGN

    def was_kept(self, target: str, source: bytes, settings: bytes) -> bool:
        """True if it was noted that with these settings there is to be no output of a source."""
        return digest(source) in self._sources(target, settings, digest(b""))

    def note(self, target: str, source: bytes, settings: bytes, output: bytes) -> None:
        """Say what an output will be, before it is written.

        Raises:
            NoSpace: the disk is full.
            UsageError: the ledger cannot be written.
        """
        record = Record(self._name(target), digest(source), digest(settings), digest(output))
        try:
            with self._lock:
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._own.open("ab") as file:
                    file.write(msgspec.json.encode(record) + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(str(self._own), error) from error

    def _sources(self, target: str, settings: bytes, output: str) -> set[str]:
        """Digests of all sources that settings make an output of."""
        records, wanted = self._records.get(self._name(target), frozenset()), digest(settings)
        return {r.source for r in records if (r.settings, r.output) == (wanted, output)}

    def _read_news(self) -> None:
        with self._lock:
            for path in sorted(self._folder.glob("*.jsonl")):
                # What is someone else's alone, or no file, says nothing.
                with suppress(OSError):
                    size = path.stat().st_size
                    if size != self._sizes.get(path):
                        self._sizes[path] = size
                        for record in _parse(read_regular(path)):
                            self._records[record.target] |= {record}

    def _name(self, target: str) -> str:
        name = Path(target).relative_to(self._outputs).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError:  # not UTF-8: as digits behind a sign that no name has
            return f"\0{os.fsencode(name).hex()}"
        return name


@lru_cache(maxsize=2)
def ledger_of(folder: str, _run: str) -> Ledger:
    """The ledger of an outputs' folder, read once a run."""
    return Ledger(Path(folder))


def digest(data: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()


def _parse(lines: bytes) -> Iterator[Record]:
    for line in lines.splitlines():
        try:
            yield msgspec.json.decode(line, type=Record)
        except msgspec.DecodeError:
            continue  # its writer was killed: the output was not written
