"""Everything that can go wrong and is not a bug.

    SoftstairError
      StreamError          the .stair file
        NotAStairFile        does not start like one
        UnsupportedStream    a version or flag from the future
        TruncatedStream      ends too early
        CorruptStream        contradicts itself or fails its checksum
        LimitExceeded        larger than this decoder was told to accept
          OutOfMemory          the system has no more memory to give
        IncompleteStream     was decoded, but for what is damaged or missing
      BundleError          the model file
        BundleNotFound       no installed bundle has the fingerprint asked for
        InvalidBundle        damaged, or not a bundle
      UsageError           what was asked for cannot be done
        TargetOutOfReach     no rate position meets the target
        UnreadablePicture    not a picture that can be read
        OutputExists         would replace a file that is there already
        NoSpace              the disk is full
        TrainingDiverged     losses stayed non-finite after going back to a good state

A message names the part, what was expected and what was found, and says what to do.
PartialPicture is a warning: a decoder was allowed to fill what is damaged, and did. PictureChanged is
one, too: something of a picture is not encoded as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SoftstairError(Exception):
    """Base of all errors that Softstair raises on purpose."""


class StreamError(SoftstairError):
    """A stream cannot be read."""


class NotAStairFile(StreamError):
    """The data does not start with the magic of a .stair file."""


class UnsupportedStream(StreamError):
    """The stream has a version, flag or mode that this release does not know."""


class TruncatedStream(StreamError):
    """The stream ends before its content does."""


class CorruptStream(StreamError):
    """The stream contradicts itself or fails a checksum."""


class LimitExceeded(StreamError):
    """The stream declares more than the stated limits allow."""


class OutOfMemory(LimitExceeded):
    """The system, or a limit of it, gave no more memory."""

    def __init__(self) -> None:
        super().__init__(
            "There is not enough memory; free some, allow the process more, or pass a smaller --max-memory, "
            "so that less is done at once."
        )


class IncompleteStream(StreamError):
    """Parts of the stream were damaged or missing; the rest was decoded, as was asked for."""


class BundleError(SoftstairError):
    """A bundle cannot be used."""


class BundleNotFound(BundleError):
    """No bundle with the fingerprint asked for is installed."""


class InvalidBundle(BundleError):
    """The file is damaged or not a bundle."""


class UsageError(SoftstairError):
    """What was asked for cannot be done."""


class TargetOutOfReach(UsageError):
    """No rate position meets the target."""


class UnreadablePicture(UsageError):
    """The source is not a picture in a format that can be read."""


class OutputExists(UsageError):
    """The output is there already."""


class NoSpace(UsageError):
    """The disk is full, or the user's share of it."""


class TrainingDiverged(UsageError):
    """Losses stayed non-finite after going back to a good state."""


class PartialPicture(UserWarning):
    """A decoded picture is not complete."""


class PictureChanged(UserWarning):
    """A picture to be encoded has something that a stream does not hold as it was."""


@contextmanager
def of_file(name: str) -> Iterator[None]:
    """Errors within say which file they are of."""
    try:
        yield
    except SoftstairError as error:
        if name in str(error) or isinstance(error, OutOfMemory):
            raise
        raise type(error)(f"{name}: {error}") from error


# How libraries say that there is no memory, in errors of whatever class.
_SIGNS = (
    "bad_alloc",
    "Failed to allocate memory",
    "Cannot allocate memory",
    "cannot allocate memory",
    "failed to map segment",
    "Unable to allocate",
    "can't start new thread",
    "pthread_create",
    "Resource temporarily unavailable",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """True if an error, or one that it was raised from, says that there is no more memory."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | OutOfMemory) or any(sign in str(seen) for sign in _SIGNS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
