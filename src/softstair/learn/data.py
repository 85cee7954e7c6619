"""Training pictures: decoded once into memory, then random crops that depend on the step alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from softstair.errors import UsageError

from .recipe import Data

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
_SATURATION = 2.5  # the most that differences from grey are multiplied by
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG
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
            result.append(np.array(smaller))
    return result


def training_crops(
    data: Data,
    root: Path,
    seed: int,
    min_side: int,
    *,
    offset: int = 0,
    saturated: float = 0.0,
    device: torch.device | None = None,
) -> Crops:
    """The crops of a stage: of all training pictures and their smaller copies, and of graphics.

    offset: added to the seed of the crops, not to that of the copies, so that stages see other crops.

    Raises:
        UsageError: a source does not exist, or none of them holds a picture.
    """
    photographs = with_smaller_copies(load_pictures([root / name for name in data.train]), seed, min_side)
    graphics = load_pictures([root / name for name in data.graphics]) if data.graphics else []
    share = data.graphics_share if graphics else 0.0
    return Crops(photographs, seed + offset, device, saturated, graphics, share)


class Cut(NamedTuple):
    """A square of a picture: its number, its upper left corner, and what is done with it.

    saturation: factor of differences from grey, 1 in a crop that stays as it is.
    """

    picture: int
    top: int
    left: int
    mirrored: bool
    transposed: bool
    saturation: float


class Crops:
    """Random square crops, flipped and transposed at random, a share ``saturated`` of them in
    stronger colours, a share ``graphics_share`` of them cut from ``graphics``.

    A batch is a pure function of (seed, step), so a resumed run sees what an uninterrupted one
    would have seen. A picture is drawn with the square root of its area. Pictures stay on the
    ``device``, by default in memory, as bytes, and crops are gathered there: nothing large travels.
    """

    def __init__(
        self,
        pictures: list[Pixels],
        seed: int,
        device: torch.device | None = None,
        saturated: float = 0.0,
        graphics: Sequence[Pixels] = (),
        graphics_share: float = 0.0,
    ) -> None:
        self._pictures = [torch.from_numpy(pixels).to(device) for pixels in [*pictures, *graphics]]
        self._seed = seed
        self._saturated = saturated
        groups = [(pictures, 1 - graphics_share), (graphics, graphics_share)]
        self._probability = np.concatenate([share * _weights(group) for group, share in groups if group])

    def batch(self, step: int, count: int, side: int) -> Pixels:
        """The crops of a step, uint8, shape (count, 3, side, side), in memory."""
        pixels: Pixels = self.gather(self.cuts(step, count, side), side).cpu().numpy()
        return pixels

    def cuts(self, step: int, count: int, side: int) -> list[Cut]:
        """Where the crops of a step lie."""
        rng = np.random.default_rng([self._seed, step])
        cuts = []
        for picture in rng.choice(len(self._pictures), count, p=self._probability):
            height, width = self._pictures[picture].shape[:2]
            top = rng.integers(0, max(height - side, 0) + 1)
            left = rng.integers(0, max(width - side, 0) + 1)
            mirrored, transposed = rng.random() < 0.5, rng.random() < 0.5
            cuts.append(Cut(picture, top, left, mirrored, transposed, self._saturation(rng)))
        return cuts

    def _saturation(self, rng: np.random.Generator) -> float:
        if not self._saturated or rng.random() >= self._saturated:
            return 1.0
        return float(_SATURATION ** rng.random())

    def gather(self, cuts: list[Cut], side: int) -> Tensor:
        """Crops on the device, uint8, shape (len(cuts), 3, side, side).

        Pictures smaller than ``side`` go on as in a mirror.
        """
        return torch.stack([self._cut(cut, side) for cut in cuts])

    def _cut(self, cut: Cut, side: int) -> Tensor:
        pixels = self._pictures[cut.picture]
        rows = _span(cut.top, side, pixels.shape[0], pixels.device)
        columns = _span(cut.left, side, pixels.shape[1], pixels.device)
        if cut.mirrored:
            columns = columns.flip(0)
        patch = pixels[rows[:, None], columns]
        if cut.saturation != 1:
            patch = _saturate(patch, cut.saturation)
        return patch.permute((2, 1, 0) if cut.transposed else (2, 0, 1))


def _saturate(patch: Tensor, factor: float) -> Tensor:
    """uint8 (H, W, 3) with ``factor`` times as much colour, clipped to what bytes can hold."""
    grey = (patch.float() @ torch.tensor(_GREY, device=patch.device))[..., None]
    return (grey + factor * (patch - grey)).round().clamp(0, 255).to(torch.uint8)


def _weights(pictures: Sequence[Pixels]) -> npt.NDArray[np.float64]:
    """How likely each picture is drawn."""
    weight = np.array([pixels.shape[0] * pixels.shape[1] for pixels in pictures]) ** 0.5
    probability: npt.NDArray[np.float64] = weight / weight.sum()
    return probability


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
        raise UsageError(f"Training data {source} is neither a folder nor a tar file.")


def _pixels(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(picture.convert("RGB"))  # a copy, which torch may share


def _span(start: int, side: int, length: int, device: torch.device) -> Tensor:
    """``side`` indices from ``start`` on; beyond the last they come back, mirrored."""
    index = torch.arange(start, start + side, device=device) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)
