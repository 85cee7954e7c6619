"""Training pictures: decoded once into memory, then random crops that depend on the step alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from softstair.errors import UsageError

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


def load_pictures(sources: list[Path]) -> list[Pixels]:
    """Decode every picture of folders and tar packs, in the order of their names.

    Raises:
        UsageError: a source does not exist, or none of them holds a picture.
    """
    pictures = [_pixels(data) for source in sources for data in _files(source)]
    if not pictures:
        raise UsageError(f"No picture in {', '.join(map(str, sources))}; expected {sorted(_SUFFIXES)}.")
    return pictures


def with_smaller_copies(pictures: list[Pixels], seed: int, min_side: int) -> list[Pixels]:
    """Every picture, and once more at a random scale of 0.5 to 0.95 where that is large enough."""
    rng = np.random.default_rng(seed)
    result = list(pictures)
    for pixels in pictures:
        scale = rng.uniform(0.5, 0.95)
        height, width = (round(side * scale) for side in pixels.shape[:2])
        if min(height, width) >= min_side:
            smaller = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
            result.append(np.asarray(smaller))
    return result


class Crops:
    """Random square crops, flipped and transposed at random.

    A batch is a pure function of (seed, step), so a resumed run sees what an uninterrupted one
    would have seen. A picture is drawn with the square root of its area.
    """

    def __init__(self, pictures: list[Pixels], seed: int) -> None:
        self._pictures = pictures
        self._seed = seed
        weight = np.array([p.shape[0] * p.shape[1] for p in pictures]) ** 0.5
        self._probability = weight / weight.sum()

    def batch(self, step: int, count: int, side: int) -> Pixels:
        """uint8, shape (count, 3, side, side). Pictures smaller than ``side`` are mirrored."""
        rng = np.random.default_rng([self._seed, step])
        crops = np.empty((count, 3, side, side), np.uint8)
        chosen = rng.choice(len(self._pictures), count, p=self._probability)
        for crop, index in zip(crops, chosen, strict=True):
            pixels = _at_least(self._pictures[index], side)
            top = rng.integers(0, pixels.shape[0] - side + 1)
            left = rng.integers(0, pixels.shape[1] - side + 1)
            patch = pixels[top : top + side, left : left + side]
            if rng.random() < 0.5:
                patch = patch[:, ::-1]
            if rng.random() < 0.5:
                patch = patch.transpose(1, 0, 2)
            crop[:] = patch.transpose(2, 0, 1)
        return crops


def _files(source: Path) -> Iterator[bytes]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in _SUFFIXES:
                yield path.read_bytes()
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source) as pack:
            for member in pack:
                if member.isfile() and Path(member.name).suffix.lower() in _SUFFIXES:
                    content = pack.extractfile(member)
                    assert content is not None  # isfile() was true
                    yield content.read()
    else:
        raise UsageError(f"Training data {source} is neither a folder nor a tar pack.")


def _pixels(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _at_least(pixels: Pixels, side: int) -> Pixels:
    short = [max(0, side - length) for length in pixels.shape[:2]]
    if not any(short):
        return pixels
    return np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
