"""Tiles: how pictures are cut, that no seam shows, and what can be had without the whole."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softstair
from softstair.codec import Rate, View, decode_view, encode_picture, networks_of
from softstair.codec.budget import DECODED_WINDOWS, Plan, plan_decoder, plan_encoder
from softstair.codec.geometry import Geometry, borders_of
from softstair.codec.picture_coder import PictureCoder
from softstair.codec.receptive_field import analysis_field, synthesis_field
from softstair.codec.tile import TileCoder
from softstair.codec.windows import analyse_box
from softstair.codec.workers import Workers
from softstair.errors import (
    CorruptStream,
    InvalidBundle,
    LimitExceeded,
    PartialPicture,
    StreamError,
    UsageError,
)
from softstair.mode import Mode
from softstair.pictures import Picture
from softstair.stream import StreamReader, read_stream, write_stream
from softstair.tiles import Box, TileGrid

from ..conftest import GOLDEN
from ..tiny import encode_tiled, photograph

TILED = (GOLDEN / "v1" / "tiled.stair").read_bytes()  # 530x300 pixels in 2 rows of 3 tiles


@pytest.fixture(scope="module")
def whole(tiny_bundle):
    """All of the tiled golden stream."""
    return softstair.decode(TILED, bundle=tiny_bundle)


def damaged(data: bytes, *tiles: int) -> bytes:
    """With a flipped bit in the middle of some tiles."""
    reader, result = StreamReader(data), bytearray(data)
    for index in tiles:
        payload = reader.tile(index)
        result[data.index(payload) + len(payload) // 2] ^= 1
    return bytes(result)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 9))
def test_tiles_cover_a_picture_once(height, width, layout):
    grid = TileGrid(height, width, layout)
    seen = np.zeros((-(-height // 256), -(-width // 256)), int)
    boxes = [grid.box(index) for index in range(grid.count)]
    for box in boxes:
        assert box.top % 256 == box.left % 256 == 0
        assert box.bottom % 256 == 0 or box.bottom == height
        assert layout == 0 or max(box.rows, box.columns) <= 256 * layout
        seen[box.cells(256).slices] += 1
    assert (seen == 1).all()
    assert grid.largest.rows == max(box.rows for box in boxes)
    assert boxes == sorted(boxes, key=lambda box: (box.top, box.left))
    inner = [box.cells(256).rows for box in boxes]
    assert max(inner) - min(inner) <= 1


@settings(deadline=None)
@given(st.integers(0, 299), st.integers(0, 529), st.integers(1, 300), st.integers(1, 530))
def test_tiles_that_a_box_meets(top, left, rows, columns):
    grid = TileGrid(300, 530, 1)
    box = Box(top, left, top + rows, left + columns)
    expected = [index for index in range(grid.count) if grid.box(index).meets(box)]
    assert list(grid.meeting(box)) == expected


@pytest.mark.parametrize("name", ["bundle", "tiny_bundle"])
def test_the_measured_reach_is_that_of_the_kernels(name, request):
    """By another way: added up over the convolutions of the graphs."""
    onnx = pytest.importorskip("onnx", reason="the extra learn is not installed")
    bundle = request.getfixturevalue(name)
    networks = networks_of(bundle, 1).unchecked
    for graph, measured in (
        ("analysis", analysis_field(networks)),
        ("synthesis", synthesis_field(networks, bundle.channels, bundle.points)),
    ):
        model = onnx.load_from_string(bundle.graph(graph))
        cells = 16  # a side
        for value in model.graph.input:
            for side in value.type.tensor_type.shape.dim[2:]:
                side.dim_value = 16 * cells if graph == "analysis" else cells
        model.graph.output[0].type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        widths = {
            value.name: value.type.tensor_type.shape.dim[-1].dim_value
            for value in (*inferred.input, *inferred.value_info)
            if len(value.type.tensor_type.shape.dim) == 4
        }
        reach = 0.0
        for node in inferred.node:
            if node.op_type == "Conv":
                attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                reach += attributes["pads"][0] * cells / widths[node.input[0]]
        assert measured == math.ceil(reach)


def test_networks_that_see_everything_are_refused(tiny_bundle):
    class Global:
        def __init__(self, networks) -> None:
            self._networks = networks

        def analysis(self, picture):
            latents = self._networks.analysis(picture)
            return latents + latents.mean(axis=(2, 3), keepdims=True)

    with pytest.raises(InvalidBundle, match="sees further"):
        analysis_field(Global(networks_of(tiny_bundle, 1).unchecked))


@pytest.mark.parametrize("name", ["bundle", "tiny_bundle"])
def test_analysis_in_windows_is_that_of_the_whole(name, request):
    bundle = request.getfixturevalue(name)
    pixels = photograph(530, 600, 3)
    coder = TileCoder(bundle, networks_of(bundle, 1), Mode.SCALAR)
    expected = coder.analyse(pixels).latents
    windows = TileGrid(530, 600, 1)
    found = analyse_box(
        coder, pixels, windows.whole, windows, lambda: analysis_field(networks_of(bundle, 1).unchecked)
    )
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("window", [1, 2, 8])
@pytest.mark.parametrize("name", ["bundle", "tiny_bundle"])
def test_no_seam(name, window, request, monkeypatch):
    """The decoder's pixels are those of one synthesis over the latents of all tiles."""
    bundle = request.getfixturevalue(name)
    pixels = photograph(530, 600, 3)
    data = encode_tiled(pixels, bundle, 80, layout=1)
    stream = read_stream(data)
    grid = stream.header.grid
    assert grid.count == 9
    coder = TileCoder(bundle, networks_of(bundle, 1), Mode.SCALAR)
    latents = np.zeros((1, bundle.channels, 34, 38), np.float32)
    for index, payload in enumerate(stream.tiles):
        box = grid.box(index)
        symbols = coder.read_symbols(payload, Geometry(box.columns, box.rows), 80)
        latents[:, :, *box.cells(16).slices] = coder.reconstruct(symbols, 80, borders_of(box, grid.whole))
    expected = coder.synthesise(latents, Geometry(600, 530), 80).astype(int)
    monkeypatch.setattr("softstair.codec.budget.DECODED_WINDOWS", (window,))
    difference = np.abs(softstair.decode(data, bundle=bundle, threads=1) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_error_at_borders_is_that_of_the_interior(bundle):
    """Pixels next to a border between tiles are as good as the same pixels in one tile."""
    pixels = photograph(512, 512, 5)
    error = {}
    for layout in (0, 1):
        decoded = softstair.decode(encode_tiled(pixels, bundle, 80, layout=layout), bundle=bundle)
        squares = np.square(decoded.astype(float) - pixels)
        error[layout] = squares[:, 248:264].mean(), squares.mean()
    border, overall = (10 * np.log10(error[0][i] / error[1][i]) for i in (0, 1))
    assert abs(border) < 0.15
    assert abs(overall) < 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 299), st.integers(0, 529), st.integers(1, 300), st.integers(1, 530))
