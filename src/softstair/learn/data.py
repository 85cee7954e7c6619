"""Training pictures: decoded once into memory, then random crops that depend on the step alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from softstair.errors import UsageError

from .constants import constant
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
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(_pixels, (data for source in sources for data in _files(source))))
    if not pictures:
        raise UsageError(f"No picture in {', '.join(map(str, sources))}; expected {sorted(_SUFFIXES)}.")
    return pictures


def with_smaller_copies(pictures: list[Pixels], seed: int, min_side: int) -> list[Pixels]:
    """Every picture, and once more at a random scale of 0.5 to 0.95 where that is large enough."""
    rng = np.random.default_rng(seed)
    scales = [rng.uniform(0.5, 0.95) for _ in pictures]

    def smaller(pixels: Pixels, scale: float) -> Pixels | None:
        height, width = (round(side * scale) for side in pixels.shape[:2])
        if min(height, width) < min_side:
            return None
        return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))

    with ThreadPoolExecutor() as pool:
        copies = list(pool.map(smaller, pictures, scales))
    return [*pictures, *(copy for copy in copies if copy is not None)]


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
        every = [*pictures, *graphics]
        self._sizes = np.array([pixels.shape[:2] for pixels in every])
        self._starts = np.cumsum([0, *self._sizes.prod(1)])
        self._pixels = torch.empty(self._starts[-1], 3, dtype=torch.uint8, device=device)
        for pixels, start in zip(every, self._starts, strict=False):
            flat = torch.from_numpy(pixels).flatten(0, 1)
            self._pixels[start : start + len(flat)] = flat
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
        for picture in rng.choice(len(self._sizes), count, p=self._probability):
            height, width = self._sizes[picture]
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
        where = [(*cut[1:], self._starts[cut.picture], *self._sizes[cut.picture]) for cut in cuts]
        numbers = torch.tensor(where, dtype=torch.float64).to(self._pixels.device)
        saturation = numbers[:, 4].float()
        top, left, mirrored, transposed, _, start, height, width = numbers.long().T[..., None]
        along = torch.arange(side, device=numbers.device)
        rows = _mirrored(top + along, height)
        columns = _mirrored(left + torch.where(mirrored > 0, side - 1 - along, along), width)
        upright = rows[:, :, None] * width[..., None] + columns[:, None]
        place = start[..., None] + torch.where(transposed[..., None] > 0, upright.mT, upright)
        patches = self._pixels[place]
        if any(cut.saturation != 1 for cut in cuts):
            patches = _saturate(patches, saturation[:, None, None, None])
        return patches.permute(0, 3, 1, 2)


def _saturate(patches: Tensor, factor: Tensor) -> Tensor:
    """uint8 (..., 3) with ``factor`` times as much colour, clipped to what bytes can hold."""
    grey = (patches.float() @ constant(_GREY, patches.device))[..., None]
    return (grey + factor * (patches - grey)).round().clamp(0, 255).to(torch.uint8)


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


def _mirrored(index: Tensor, length: Tensor) -> Tensor:
    """Indices of samples; beyond the last they come back, as in a mirror."""
    index = index % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)
