"""Pictures for a report page: each through every codec of the results, at rates that match."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from softstair.errors import BundleError, SoftstairError, UsageError
from softstair.peers import Codec, find_peers

from .data import DataSet, Pixels, find_data_set, hash_pixels, read_rgb
from .metrics import mean_squared_error, psnr_of
from .own import softstair_codec
from .results import CodecUsed, Results, Row, finite

Progress = Callable[[int, int], None]  # pictures through a codec: done, in all
ORIGINAL = "original"
_TARGET_BPP = 0.3  # of the codec that sets the size


@dataclass(frozen=True)
class View:
    """A picture as a codec brings it back. quality: None for the original.

    bpp: of the whole file. psnr: dB, None where equal. webp: its pixels as a lossless WebP,
    base64. measured_bytes: what the results say of the file, which another version of a library
    may miss.
    """

    codec: str
    quality: float | None
    file_bytes: int
    measured_bytes: int
    bpp: float
    psnr: float | None
    webp: str


@dataclass(frozen=True)
class ShownPicture:
    """A picture with its views, the original first. width, height: pixels."""

    picture: str
    width: int
    height: int
    views: tuple[View, ...]


@dataclass(frozen=True)
class Shown:
    """All that the viewer holds. notes: sentences on what it shows, or why it shows nothing."""

    pictures: tuple[ShownPicture, ...]
    notes: tuple[str, ...]


def show_pictures(results: Results, root: Path | None, count: int, progress: Progress | None = None) -> Shown:
    """Code some pictures of the results' data set again, each codec at a size near to one target.

    The target is the file of the first codec with a bundle (else of the first codec) whose rate is
    nearest to 0.3 bpp; of every other codec the measured quality nearest in bytes is taken.

    Args:
        root: the folder that holds the data set's, or the data set's itself; None to show nothing.
        count: pictures, chosen evenly from the data set; more than it has are all.
        progress: called with the number of pictures through a codec, done and in all.

    Raises:
        SoftstairError: a codec failed.
    """
    if root is None or count == 0:
        return Shown((), ("This page shows no pictures; write it with --data-root to see some.",))
    try:
        data_set = _find(results, root)
    except UsageError as error:
        return Shown((), (f"This page shows no pictures: {error}",))
    codecs, notes = _codecs(results.codecs)
    chosen = _evenly(data_set.paths, count)
    total = len(chosen) * len(codecs)
    shown: list[ShownPicture] = []
    for path in chosen:
        pixels = read_rgb(path)
        height, width, _ = pixels.shape
        views = [_original(pixels)]
        for row in _matched(results, path.name, list(codecs)):
            views.append(_view(codecs[row.codec], row, pixels))
            if progress is not None:
                progress(len(shown) * len(codecs) + len(views) - 1, total)
        shown.append(ShownPicture(path.name, width, height, tuple(views)))
    return Shown(tuple(shown), (_explain(shown, len(data_set.paths)), *notes, *_differences(shown)))


def _find(results: Results, root: Path) -> DataSet:
    name = Path(results.data_set).name
    data_set = find_data_set(root / name if (root / name).is_dir() else root)
    if hash_pixels(data_set) != results.data_hash:
        raise UsageError(f"the pictures in {data_set.paths[0].parent} are not those that were measured.")
    return data_set


def _codecs(used: Sequence[CodecUsed]) -> tuple[dict[str, Codec], list[str]]:
    """Codecs by name, and a sentence for each that is not installed here."""
    found: dict[str, Codec] = {}
    notes = []
    for one in used:
        try:
            found[one.name] = _codec(one)
        except SoftstairError as error:
            notes.append(f"{one.name} is not shown: {error}")
    return found, notes


def _codec(used: CodecUsed) -> Codec:
    if used.bundle is None:
        return find_peers([used.name])[0]
    codec = softstair_codec(used.bundle, mode=used.mode)
    if codec.fingerprint != used.fingerprint:
        raise BundleError(f"bundle {used.bundle} is {codec.fingerprint} here, not {used.fingerprint}.")
    return codec


def _evenly(paths: Sequence[Path], count: int) -> list[Path]:
    wanted = min(count, len(paths))
    return [paths[(2 * at + 1) * len(paths) // (2 * wanted)] for at in range(wanted)]


def _matched(results: Results, picture: str, names: Sequence[str]) -> list[Row]:
    """A row of every codec, in the order of names, with files of like size."""
    rows = [row for row in results.rows if row.picture == picture and row.codec in names]
    if not rows:
        return []
    own = {codec.name for codec in results.codecs if codec.bundle is not None}
    leader = next((row.codec for row in rows if row.codec in own), rows[0].codec)
    target = min(
        (row for row in rows if row.codec == leader), key=lambda row: abs(row.bpp - _TARGET_BPP)
    ).file_bytes

    def distance(row: Row) -> float:
        return abs(math.log(row.file_bytes / target))

    by_codec = [[row for row in rows if row.codec == name] for name in names]
    return [min(group, key=distance) for group in by_codec if group]


def _view(codec: Codec, row: Row, pixels: Pixels) -> View:
    data = codec.encode(pixels, row.quality)
    decoded = codec.decode(data)
    return View(
        codec=row.codec,
        quality=row.quality,
        file_bytes=len(data),
        measured_bytes=row.file_bytes,
        bpp=8 * len(data) / (row.width * row.height),
        psnr=finite(psnr_of(mean_squared_error(pixels, decoded))),
        webp=webp_url(decoded),
    )


def _original(pixels: Pixels) -> View:
    return View(ORIGINAL, None, pixels.size, pixels.size, 24.0, None, webp_url(pixels))


def webp_url(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=50, method=3)
    return base64.b64encode(buffer.getvalue()).decode()


def _explain(shown: Sequence[ShownPicture], total: int) -> str:
    which = "All" if len(shown) == total else f"{len(shown)} of {total}"
    size = sum(len(view.webp) for picture in shown for view in picture.views) / 1e6
    return (
        f"{which} pictures, coded again for this page: Softstair at the measured rate nearest to "
        f"{_TARGET_BPP} bpp, the others at the measured quality nearest to it in bytes. Their pixels are "
        f"kept without loss and take {size:.1f} MB of this file."
    )


def _differences(shown: Sequence[ShownPicture]) -> list[str]:
    other = {
        view.codec for picture in shown for view in picture.views if view.file_bytes != view.measured_bytes
    }
    if not other:
        return []
    return [
        f"Files of {', '.join(sorted(other))} differ in size from those measured; the version may differ."
    ]
