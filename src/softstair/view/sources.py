"""What is looked at: photographs and .stair files, named or dropped, within limits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from softstair.bundle import Bundle
from softstair.codec import decode_picture
from softstair.errors import LimitExceeded, UnreadablePicture, UsageError
from softstair.pictures import Picture, picture_from
from softstair.stream import MAGIC, read_header

MAX_BYTES = 100_000_000  # of a file
MAX_PIXELS = 50_000_000  # of a picture: what telephones and cameras make
# Formats that cameras and people use; some of Pillow's others run programs to be read.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "PPM")
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Files:
    """Bytes of a photograph, of a .stair file, or of a photograph and what became of it."""

    name: str
    photo: bytes | None = None
    stair: bytes | None = None


@dataclass(frozen=True)
class Named:
    """Where the files of one picture are. name: that people see."""

    name: str
    photo: Path | None = None
    stair: Path | None = None

    def read(self) -> Files:
        """Their bytes.

        Raises:
            UsageError: a file cannot be read.
            LimitExceeded: a file is too large.
        """
        return Files(self.name, _read(self.photo), _read(self.stair))


def pair_up(paths: Sequence[Path]) -> tuple[Named, ...]:
    """Pictures of paths, in order; ``a.stair`` belongs to ``a.jpg`` where both are named.

    Raises:
        UsageError: a path is not a file.
    """
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path} {'is not a file' if path.exists() else 'does not exist'}.")
    photos = [path for path in paths if not _is_stair(path)]
    named: dict[Path, Named] = {}  # by the photograph, or else by the .stair file
    for path in paths:
        if not _is_stair(path):
            named.setdefault(path, Named(path.name, photo=path))
            continue
        matches = [photo for photo in photos if photo.stem == path.stem]
        if len(matches) == 1:
            named[matches[0]] = Named(matches[0].name, photo=matches[0], stair=path)
        else:
            named[path] = Named(path.name, stair=path)
    return tuple(named.values())


def uploaded(data: bytes, name: str) -> Files:
    """What was dropped, told apart by its first bytes."""
    return Files(name, stair=data) if data.startswith(MAGIC) else Files(name, photo=data)


def open_photo(data: bytes, name: str) -> Picture:
    """The pixels of a photograph; its size is looked at before they are decoded.

    Raises:
        LimitExceeded: too many pixels.
        UnreadablePicture: not a picture, or damaged.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image.width, image.height, name)
            image.load()
            return picture_from(image)
    except UnidentifiedImageError as error:
        raise UnreadablePicture(f"{name} is not a picture in a format that can be read.") from error
    except _BOMBS as error:
        raise LimitExceeded(
            f"{name} has more than {MAX_PIXELS} pixels, the most that can be shown."
        ) from error
    except _DAMAGED as error:
        raise UnreadablePicture(f"{name} cannot be decoded: {str(error).rstrip('.')}.") from error


def open_stair(data: bytes, name: str, bundle: Bundle, threads: int) -> Picture:
    """The picture of a .stair file, by ``bundle`` if it was made with it.

    Raises:
        StreamError: it cannot be read, or has too many pixels.
        BundleError: its bundle is not installed.
    """
    header = read_header(data)
    _check_size(header.width, header.height, name)
    own = bundle if header.needs == bundle.fingerprint else None
    return decode_picture(data, own, threads=threads, max_pixels=MAX_PIXELS)


def check_bytes(count: int, name: str) -> None:
    """Refuse a file that is too large.

    Raises:
        LimitExceeded: more than ``MAX_BYTES``.
    """
    if count > MAX_BYTES:
        raise LimitExceeded(f"{name} is larger than {MAX_BYTES // 1_000_000} MB, the most that is accepted.")


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise LimitExceeded(
            f"{name} has {width}x{height} pixels, more than the {MAX_PIXELS // 1_000_000} million "
            "that are shown; scale it down or cut a part out."
        )


def _is_stair(path: Path) -> bool:
    return path.suffix.lower() == ".stair"


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        check_bytes(path.stat().st_size, path.name)
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
