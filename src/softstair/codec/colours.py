"""Pictures in fewer colours: what was drawn looks the same in them and costs much less exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from softstair import stopping

PALETTES = (32, 64, 128, 256)  # colours, at most
INK_PALETTES = (16, 32)  # the same of what is ink alone
# One of so many colours of a palette is a frequent one, as it is, or one that lies far from all others.
_KEPT, _FAR = 4, 16
_FREQUENT = 0.0005  # of all pixels
_LARGEST = 48  # grey levels that a sample may change by: with more, what was yellow turns orange
_GROUPS = 8192  # of colours that share leading bits, at most
_ROUNDS = 3  # of means; more of them save little

Pixels = npt.NDArray[np.uint8]
_Colours = npt.NDArray[np.float32]
_Numbers = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ColouredPixels:
    """Pixels by their colours.

    colours: uint8 (n, 3). counts: pixels of each, (n,). of: the number of each pixel's colour, (N,).
    """

    colours: Pixels
    counts: npt.NDArray[np.intp]
    of: _Numbers


def by_colour(pixels: Pixels) -> ColouredPixels:
    """Pixels (N, 3) by their colours."""
    stopping.check()
    found, of, counts = np.unique(keys_of(pixels), return_inverse=True, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.uint8)
    return ColouredPixels(colours, counts, of)


def in_fewer_colours(pixels: ColouredPixels, most: int) -> Pixels | None:
    """Pixels (N, 3) in so many colours at most, without a pattern of dots; None if one would change too much.

    The most frequent colours stay as they are, so that no ground melts into another one, and so does a
    colour that most of those near it have. What lies far from all others has a colour of its own.
    """
    stopping.check()
    colours, counts = pixels.colours, pixels.counts
    usual = np.argsort(-counts, kind="stable")[: most // _KEPT]
    frequent = usual[counts[usual] >= _FREQUENT * len(pixels.of)]
    is_rare = np.ones(len(colours), np.bool_)
    is_rare[frequent] = False
    left = most - len(frequent)
    if np.count_nonzero(is_rare) <= left:
        return colours[pixels.of]
    rare, number = _grouped(colours[is_rare])
    shares = np.bincount(number, counts[is_rare], len(rare)).astype(np.float64)
    start = _by_leading_bits(colours[pixels.of[is_rare[pixels.of]]], left - most // _FAR)
    palette = np.concatenate([_means(rare, shares, start), colours[frequent].astype(np.float32)])
    palette = _with_far_ones(rare, palette, most // _FAR).astype(np.uint8)
    result = colours.copy()
    result[is_rare] = palette[_nearest(rare, palette.astype(np.float32))][number]
    if np.abs(result.astype(np.int16) - colours).max() > _LARGEST:
        return None
    return result[pixels.of]


def _grouped(colours: Pixels) -> tuple[_Colours, _Numbers]:
    """Means of colours that share leading bits, so that they are not too many, and of which group each is."""
    if len(colours) <= _GROUPS:
        return colours.astype(np.float32), np.arange(len(colours))
    for dropped in range(1, 8):
        _, number, counts = np.unique(
            keys_of(colours >> np.uint8(dropped)), return_inverse=True, return_counts=True
        )
        if len(counts) <= _GROUPS:
            break
    return _weighted(number, np.ones(len(colours)), colours, np.zeros((len(counts), 3), np.float32)), number


def _by_leading_bits(pixels: Pixels, most: int) -> _Colours:
    indexed = Image.fromarray(pixels[None]).quantize(
        most, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    )
    return np.array(indexed.getpalette(), np.float32).reshape(-1, 3)[:most]


def _means(colours: _Colours, shares: npt.NDArray[np.float64], palette: _Colours) -> _Colours:
    """A palette moved to the means of what is nearest: k-means, in which what is rare counts for more."""
    weights = np.sqrt(shares)
    for _ in range(_ROUNDS):
        palette = _weighted(_nearest(colours, palette), weights, colours, palette)
    palette = palette.round()
    nearest = _nearest(colours, palette)
    is_usual = 2 * shares > np.bincount(nearest, shares, len(palette))[nearest]
    palette[nearest[is_usual]] = colours[is_usual].round()
    return palette


def _with_far_ones(colours: _Colours, palette: _Colours, count: int) -> _Colours:
    """A palette and so many colours more, each the one that is then farthest from it."""
    nearest = palette[_nearest(colours, palette)]
    distances = np.square(colours - nearest).sum(axis=1)
    for _ in range(count):
        farthest = colours[distances.argmax()].round()
        palette = np.concatenate([palette, farthest[None]])
        distances = np.minimum(distances, np.square(colours - farthest).sum(axis=1))
    return palette


def _nearest(colours: _Colours, palette: _Colours) -> _Numbers:
    """Which of a palette is nearest to each colour."""
    number: _Numbers = (np.square(palette).sum(axis=1) - 2 * colours @ palette.T).argmin(axis=1)
    return number


def _weighted(
    number: _Numbers, weights: npt.NDArray[np.float64], colours: npt.NDArray[np.generic], otherwise: _Colours
) -> _Colours:
    """Means of the colours of each number; of numbers that none has, what is given."""
    sums = [np.bincount(number, weights * channel, len(otherwise)) for channel in colours.T]
    of_all = np.bincount(number, weights, len(otherwise))[:, None]
    means = np.divide(np.stack(sums, axis=1), of_all, out=otherwise.astype(np.float64), where=of_all > 0)
    return means.astype(np.float32)


def keys_of(pixels: Pixels) -> npt.NDArray[np.uint32]:
    """A number for each colour, of any shape (..., 3): red, green and blue, a byte each."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    keys: npt.NDArray[np.uint32] = (red << 16 | green << 8 | blue).astype(np.uint32)
    return keys
