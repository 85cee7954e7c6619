"""A picture that was decoded, edited in places and is saved again: what was not edited stays as it was.

Tiles whose pixels are the old decode's keep their payloads. In others, either what was edited is laid
exactly over the old payload, or it is coded anew: latents of places that were not edited are those of
the old file, its z as well, and the search weighs no rate there. By rounding it then finds the old symbols
again wherever means are the old ones. A trellis does not: a single latent more or less that is coded
moves all after it to other lanes, and what they held cannot be had there (results/again.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle
from softstair.errors import UsageError
from softstair.exact import pack_samples, unpack_samples
from softstair.pictures import Picture
from softstair.stream import (
    MAX_PIXELS,
    NO_BUNDLE,
    Buffer,
    ExactPayload,
    StreamReader,
    join_stream,
    pack_extras,
    read_exact_payload,
)
from softstair.tiles import Box, TileGrid

from .budget import MAX_MEMORY, plan_encoder
from .decoder import bundle_of, decode_picture
from .encoder import Encoded, Rate, encode_picture, first_parts, small_beside
from .geometry import STRIDE, Geometry, borders_of
from .tile import Analysed
from .windows import analyse_box, as_rgb
from .workers import Workers, usable_cores

SAME = 1  # grey levels by which pixels may differ: so do two machines
_AROUND = 2  # latents around an edit that are computed anew
_WORTH = 2  # times the old payload that an exact edit may cost where a trellis would drift

Mask = npt.NDArray[np.bool_]


def encode_like(
    picture: Picture,
    old: Buffer,
    bundle: Bundle | None = None,
    *,
    threads: int | None = None,
    max_memory: int = MAX_MEMORY,
) -> Encoded:
    """A file of a picture that was decoded from an old file and edited in places.

    Rate, mode and tiles are the old file's; alpha and metadata are the picture's.

    Raises:
        UsageError: the picture is of another size or colour than the old file.
        StreamError, BundleError: the old file cannot be decoded.
    """
    reader, threads = StreamReader(old, max_pixels=MAX_PIXELS), threads or usable_cores()
    header, grid = reader.header, reader.grid
    if header.layers > 1:
        raise UsageError("The old file is in layers, which cannot be coded like it; encode the picture anew.")
    was = decode_picture(old, bundle, threads=threads, max_memory=max_memory)
    if was.pixels.shape != picture.pixels.shape:
        raise UsageError(
            f"The picture is of another size or colour than the old file, {header.width}x{header.height} "
            f"pixels, {header.colour.name.lower()}; encode it without --like."
        )
    if header.fingerprint == NO_BUNDLE:
        return encode_picture(picture, Rate(lossless=True), bundle or _any_bundle(), max_memory=max_memory)
    edited = _edited(picture, was)
    bundle = bundle_of(header, bundle)
    fixed = 2 * picture.pixels.nbytes
    plan = plan_encoder(grid, bundle.channels, fixed, max_memory, threads, decodes=False)
    workers = Workers(bundle, header.mode, threads, plan.workers)
    again = _Again(picture, reader, workers, TileGrid(grid.height, grid.width, plan.window))
    tiles = [again.payload(index, edited) for index in range(grid.count)]
    exact = reader.exact | again.laid_over
    model = bundle.at(header.position, header.mode).model
    cuts = None if reader.cuts is None else first_parts(model, grid, tiles, exact)
    alpha = None if picture.alpha is None else picture.alpha.tobytes()
    extras = pack_extras(alpha, picture.metadata, grid, small_beside(picture, bundle, threads))
    reduced = bool(reader.is_reduced and exact)
    data = join_stream(header, tiles, extras, exact, cuts, is_reduced=reduced)
    return Encoded(data, header.position, 0.0, sum(map(len, tiles)), len(exact), is_reduced=reduced)


def _any_bundle() -> Bundle:
    from softstair.bundle import open_bundle

    return open_bundle()


def _edited(picture: Picture, was: Picture) -> Mask:
    """Pixels that are not the old ones; those that nobody sees are none."""
    differs = np.abs(picture.pixels.astype(np.int16) - was.pixels) > SAME
    edited: Mask = differs if differs.ndim == 2 else differs.any(axis=2)
    return edited if picture.alpha is None else edited & (picture.alpha > 0)


class _Again:
    """Payloads of tiles, old where they can be.

    windows: how the picture is cut for the analysis. laid_over: tiles that were not exact and are in part.
    """

    def __init__(self, picture: Picture, reader: StreamReader, workers: Workers, windows: TileGrid) -> None:
        self._pixels, self._reader, self._workers, self._windows = picture.pixels, reader, workers, windows
        self.laid_over: frozenset[int] = frozenset()

    def payload(self, index: int, edited: Mask) -> bytes:
        """Of a tile. edited: which pixels of the picture were."""
        box, old = self._reader.grid.box(index), self._reader.tile(index)
        if not edited[box.slices].any():
            return old
        cells = _squares(edited[box.slices], STRIDE)
        if index in self._reader.exact:
            payload = read_exact_payload(old, index)
            image = unpack_samples(payload.image, box.rows, box.columns, f"exact image of tile {index}")
            return self._over(payload.learned, box, cells, image[..., 3] > 0)
        if not self._reader.header.mode.is_trellis:
            return self._coded(index, box, old, cells)
        over = self._over(old, box, cells)
        if len(over) - len(old) > _WORTH * len(old):
            return self._coded(index, box, old, cells)
        self.laid_over |= {index}
        return over

    def _over(self, learned: bytes, box: Box, cells: Mask, exact: Mask | None = None) -> bytes:
        """What was edited, exactly, over a learned payload. exact: pixels that were so before."""
        shown = cells.repeat(STRIDE, 0).repeat(STRIDE, 1)[: box.rows, : box.columns]
        shown = shown if exact is None else shown | exact
        pixels = self._pixels[box.slices]
        samples = np.dstack([as_rgb(pixels) * shown[..., None], np.where(shown, 255, 0)]).astype(np.uint8)
        return ExactPayload(learned, pack_samples(samples)).pack()

    def _coded(self, index: int, box: Box, old: bytes, edited: Mask) -> bytes:
        header, coder = self._reader.header, self._workers.whole
        geometry, borders = Geometry(box.columns, box.rows), borders_of(box, self._reader.grid.whole)
        symbols = coder.read_symbols(old, geometry, header.position, index)
        latents = coder.reconstruct(symbols, header.position, borders)
        anew = analyse_box(coder, self._pixels, box, self._windows, self._workers.analysis_field)
        near = _grown(edited, _AROUND)
        latents[:, :, near] = anew[:, :, near]
        analysed = Analysed(geometry, latents, borders)
        # Where a trellis drifts anyway, and where nothing old is left, rate counts as it always does.
        weight = None if header.mode.is_trellis or near.all() else 0.0
        z = np.where(_squares(near, 2)[..., None], coder.choose_z(analysed, header.position), symbols.z)
        begun = coder.begin(analysed, header.position, z.astype(np.int16))
        return coder.decide(begun, rate_weight=weight).tile.finish()


def _squares(mask: Mask, side: int) -> Mask:
    """Of squares of so many places a side, those with any."""
    rows = np.logical_or.reduceat(mask, range(0, mask.shape[0], side), axis=0)
    squares: Mask = np.logical_or.reduceat(rows, range(0, mask.shape[1], side), axis=1)
    return squares


def _grown(cells: Mask, margin: int) -> Mask:
    """With so many cells around each."""
    rows, columns = cells.shape
    padded, result = np.pad(cells, margin), np.zeros_like(cells)
    for down in range(2 * margin + 1):
        for right in range(2 * margin + 1):
            result |= padded[down : down + rows, right : right + columns]
    return result
