"""What a stream says of its picture before any pixel is drawn: y^, pooled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle
from softstair.errors import UsageError
from softstair.quantize.grids import STRIDE
from softstair.stream import MAX_PIXELS, NO_BUNDLE, Buffer, StreamReader

from .decoder import bundle_of
from .source import TileSource
from .workers import Workers, usable_cores

MAX_CELLS = 16


@dataclass(frozen=True)
class Latents:
    """Latents of a picture, pooled over the cells of a lattice.

    fingerprint: in hex, of the bundle or pack that decodes them: those of another mean something else.
    means, deviations: float32 (C, cells, cells), mean and standard deviation of y^ in each cell; 0 where
    no latent lies.
    """

    fingerprint: str
    means: npt.NDArray[np.float32]
    deviations: npt.NDArray[np.float32]


def pooled_latents(data: Buffer, cells: int, bundle: Bundle | None, threads: int | None) -> Latents:
    """Latents of a .stair file in cells x cells parts of its picture; the synthesis does not run.

    Raises:
        StreamError: the data cannot be read.
        BundleError: its bundle is missing or damaged.
        UsageError: the whole picture is exact, so that there are none, or there is no such lattice.
    """
    if not 1 <= cells <= MAX_CELLS:
        raise UsageError(f"Latents can be pooled into 1 to {MAX_CELLS} cells a side, not {cells}.")
    reader = StreamReader(data, max_pixels=MAX_PIXELS)
    if reader.header.fingerprint == NO_BUNDLE:
        raise UsageError("The picture is exact in every tile and has no latents.")
    bundle = bundle_of(reader.header, bundle)
    source = TileSource(reader, partial_allowed=False)
    workers = Workers(bundle, reader.header.mode, threads or usable_cores(), 1, reader.header.layers)
    whole = reader.grid.whole.cells(STRIDE)
    sums = np.zeros((2, bundle.channels, cells, cells))
    counts = np.zeros((cells, cells))
    indices = [index for index in range(reader.grid.count) if not source.hides(reader.grid.box(index))]
    for index, planes in zip(indices, source.latents(workers, indices), strict=True):
        box = reader.grid.box(index).cells(STRIDE)
        rows = _membership(box.top, box.rows, whole.rows, cells)
        columns = _membership(box.left, box.columns, whole.columns, cells)
        y = planes[0].astype(np.float64)
        sums += np.stack([rows @ part @ columns.T for part in (y, y * y)])
        counts += np.outer(rows.sum(1), columns.sum(1))
    mean, square = sums / np.maximum(counts, 1)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return Latents(bundle.fingerprint.hex(), mean.astype(np.float32), deviation.astype(np.float32))


def _membership(start: int, length: int, whole: int, cells: int) -> npt.NDArray[np.float64]:
    """Which cell each of ``length`` lines from ``start`` on lies in, (cells, length) of ones and zeros."""
    cell = (start + np.arange(length)) * cells // whole
    inside: npt.NDArray[np.float64] = (cell == np.arange(cells)[:, None]).astype(np.float64)
    return inside
