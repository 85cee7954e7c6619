"""Exit codes: 0 done, 1 internal, 2 usage, 3 bad or truncated stream, 4 bundle missing or wrong,
5 limit exceeded, 6 target out of reach."""

from __future__ import annotations

from softstair.errors import (
    BundleError,
    LimitExceeded,
    SoftstairError,
    StreamError,
    TargetOutOfReach,
    UsageError,
)

_CODES: tuple[tuple[type[SoftstairError], int], ...] = (
    (LimitExceeded, 5),
    (TargetOutOfReach, 6),
    (StreamError, 3),
    (BundleError, 4),
    (UsageError, 2),
)


def exit_code(error: SoftstairError) -> int:
    """The exit code of an error; the most specific class counts."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)
