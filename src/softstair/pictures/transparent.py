"""Colours that nobody sees: under full transparency they are replaced by what costs few bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_HALVINGS = 3  # finer detail of the fill saves nothing: it is hidden, and the latents are coarser
_CELL = 1 << _HALVINGS
_STRIPE = 32 * _CELL  # rows at a time, so that a large picture needs little more than itself

_Pixels = npt.NDArray[np.uint8]


def fill_hidden(pixels: _Pixels, alpha: _Pixels | None) -> _Pixels:
    """Let visible colours run on, smoothly, where alpha is 0; elsewhere pixels stay as they are.

    Cut-outs often hide the whole photograph, and a hard edge to black costs bits as well. The fill
    is a pyramid: averages of what is visible, coarser and coarser until no gap is left, and back.

    Args:
        pixels: (H, W, 3) or (H, W). alpha: (H, W), or None where nothing is transparent.

    Returns:
        The same shape; ``pixels`` itself if nothing is hidden, black if nothing is visible.
    """
    if alpha is None or alpha.all():
        return pixels
    if not alpha.any():
        return np.zeros_like(pixels)
    height, width = alpha.shape
    stripes = [slice(top, min(top + _STRIPE, height)) for top in range(0, height, _STRIPE)]
    cells = np.concatenate([_cells(pixels[stripe], alpha[stripe]) for stripe in stripes])
    fill = _close_gaps(Image.fromarray(cells))
    filled = pixels.copy()
    for stripe in stripes:
        hidden = alpha[stripe] == 0
        box = (0, stripe.start / _CELL, width / _CELL, stripe.stop / _CELL)
        size = (width, stripe.stop - stripe.start)
        colours = np.asarray(fill.resize(size, Image.Resampling.BILINEAR, box))[..., :-1]
        filled[stripe][hidden] = colours.reshape(hidden.shape + pixels.shape[2:])[hidden]
    return filled


def _cells(pixels: _Pixels, alpha: _Pixels) -> npt.NDArray[Any]:
    """Averages over cells of what is visible, with alpha 255, or 0 for cells that show nothing."""
    visible = np.where(alpha, np.uint8(255), np.uint8(0))
    image = Image.fromarray(np.dstack([pixels, visible]))
    for _ in range(_HALVINGS):
        image = _halved(image)
    return np.asarray(image)


def _halved(image: Image.Image) -> Image.Image:
    """Half the sides; Pillow averages with alpha as weight. Alpha becomes 255 where it is not 0."""
    half = image.reduce(2)
    half.putalpha(half.getchannel("A").point([0] + [255] * 255))
    return half


def _close_gaps(image: Image.Image) -> Image.Image:
    """Opaque cells stay; gaps take the colours of the next coarser image."""
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image
    coarser = _close_gaps(_halved(image)).resize(image.size, Image.Resampling.BILINEAR)
    return Image.composite(image, coarser, alpha)
