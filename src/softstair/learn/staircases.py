"""The file that the stage ``derive`` writes and ``export`` takes: staircases by rate position."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from softstair.errors import UsageError
from softstair.quantize.staircase import LEVELS_PER_STEP, Staircase, check_thresholds
from softstair.whole_file import write_whole

from .checkpoint import hash_file

KINDS = ("uniform", "dead-zone", "step", "stanh")
Kind = Literal["uniform", "dead-zone", "step", "stanh"]


class LearnedPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rate point learned, in whole numbers.

    step: how much wider steps are, 1/32 octave. levels: members 1, 2, .. of the fine grid; the even
    ones are levels, the odd ones lie midway. thresholds, z_thresholds: where the levels 1, 2, .. of y
    and z begin. All but the first are in 1/1024 step; an empty list is rounding.
    """

    step: int = 0
    levels: list[int] = []
    thresholds: list[int] = []
    z_thresholds: list[int] = []

    def __post_init__(self) -> None:
        if not -256 <= self.step <= 256:
            raise ValueError(f"a step lies within eight octaves, not at {self.step}")
        Staircase(levels=[self.levels])
        check_thresholds(self.thresholds, self.levels)
        check_thresholds(self.z_thresholds, [])

    @property
    def size(self) -> int:
        """Bytes that a bundle takes for it."""
        return len(msgspec.json.encode([self.step, self.levels, self.thresholds, self.z_thresholds]))

    def rounding(self) -> LearnedPoint:
        """Numbers as many as these that round."""
        half = LEVELS_PER_STEP // 2
        return LearnedPoint(
            0,
            [half * member for member in range(1, len(self.levels) + 1)],
            [half * (2 * k + 1) for k in range(len(self.thresholds))],
            [half * (2 * k + 1) for k in range(len(self.z_thresholds))],
        )


class Derivation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Staircases for one snapshot.

    kind: what was learned: nothing (``uniform``), the first threshold of y (``dead-zone``), one step
    (``step``), or levels and thresholds (``stanh``). snapshot: its SHA-256. points: by rate position.
    """

    version: Literal[1]
    kind: Kind
    snapshot: str
    points: dict[int, LearnedPoint]

    def __post_init__(self) -> None:
        shapes = {(len(p.levels), len(p.thresholds), len(p.z_thresholds)) for p in self.points.values()}
        if len(shapes) > 1:
            raise ValueError("every rate point needs as many levels and thresholds")

    def of(self, positions: Sequence[int]) -> list[LearnedPoint]:
        """Points at all of these rate positions; where none was derived, rounding."""
        plain = next(iter(self.points.values()), LearnedPoint()).rounding()
        return [self.points.get(position, plain) for position in positions]


def write_derivation(path: Path, derivation: Derivation) -> None:
    """Write as JSON, whole or not at all."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(derivation), indent=1) + b"\n")


def read_derivation(path: Path, snapshot: Path | None = None) -> Derivation:
    """Read and check. snapshot: what they should have been derived from.

    Raises:
        UsageError: unreadable, not such a file, or derived from another snapshot.
    """
    try:
        derivation = msgspec.json.decode(path.read_bytes(), type=Derivation)
    except OSError as error:
        raise UsageError(f"Staircases {path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise UsageError(f"Staircases {path} are not valid: {error}.") from error
    if snapshot is not None and derivation.snapshot != hash_file(snapshot):
        raise UsageError(f"Staircases {path} were derived from another snapshot, not from {snapshot}.")
    return derivation
