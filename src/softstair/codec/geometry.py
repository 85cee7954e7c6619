"""Sizes and paddings between pixels, latents and z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from softstair import _core
from softstair.quantize.grids import STRIDE as STRIDE
from softstair.tiles import Box

Mirror = Literal["reflect", "symmetric"]  # around the last position, or around its outer edge


@dataclass(frozen=True)
class Geometry:
    """A picture of width x height pixels and its latents."""

    width: int
    height: int

    @property
    def rows(self) -> int:
        return -(-self.height // STRIDE)

    @property
    def columns(self) -> int:
        return -(-self.width // STRIDE)


@dataclass(frozen=True)
class Borders:
    """On which sides a tile ends where the picture goes on."""

    top: bool = False
    left: bool = False
    bottom: bool = False
    right: bool = False

    @property
    def any(self) -> bool:
        return self.top or self.left or self.bottom or self.right

    def mirrored(self, planes: npt.NDArray[np.float32], count: int, mode: Mirror) -> npt.NDArray[np.float32]:
        """(1, C, h, w) continued by ``count`` positions on these sides."""
        sides = ((self.top, self.bottom), (self.left, self.right))
        padding = ((0, 0), (0, 0), *((count * first, count * last) for first, last in sides))
        result: npt.NDArray[np.float32] = np.pad(planes, padding, mode=mode)
        return result

    def cut(
        self, planes: npt.NDArray[np.float32], count: int, rows: int, columns: int
    ) -> npt.NDArray[np.float32]:
        """(1, C, rows, columns) of planes with a margin of ``count`` positions on these sides."""
        top, left = count * self.top, count * self.left
        return planes[:, :, top : top + rows, left : left + columns]


WHOLE_PICTURE = Borders()


def borders_of(tile: Box, picture: Box) -> Borders:
    """The borders of a tile inside its picture."""
    return Borders(
        tile.top > picture.top,
        tile.left > picture.left,
        tile.bottom < picture.bottom,
        tile.right < picture.right,
    )


def to_planes(pixels: npt.NDArray[np.uint8], geometry: Geometry) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 to (1, 3, 16 rows, 16 columns) in [0, 1]; the border repeats."""
    down = geometry.rows * STRIDE - geometry.height
    right = geometry.columns * STRIDE - geometry.width
    if down or right:
        pixels = np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="edge")
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))[None].astype(np.float32)
    planes *= np.float32(1 / 255)
    return planes


def to_pixels(
    planes: npt.NDArray[np.float32], geometry: Geometry, smoothing: int = 0
) -> npt.NDArray[np.uint8]:
    """(1, 3, 16 rows, 16 columns) about [0, 1] to (H, W, 3) uint8, cut to the picture's size.

    planes: in any order of memory.

    smoothing: the threshold of the smoothing that stops at edges, in grey levels; 0: none.
    """
    return _core.to_pixels(planes[0], geometry.height, geometry.width, smoothing)


def to_even(latents: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(1, C, h, w) with its last row or column repeated where a side is odd."""
    down, right = latents.shape[2] % 2, latents.shape[3] % 2
    if not down and not right:
        return latents
    return np.pad(latents, ((0, 0), (0, 0), (0, down), (0, right)), mode="edge")
