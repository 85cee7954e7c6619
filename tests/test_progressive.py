"""Progressive order: all of a picture in several tiles comes early, less sharp."""

from __future__ import annotations

import io

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import softstair
import softstair.pillow
from softstair.codec import View, decode_view
from softstair.commands import encode as encoding
from softstair.errors import CorruptStream, StreamError, TruncatedStream
from softstair.stream import (
    Metadata,
    StreamReader,
    read_header,
    read_stream,
    read_summary,
    with_metadata,
    write_stream,
)

from .tiny import photograph, screen, screen_with_photograph


@pytest.fixture(scope="module")
def pixels():
    return photograph(48, 4200)


@pytest.fixture(scope="module")
def plain(pixels, tiny_bundle):
    return softstair.encode(pixels, 60, effort=2, bundle=tiny_bundle)


@pytest.fixture(scope="module")
def data(pixels, tiny_bundle):
    return softstair.encode(pixels, 60, effort=2, bundle=tiny_bundle, progressive=True)


def test_it_is_the_same_picture_for_a_few_bytes_a_tile(plain, data, tiny_bundle):
    tiles = read_stream(data).tiles
    assert len(tiles) > 1
    assert tiles == read_stream(plain).tiles
    assert len(data) - len(plain) <= 7 * len(tiles)
    decoded = (softstair.decode(one, bundle=tiny_bundle) for one in (plain, data))
    assert np.array_equal(*decoded)
    assert write_stream(read_stream(data)) == data


def test_all_of_it_is_shown_when_the_first_parts_are_there(data, tiny_bundle):
    whole = softstair.decode(data, bundle=tiny_bundle).astype(int)
    first_end = StreamReader(data).first_ends[-1]
    assert first_end < 0.75 * len(data)
    reader = softstair.Reader(bundle=tiny_bundle)
    early = reader.feed(data[:first_end])
    assert early is not None
    grey = np.abs(early.astype(int) - 128).reshape(48, -1, 60, 3).max((0, 2, 3))
    assert grey.all()  # nowhere is nothing
    error = [np.square(early - whole).mean()]
    for start in range(first_end, len(data), 500):
        if (shown := reader.feed(data[start : start + 500])) is not None:
            error.append(np.square(shown - whole).mean())
    assert error == sorted(error, reverse=True)
    assert error[-1] == 0
    with pytest.warns(softstair.PartialPicture, match="as far as the bytes reach"):
        partial = softstair.decode(data[:first_end], allow_partial=True, bundle=tiny_bundle)
    assert np.array_equal(partial, early)


def test_every_cut_and_every_damage_is_told(data, tiny_bundle):
    for length in range(0, len(data), 97):
        with pytest.raises((TruncatedStream, StreamError)):
            read_stream(data[:length])
        reader = softstair.Reader(bundle=tiny_bundle)
        if length < 3000:
            reader.feed(data[:length])
        assert not reader.complete
    for place in range(30, len(data), 211):
        damaged = bytearray(data)
        damaged[place] ^= 4
        with pytest.raises(StreamError):
            read_stream(bytes(damaged))
    damaged = bytearray(data)
    damaged[StreamReader(data).first_ends[0] - 9] ^= 4
    with pytest.raises(CorruptStream, match="tile 0"):
        softstair.Reader(bundle=tiny_bundle).feed(bytes(damaged[: StreamReader(data).first_ends[0]]))


def smooth(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Waves of a few bytes."""
    rows, columns = np.mgrid[0:height, 0:width, 0:1][:2] / 24
    return (120 + 80 * np.sin(rows + np.arange(channels)) * np.cos(columns)).astype(np.uint8)


def files_of_today() -> dict[str, tuple[bytes, int]]:
    """Small files by the shipped bundle, and every how many bytes each is cut: several tiles take long."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "waves"
    Image.fromarray(smooth(40, 56, 4)).save(buffer, "PNG", exif=exif.tobytes())
    with Image.open(buffer) as waves:
        return {
            "one tile": (softstair.encode(smooth(40, 56), 50), 1),
            "alpha and metadata": (softstair.encode(waves, 50), 1),
            "layers": (softstair.encode(smooth(40, 56), 60, layers=3), 1),
            "exact": (softstair.encode(screen(24, 40), lossless=True), 1),
            "exact in part": (softstair.encode(screen_with_photograph()[0], 50), 17),
            "tile after tile": (softstair.encode(smooth(24, 2056), 20), 19),
            "progressive order": (softstair.encode(smooth(24, 2056), 20, progressive=True), 19),
            "a small picture beside": (softstair.encode(smooth(16, 8200), 5), 71),
        }


def test_every_cut_of_a_file_of_today_opens_or_is_refused_in_a_sentence(bundle):
    for name, (whole, step) in files_of_today().items():
        opened, files_of_their_own = 0, StreamReader(whole).layer_boundaries
        for length in range(0, len(whole), step):
            if length in files_of_their_own:
                continue
            with pytest.raises(StreamError) as refused:
                softstair.decode(whole[:length], threads=1)
            sentences = [str(refused.value)]
            try:
                shown = decode_view(whole[:length], View(allow_partial=True), bundle, threads=1)
            except StreamError as error:
                sentences.append(str(error))
            else:
                opened += 1
                assert shown.damage, name
                height, width = shown.picture.pixels.shape[:2]
                header = read_header(whole)
                assert (height, width) == (header.height, header.width)
            assert all(one.endswith(".") and "\n" not in one for one in sentences), sentences
        assert (opened > 0) != name.startswith("exact"), name  # exact tiles are whole or nothing


def test_other_metadata_keeps_the_order(data):
    other = with_metadata(data, Metadata(xmp=b"<x/>"))
    assert read_stream(other).cuts == read_stream(data).cuts
    assert read_summary(other).metadata.xmp == b"<x/>"


def test_a_picture_in_one_tile_has_that_order_anyway(small_photo, tiny_bundle):
    one, other = (softstair.encode(small_photo, 60, bundle=tiny_bundle, progressive=p) for p in (True, False))
    assert one == other


def test_the_command_and_pillow_write_it(pixels, tiny_bundle, tmp_path):
    Image.fromarray(pixels[:32]).save(tmp_path / "p.png")
    arguments = [str(tmp_path / "p.png"), "--progressive", "-e", "1", "-o", str(tmp_path / "p.stair")]
    CliRunner().invoke(encoding.command, arguments, catch_exceptions=False)
    assert read_stream((tmp_path / "p.stair").read_bytes()).cuts is not None
    buffer = io.BytesIO()
    Image.fromarray(pixels[:32]).save(buffer, "STAIR", progressive=True, effort=1, bundle=tiny_bundle)
    assert read_stream(buffer.getvalue()).cuts is not None
