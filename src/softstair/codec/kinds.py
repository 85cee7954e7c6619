"""Which pack a picture asks for: the one that codes a few parts of it at the least cost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle, Pack, merged
from softstair.quantize.grids import STRIDE

from .encoder import Rate, choose_mode, position_of
from .forms import worth_of_a_bit
from .quality import quality_of_position
from .tile import TileCoder
from .windows import as_rgb
from .workers import networks_of, usable_cores

_EACH_WAY, _SIDE = 2, 128  # parts, and pixels of a side of each
_GAIN = 0.01  # of the cost without a pack: what it must save there to be used


def choose_pack(
    bundle: Bundle,
    packs: Iterable[Pack],
    pixels: npt.NDArray[np.uint8],
    rate: Rate,
    threads: int | None = None,
) -> Bundle:
    """The bundle as that pack changes it which suits a picture best; as it is if none does.

    Four parts of it are coded by all of them, at the rate asked for; where that is a target, at the default.

    packs: of this bundle. pixels: of the picture, (H, W, 3) or (H, W).
    """
    position = position_of(Rate() if rate.is_target else rate, bundle.last_position)
    cut = as_rgb(_parts(pixels))
    best, least = bundle, _cost(bundle, cut, position, threads) * (1 - _GAIN)
    for pack in packs:
        changed = merged(bundle, pack)
        cost = _cost(changed, cut, position, threads)
        if cost < least:
            best, least = changed, cost
    return best


def _parts(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Squares between the middle of a picture and its corners, side by side; of a small one all of it."""
    rows, columns = (_lines(length) for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[rows][:, columns])


def _lines(length: int) -> npt.NDArray[np.int64]:
    if length <= _EACH_WAY * _SIDE:
        return np.arange(length)
    # Not the corners: pages and windows are empty there.
    starts = np.linspace(0, length - _SIDE, _EACH_WAY + 2)[1:-1].astype(np.int64) // STRIDE * STRIDE
    found: npt.NDArray[np.int64] = (starts[:, None] + np.arange(_SIDE)).ravel()
    return found


def _cost(bundle: Bundle, pixels: npt.NDArray[np.uint8], position: int, threads: int | None) -> float:
    """In bits, errors at what they are worth there."""
    mode = choose_mode(bundle)
    coder = TileCoder(bundle, networks_of(bundle, threads or usable_cores(), mode), mode)
    analysed = coder.analyse(pixels)
    coded = coder.code(analysed, position)
    decoded = coder.synthesise(coded.latents, analysed.geometry, position)
    error = np.square(decoded.astype(np.float64) - pixels).sum()
    return 8.0 * len(coded.payload) + float(error) / worth_of_a_bit(
        quality_of_position(position, bundle.last_position)
    )
