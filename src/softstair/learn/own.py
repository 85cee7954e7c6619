"""Pictures of a person's own, as ``adapt`` takes them from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from softstair.errors import SoftstairError
from softstair.pictures import fill_hidden, read_picture, source_suffixes

from .data import Pixels
from .run import Say

_MOST, _SIDE = 120, 1536  # pictures, and pixels of a side: 850 MB in all


def own_pictures(folder: Path, say: Say) -> list[Pixels]:
    """Pictures of a folder and its sub-folders, read as ``encode`` reads them, (H, W, 3).

    Of many some are taken, spread evenly over their names; of large ones the middle. What is hidden is not
    looked at, and what cannot be read is left out, which ``say`` hears.
    """
    paths = _paths(folder)
    found = list(_read(paths[:: -(-len(paths) // _MOST)], say)) if paths else []
    say(f"{len(found)} pictures" + (f" of {len(paths)}" if len(found) < len(paths) else ""))
    return found


def _paths(folder: Path) -> list[Path]:
    accepted = source_suffixes()
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in accepted
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _read(paths: list[Path], say: Say) -> Iterator[Pixels]:
    for path in paths:
        try:
            picture = read_picture(path.read_bytes(), str(path))
        except SoftstairError as error:
            say(f"{error} It is left out.")
        except OSError as error:
            say(f"{path} cannot be read: {error.strerror}. It is left out.")
        else:
            yield _middle(fill_hidden(picture.rgb, picture.alpha))


def _middle(pixels: Pixels) -> Pixels:
    rows, columns = (min(side, _SIDE) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
    return np.array(pixels[top : top + rows, left : left + columns])  # a copy, so that the rest is let go
