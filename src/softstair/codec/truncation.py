"""A file in layers, cut to its first ones: nothing is decoded, and no byte that is left changes."""

from __future__ import annotations

from softstair.errors import TruncatedStream, UsageError
from softstair.stream import MAX_SIDE, Buffer, StreamReader, measure_parts


def truncate(data: Buffer, *, layers: int | None = None, max_bytes: int | None = None) -> bytes:
    """The first layers of a stream made in layers: so many, or as many as fit into ``max_bytes``.

    Raises:
        StreamError: not a stream, or it ends before the layers asked for.
        UsageError: it is not in layers, has fewer than asked for, or its first is larger than asked for.
    """
    if (layers is None) == (max_bytes is None):
        raise UsageError("Ask for a number of layers or for a number of bytes.")
    reader = StreamReader(data, max_pixels=MAX_SIDE * MAX_SIDE)
    if not reader.layer_boundaries:
        raise UsageError("The file is not in layers, so that it cannot be cut; encode it with --layers.")
    if layers is None:
        assert max_bytes is not None
        layers = sum(end <= max_bytes for end in reader.layer_boundaries[: reader.layers])
        if not layers:
            raise UsageError(
                f"The first layer ends at byte {reader.layer_boundaries[0]}, beyond the {max_bytes} asked "
                "for; ask for more bytes."
            )
    if not 1 <= layers <= reader.header.layers:
        raise UsageError(f"The file has {reader.header.layers} layers, not {layers}; ask for 1 to that many.")
    end = reader.layer_boundaries[layers - 1]
    if end > len(data):
        raise TruncatedStream(
            f"The file ends at byte {len(data)}, before the end of layer {layers}; ask for fewer."
        )
    cut = bytes(data[:end])
    measure_parts(StreamReader(cut, max_pixels=MAX_SIDE * MAX_SIDE))
    return cut
