"""Data sets: folders of pictures, named so that results can be compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from softstair.errors import UnreadablePicture, UsageError
from softstair.pictures import read_picture

Pixels = npt.NDArray[np.uint8]  # (H, W, 3), RGB

NAMES = ("kodak", "photos768", "large1200")
_SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm"}


@dataclass(frozen=True)
class DataSet:
    """Pictures to measure on. paths: sorted; their file names are all different."""

    name: str
    paths: tuple[Path, ...]


def find_data_set(source: str | Path, root: Path | None = None) -> DataSet:
    """A data set by its name under ``root`` (one of ``NAMES``), or any folder of pictures.

    Args:
        source: a name or a folder. A name is looked for under ``root`` first.
        root: the folder that holds the named data sets.

    Raises:
        UsageError: no such folder, or no pictures directly in it.
    """
    named = root / source if root is not None and str(source) in NAMES else None
    folder = named if named is not None and named.is_dir() else Path(source)
    if not folder.is_dir():
        places = f" under {root}" if root is not None else " without a data root"
        raise UsageError(
            f"{source} is neither a folder nor one of {', '.join(NAMES)}{places}; name a folder."
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise UsageError(f"Folder {folder} holds no pictures ({', '.join(sorted(_SUFFIXES))}).")
    return DataSet(folder.resolve().name, tuple(paths))


def read_rgb(path: Path) -> Pixels:
    """Pixels of a picture file, uint8 (H, W, 3); transparency is left away.

    Raises:
        UnreadablePicture: not a picture, damaged, or not readable at all.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadablePicture(f"{path} cannot be read: {error.strerror}.") from error
    return read_picture(data, str(path)).rgb


def hash_pixels(data_set: DataSet) -> str:
    """SHA-256, hex, over file names, sizes and RGB bytes: equal hashes, equal measurements.

    Raises:
        UnreadablePicture: one of the files is not a picture.
    """
    digest = hashlib.sha256()
    for path in data_set.paths:
        pixels = read_rgb(path)
        height, width, _ = pixels.shape
        digest.update(f"{path.name}\0{width}x{height}\0".encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()