def test_a_region_is_a_crop(tiny_bundle, whole, top, left, rows, columns):
    rows, columns = min(rows, 300 - top), min(columns, 530 - left)
    found = softstair.decode(TILED, region=(left, top, columns, rows), bundle=tiny_bundle, threads=1)
    expected = whole[top : top + rows, left : left + columns].astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("divisor", [2, 4, 8, 16])
@pytest.mark.parametrize("region", [None, (100, 37, 333, 211)])
def test_a_scale_is_the_mean_of_blocks(tiny_bundle, whole, divisor, region):
    found = softstair.decode(TILED, scale=1 / divisor, region=region, bundle=tiny_bundle)
    left, top, right, bottom = 0, 0, 530, 300
    if region is not None:
        left, top = region[0] // divisor * divisor, region[1] // divisor * divisor
        right = min(530, -(-(region[0] + region[2]) // divisor) * divisor)
        bottom = min(300, -(-(region[1] + region[3]) // divisor) * divisor)
    rows, columns = range(top, bottom, divisor), range(left, right, divisor)
    expected = [
        [whole[r : min(r + divisor, bottom), c : min(c + divisor, right)].mean(axis=(0, 1)) for c in columns]
        for r in rows
    ]
    assert found.shape == (len(rows), len(columns), 3)
    assert np.abs(found - np.array(expected)).max() <= 1.5


def test_regions_and_scales_of_grey_with_alpha(tiny_bundle):
    pixels = np.dstack([photograph(300, 300)[..., 0], photograph(300, 300, 9)[..., 0]])
    data = encode_tiled(pixels, tiny_bundle, 90, layout=1)
    grey = write_stream(replace(read_stream(data), header=replace(read_stream(data).header, colour=1)))
    full = softstair.decode(grey, bundle=tiny_bundle)
    assert full.shape == (300, 300, 2)
    part = softstair.decode(grey, region=(200, 100, 90, 60), bundle=tiny_bundle)
    np.testing.assert_array_equal(part[..., 1], pixels[100:160, 200:290, 1])
    assert np.abs(part.astype(int) - full[100:160, 200:290]).max() <= 1
    small = softstair.decode(grey, scale=1 / 4, bundle=tiny_bundle)
    means = pixels[..., 1].reshape(75, 4, 75, 4).mean(axis=(1, 3))
    assert np.abs(small[..., 1] - means).max() <= 0.5


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 531, 5), (529, 299, 2, 1)])
def test_regions_outside_the_picture(tiny_bundle, region):
    with pytest.raises(UsageError, match="not inside"):
        softstair.decode(TILED, region=region, bundle=tiny_bundle)


def test_scales_that_do_not_exist(tiny_bundle):
    with pytest.raises(UsageError, match="scaled by"):
        softstair.decode(TILED, scale=1 / 3, bundle=tiny_bundle)


def test_a_region_reads_only_the_tiles_that_it_needs(tiny_bundle, whole):
    data = damaged(TILED, 1, 2, 4, 5)
    found = softstair.decode(data, region=(10, 10, 100, 250), bundle=tiny_bundle)
    assert np.abs(found - whole[10:260, 10:110].astype(int)).max() <= 1
    with pytest.raises(CorruptStream, match="tile 1"):  # within the reach of the synthesis
        softstair.decode(data, region=(10, 10, 200, 250), bundle=tiny_bundle)


def test_what_is_damaged_is_filled_and_told(tiny_bundle, whole):
    data = damaged(TILED, 2)
    with pytest.raises(CorruptStream, match="tile 2"):
        softstair.decode(data, bundle=tiny_bundle)
    with pytest.warns(PartialPicture, match="1 of 6 tiles were damaged and are grey"):
        found = softstair.decode(data, allow_partial=True, bundle=tiny_bundle)
    kept = np.ones((300, 530), bool)
    kept[: 256 + 64, 512 - 64 :] = False  # the tile, and whom its latents reach
    assert np.abs(found.astype(int) - whole)[kept].max() <= 1
    assert np.abs(found.astype(int) - whole)[:250, 520:].mean() > 5


def test_a_file_that_ends_early(tiny_bundle, whole):
    reader = StreamReader(TILED)
    start = TILED.index(reader.tile(3))
    with pytest.warns(PartialPicture, match="ends early: 3 of 6 tiles are grey"):
        found = softstair.decode(TILED[: start + 3], allow_partial=True, bundle=tiny_bundle)
    assert np.abs(found.astype(int) - whole)[: 256 - 64].max() <= 1
    assert (found[256:] == 128).all()
    half = TILED[: start + len(reader.tile(3)) // 2]
    with pytest.warns(PartialPicture, match="1 of 6 tiles as far as the bytes reach, 2 grey"):
        found = softstair.decode(half, allow_partial=True, bundle=tiny_bundle)
    assert np.abs(found.astype(int) - whole)[256:, :200].mean() < 20
    assert (found[256:, 256:] == 128).all()


def test_an_intact_file_warns_of_nothing(tiny_bundle, whole):
    found = softstair.decode(TILED, allow_partial=True, bundle=tiny_bundle)
    np.testing.assert_array_equal(found, whole)


def test_nothing_left_is_an_error(tiny_bundle):
    with pytest.raises(CorruptStream):
        softstair.decode(damaged(TILED, *range(6)), allow_partial=True, bundle=tiny_bundle)
    with pytest.raises(StreamError):
        softstair.decode(TILED[:30], allow_partial=True, bundle=tiny_bundle)


def test_a_tile_that_cannot_be_decoded_in_spite_of_its_checksum(tiny_bundle):
    stream = read_stream(TILED)
    tiles = (*stream.tiles[:4], stream.tiles[4][:-2], stream.tiles[5])
    data = write_stream(replace(stream, tiles=tiles))
    with pytest.raises(CorruptStream, match="tile 4"):
        softstair.decode(data, bundle=tiny_bundle)
    assert decode_view(data, View(allow_partial=True), tiny_bundle).missing == (4,)


def test_damaged_alpha_is_left_out(tiny_bundle):
    data = (GOLDEN / "v1" / "alpha.stair").read_bytes()
    decoded = decode_view(data[:-1], View(allow_partial=True), tiny_bundle)
    assert decoded.picture.alpha is None
    assert decoded.missing == ()
    assert "alpha" in str(decoded.damage)


def test_large_pictures_are_cut_and_small_ones_are_not(tiny_bundle):
    for width, tiles in ((2048, 1), (2049, 2), (4097, 3)):
        data = softstair.encode(photograph(20, width), rate_position=60, bundle=tiny_bundle)
        assert softstair.info(data).tiles == tiles
        assert softstair.decode(data, bundle=tiny_bundle).shape == (20, width, 3)


def test_one_tile_is_coded_as_it_always_was(tiny_bundle):
    pixels = photograph(300, 257, 5)
    coder = TileCoder(tiny_bundle, networks_of(tiny_bundle, 1), Mode.TCQ8)
    payload = coder.code(coder.analyse(pixels), 48).payload
    data = softstair.encode(pixels, rate_position=48, mode="tcq8", bundle=tiny_bundle, threads=1)
    assert read_stream(data).tiles == (payload,)


def test_targets_of_pictures_in_tiles(tiny_bundle):
    pixels = photograph(60, 2200)
    picture = Picture(pixels)
    plain = len(softstair.encode(pixels, rate_position=90, bundle=tiny_bundle))
    data = encode_picture(picture, Rate(target_size=plain), tiny_bundle).data
    assert 0.9 * plain < len(data) <= plain
    coarse = psnr(pixels, softstair.encode(pixels, rate_position=60, bundle=tiny_bundle), tiny_bundle)
    found = encode_picture(picture, Rate(target_psnr=coarse + 0.01), tiny_bundle)
    assert 60 < found.position < 80
    assert psnr(pixels, found.data, tiny_bundle) >= coarse + 0.01
    before = encode_picture(picture, Rate(position=found.position - 1), tiny_bundle)
    assert psnr(pixels, before.data, tiny_bundle) < coarse + 0.01


def psnr(pixels, data, bundle) -> float:
    error = np.square(softstair.decode(data, bundle=bundle).astype(float) - pixels).mean()
    return float(10 * np.log10(255**2 / error))


def test_latents_that_are_kept_and_those_computed_anew(tiny_bundle):
    picture, grid = Picture(photograph(300, 530)), TileGrid(300, 530, 1)
    kept, anew = (
        PictureCoder(
            picture, grid, Workers(tiny_bundle, Mode.TCQ8, 1, 1), Plan(1, 1), lambda position: 0, keep=keep
        )
        for keep in (True, False)
    )
    for position in (40, 90):
        assert kept.error(position) == anew.error(position)
        assert kept.code(position) == anew.code(position)


def test_tiles_side_by_side_make_the_same_file(tiny_bundle):
    pixels = photograph(300, 530, 11)
    one, several = (
        encode_tiled(pixels, tiny_bundle, 72, layout=1, mode="tcq8", workers=workers) for workers in (1, 3)
    )
    assert one == several
    np.testing.assert_array_equal(
        softstair.decode(one, bundle=tiny_bundle, threads=3),
        softstair.decode(one, bundle=tiny_bundle, threads=1),
    )


def test_less_memory_means_smaller_windows(tiny_bundle):
    grid = TileGrid(10_000, 10_000, 8)
    pixels = 3 * 10**8
    roomy = plan_decoder(grid, 256, pixels, 2_000_000_000, 4, region=grid.whole)
    tight = plan_decoder(grid, 256, pixels, 1_000_000_000, 4, region=grid.whole)
    assert roomy.window in DECODED_WINDOWS
    assert tight.windows < roomy.windows
    assert roomy.windows == 4  # as many as threads
    few = plan_encoder(grid, 256, pixels, 1_300_000_000, 4, decodes=False)
    many = plan_encoder(grid, 256, pixels, 4_000_000_000, 4, decodes=True)
    assert few.workers < many.workers == 4
    with pytest.raises(LimitExceeded, match="10000x10000 pixels needs about"):
        plan_encoder(grid, 256, pixels, 500_000_000, 4, decodes=False)
    with pytest.raises(LimitExceeded, match="MB of memory"):
        softstair.decode(TILED, bundle=tiny_bundle, max_memory=1000)
    with pytest.raises(LimitExceeded, match="MB of memory"):
        softstair.encode(photograph(40, 40), bundle=tiny_bundle, max_memory=1000)


def test_windows_of_a_row_keep_threads_busy():
    def planned(threads):
        grid = TileGrid(3000, 3840, 4)
        plan = plan_decoder(grid, 256, 0, 4_000_000_000, threads, region=grid.whole)
        return plan.windows, TileGrid(grid.height, grid.width, plan.window).columns

    assert planned(1) == (1, 3)  # the fewest margins
    assert planned(2) == (2, 4)  # three in a row would leave one of two threads waiting
    assert planned(16)[0] <= planned(16)[1]  # threads that have no window help with those of others


PEAK = """
def peak():  # ru_maxrss would begin with what the parent held
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
"""
LARGE = """
import sys
import numpy as np, softstair
limit = int(sys.argv[1])
wave = (127 + 60 * np.sin(np.arange(8000) / 40)).astype(np.uint8)
pixels = np.empty((5000, 8000, 3), np.uint8)
for row in range(5000):
    pixels[row] = np.roll(wave, row)[:, None] + np.arange(3, dtype=np.uint8)
data = softstair.encode(pixels, quality=30, max_memory=limit, threads=2)
del pixels
print(peak())
open(sys.argv[2], "wb").write(data)
"""
LARGE_BACK = """
import sys, softstair
data = open(sys.argv[2], "rb").read()
assert softstair.decode(data, max_memory=int(sys.argv[1]), threads=2).shape == (5000, 8000, 3)
print(peak())
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_forty_megapixels_in_a_gigabyte(tmp_path):
    for code in (LARGE, LARGE_BACK):
        command = [sys.executable, "-c", PEAK + code, "1000000000", tmp_path / "large.stair"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert int(done.stdout) < 1_000_000_000
