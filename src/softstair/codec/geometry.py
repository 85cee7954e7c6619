"""Sizes and paddings between pixels, latents and z."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STRIDE = 16  # pixels per latent position


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


def to_planes(pixels: npt.NDArray[np.uint8], geometry: Geometry) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 to (1, 3, 16 rows, 16 columns) in [0, 1]; the border repeats."""
    down = geometry.rows * STRIDE - geometry.height
    right = geometry.columns * STRIDE - geometry.width
    if down or right:
        pixels = np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="edge")
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))[None].astype(np.float32)
    planes *= np.float32(1 / 255)
    return planes


def to_pixels(planes: npt.NDArray[np.float32], geometry: Geometry) -> npt.NDArray[np.uint8]:
    """(1, 3, 16 rows, 16 columns) about [0, 1] to (H, W, 3) uint8, cut to the picture's size."""
    cut = planes[0, :, : geometry.height, : geometry.width] * np.float32(255)
    np.rint(cut, out=cut)
    np.clip(cut, 0, 255, out=cut)
    return np.ascontiguousarray(cut.astype(np.uint8).transpose(1, 2, 0))


def to_even(latents: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(1, C, h, w) with its last row or column repeated where a side is odd."""
    down, right = latents.shape[2] % 2, latents.shape[3] % 2
    if not down and not right:
        return latents
    return np.pad(latents, ((0, 0), (0, 0), (0, down), (0, right)), mode="edge")
