"""A file that arrives piece by piece, shown as often as there is something new in it."""

from __future__ import annotations

import numpy as np

from softstair import _core
from softstair.bundle import Bundle
from softstair.errors import CorruptStream, TruncatedStream
from softstair.pictures import Picture
from softstair.quantize.phases import PHASES
from softstair.stream import MAX_PIXELS, Buffer, StreamReader

from .budget import MAX_MEMORY
from .decoder import Decoded, View, bundle_of, decode_view
from .geometry import STRIDE
from .receptive_field import FURTHEST
from .windows import GREY, Pixels


class Reader:
    """Shows a .stair file while its bytes arrive.

    A tile is shown when its z was read, after each phase, less sharp, and when it is whole; of a picture in
    several tiles, when a tile is whole, and in progressive order when its first part is, too. A file in
    layers is shown so with the first, and then with each. What is shown of an only tile that is not whole
    was verified by nothing.

    complete: all of the file was fed, in layers all that it was made with. bundle, threads, max_pixels and
    max_memory are as for ``decode``.
    """

    def __init__(
        self,
        *,
        bundle: Bundle | None = None,
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_memory: int = MAX_MEMORY,
    ) -> None:
        self._bundle, self._threads = bundle, threads
        self._max_pixels, self._max_memory = max_pixels, max_memory
        self._data = b""
        self._layers = 0  # that were shown as a whole
        self._shown = (0, 0)  # tiles that are whole; parts of an only one, or first parts of all
        self._arriving: _core.TileDecoder | None = None
        self._given = 0  # bytes of its payload that it has
        self._canvas: Pixels | None = None
        self.complete = False

    def feed(self, data: Buffer) -> Pixels | None:
        """The next bytes of the file.

        Returns:
            uint8 as from ``decode`` if something new can be shown, grey where nothing is known and opaque
            while alpha is not there; else None. The last one is what ``decode`` returns.

        Raises:
            StreamError: not a stream, damaged, larger than allowed, or something follows its end.
            BundleError: its bundle is missing or damaged.
        """
        if not data:
            return None
        self._data += data
        if self.complete:
            raise CorruptStream(f"{len(data)} bytes follow the end of the stream.")
        try:
            reader = StreamReader(self._data, max_pixels=self._max_pixels)
        except TruncatedStream:
            return None
        if reader.layer_boundaries and reader.layer_boundaries[0] <= len(self._data):
            return self._next_layer(reader)
        whole = sum(end <= len(self._data) for end in reader.ends)
        for index in range(self._shown[0], whole):
            reader.tile(index)  # raises if it is damaged
        if whole == reader.grid.count and _has_extras(reader):
            self.complete, self._arriving, self._canvas = True, None, None
            return self._decoded(View()).picture.array
        if reader.grid.count == 1:
            now = whole, 0 if whole else self._parts(reader)
            changed = {0}
        else:
            now = whole, sum(end <= len(self._data) for end in reader.first_ends)
            changed = {*range(self._shown[0], whole), *range(self._shown[1], now[1])}
            for index in changed:
                reader.beginning(index)  # raises if its first part is damaged
        if now <= self._shown:
            return None
        self._shown = now
        return self._repainted(reader, changed)

    def _next_layer(self, reader: StreamReader) -> Pixels | None:
        """The picture, if there are more whole layers than were shown."""
        boundaries = reader.layer_boundaries
        if len(self._data) > boundaries[-1]:
            reader.check_layers()  # raises
        if reader.layers == self._layers:
            return None
        self._layers, self._arriving, self._canvas = reader.layers, None, None
        self.complete = reader.layers == len(boundaries)
        return self._decoded(View(), boundaries[reader.layers - 1]).picture.array

    def _decoded(self, view: View, end: int | None = None) -> Decoded:
        return decode_view(
            self._data[:end],
            view,
            self._bundle,
            threads=self._threads,
            max_pixels=self._max_pixels,
            max_memory=self._max_memory,
        )

    def _parts(self, reader: StreamReader) -> int:
        """How much of the only tile was read: 0 nothing, 1 all of z, 2 to 4 a phase more each."""
        header = reader.header
        if reader.exact:
            return 0
        rows, columns = -(-header.height // STRIDE), -(-header.width // STRIDE)
        if self._arriving is None:
            model = bundle_of(header, self._bundle).at(header.position, header.mode).model
            self._arriving = _core.TileDecoder(model, rows, columns)
        payload = reader.beginning(0)
        try:
            self._arriving.append(payload[self._given :])
        except ValueError as error:
            raise CorruptStream(f"The payload of tile 0 cannot be decoded: {error}.") from error
        self._given = len(payload)
        if not len(self._arriving.y):
            return 0
        return min(PHASES, 1 + self._arriving.y_lines // rows)

    def _repainted(self, reader: StreamReader, changed: set[int]) -> Pixels:
        """The picture after some of its tiles changed; the synthesis saw them from around them, too."""
        grid = reader.grid
        whole = grid.whole.cells(STRIDE)
        for index in sorted(changed):
            box = grid.box(index).cells(STRIDE).grown(FURTHEST, whole).times(STRIDE).within(grid.whole)
            region = box.left, box.top, box.columns, box.rows
            pixels = self._decoded(View(region, allow_partial=True)).picture.pixels
            if self._canvas is None:
                self._canvas = np.full((grid.height, grid.width, *pixels.shape[2:]), GREY, np.uint8)
            self._canvas[box.slices] = pixels
        assert self._canvas is not None  # something changed
        opaque = np.full((grid.height, grid.width), 255, np.uint8) if reader.has_alpha else None
        return Picture(self._canvas.copy(), opaque).array


def _has_extras(reader: StreamReader) -> bool:
    try:
        reader.parts()
    except TruncatedStream:
        return False
    return True
