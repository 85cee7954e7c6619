from __future__ import annotations

import hashlib

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import softstair
from softstair import _core
from softstair.codec import Rate, decode_picture, encode_picture, read_symbols
from softstair.codec.tile import TileCoder
from softstair.engine.onnx_runtime import OnnxNetworks
from softstair.errors import CorruptStream, TargetOutOfReach, UsageError
from softstair.mode import Mode
from softstair.pictures import Picture, picture_from
from softstair.quantize.phases import phase_map
from softstair.stream import read_stream, write_stream

from ..tiny import photograph, with_staircases


def psnr(one, other) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def symbol_hash(symbols) -> str:
    return hashlib.sha256(symbols.z.tobytes() + symbols.y.tobytes()).hexdigest()


def test_a_photograph_there_and_back(photo):
    data = softstair.encode(photo, quality=60)
    decoded = softstair.decode(data)
    assert decoded.shape == photo.shape
    assert decoded.dtype == np.uint8
    assert len(data) < photo.size / 12
    assert psnr(photo, decoded) > 28


def test_more_quality_is_more_bytes_and_less_error(photo):
    files = [softstair.encode(photo, quality=q) for q in (0, 25, 50, 75, 99)]
    sizes = [len(data) for data in files]
    quality = [psnr(photo, softstair.decode(data)) for data in files]
    assert sizes == sorted(sizes)
    assert quality == sorted(quality)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 160))
def test_any_size_any_rate(tiny_bundle, height, width, position):
    pixels = photograph(height, width)
    data = softstair.encode(pixels, rate_position=position, bundle=tiny_bundle)
    assert softstair.decode(data, bundle=tiny_bundle).shape == pixels.shape


@pytest.mark.parametrize("parallel", [False, True])
def test_a_payload_that_ends_in_any_phase(tiny_bundle, parallel):
    coder = TileCoder(tiny_bundle, OnnxNetworks(tiny_bundle.graph, 1), Mode.TCQ8, parallel=parallel)
    analysed = coder.analyse(photograph(90, 75))
    payload = coder.code(analysed, 120).payload
    for length in range(0, len(payload), max(1, len(payload) // 24)):
        with pytest.raises(CorruptStream, match="tile 7 cannot be decoded: (truncated|corrupt)"):
            coder.decode(payload[:length], analysed.geometry, 120, 7)


def test_phases_are_read_one_after_the_other(tiny_bundle):
    coder = TileCoder(tiny_bundle, OnnxNetworks(tiny_bundle.graph, 1), Mode.TCQ8)
    analysed = coder.analyse(photograph(90, 75))
    payload = coder.code(analysed, 120).payload
    whole = coder.read_symbols(payload, analysed.geometry, 120)
    rows, columns, channels = whole.y.shape
    tile = _core.TileDecoder(tiny_bundle.at(120, Mode.TCQ8).model, payload, rows, columns)
    np.testing.assert_array_equal(tile.z, whole.z)
    phase_of = phase_map(channels, rows, columns).transpose(1, 2, 0)
    symbols = tile.y
    for phase in range(4):
        assert not symbols[phase_of >= phase].any()
        tile.read_phase()
        np.testing.assert_array_equal(symbols, np.where(phase_of <= phase, whole.y, 0))
    with pytest.raises(ValueError, match="all phases have been read"):
        tile.read_phase()


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (16, 16), (17, 15), (31, 33)])
def test_odd_sizes_with_the_shipped_bundle(size):
    pixels = photograph(*size)
    assert psnr(pixels, softstair.decode(softstair.encode(pixels, quality=90))) > 25


@pytest.mark.parametrize("mode", Mode)
def test_what_the_encoder_reconstructs_is_what_the_decoder_sees(bundle, photo, mode):
    coder = TileCoder(bundle, OnnxNetworks(bundle.graph, 1), mode)
    analysed = coder.analyse(photo)
    coded = coder.code(analysed, 77)
    symbols = coder.read_symbols(coded.payload, analysed.geometry, 77)
    np.testing.assert_array_equal(coder.reconstruct(symbols, 77), coded.latents)
    for parallel in (False, True):
        decoder = TileCoder(bundle, OnnxNetworks(bundle.graph, 1), mode, parallel=parallel)
        decoded = decoder.decode(coded.payload, analysed.geometry, 77)
        np.testing.assert_array_equal(decoded, coded.latents)


@pytest.mark.parametrize("mode", [Mode.SCALAR, Mode.RDOQ, Mode.TCQ8])
@pytest.mark.parametrize("position", [0, 16, 77])
def test_levels_of_a_staircase_are_where_a_stream_says(tiny_bundle, small_photo, mode, position):
    """Levels off the uniform grid: the same symbols elsewhere, in encoder and decoder alike."""
    levels = [[400 + 3 * point, 950 + point, 1500] for point in range(tiny_bundle.points)]
    bent = with_staircases(tiny_bundle, lambda staircase: staircase | {"levels": levels})
    coder = TileCoder(bent, OnnxNetworks(bent.graph, 1), mode)
    analysed = coder.analyse(small_photo)
    coded = coder.code(analysed, position)
    symbols = coder.read_symbols(coded.payload, analysed.geometry, position)
    np.testing.assert_array_equal(coder.reconstruct(symbols, position), coded.latents)

    point, fraction = divmod(position, 16)
    low, high = np.array(levels[point]), np.array(levels[point + 1])
    members = [0, *((low * (16 - fraction) + high * fraction + 8) // 16)]
    members += [members[-1] + 512 * more for more in range(1, 9)]
    expected = np.array(members, np.float32) / 1024
    grid = bent.at(position, mode).grid
    np.testing.assert_array_equal(grid, expected[: len(grid)])
    straight = TileCoder(tiny_bundle, OnnxNetworks(tiny_bundle.graph, 1), mode)
    first = phase_map(*coded.latents.shape[1:]) == 0  # later means see other latents
    index = np.abs(symbols.y.transpose(2, 0, 1)[first]) * (1 if mode == "tcq8" else 2)
    assert index.max() >= 2
    shift = np.abs(coder.reconstruct(symbols, position) - straight.reconstruct(symbols, position))[0][first]
    step = np.broadcast_to(bent.at(position, mode).step[:, None, None], first.shape)[first]
    listed = index < len(members)
    np.testing.assert_allclose(
        shift[listed] / step[listed],
        np.abs(expected - np.arange(len(expected)) / 2)[index[listed]],
        atol=1e-4,
    )


@pytest.mark.parametrize("mode", Mode)
def test_payload_is_what_the_tables_charge(bundle, photo, mode):
    for position in (20, 80, 140):
        encoded = encode_picture(Picture(photo), Rate(position=position), bundle, mode=mode)
        assert encoded.payload_bytes * 8 < encoded.table_bits * 1.003 + 128


def test_symbols_do_not_depend_on_threads_level_or_vector_kernels(bundle, photo):
    """The same file, read by every configuration: the same symbols, pixels a grey level apart."""
    data = softstair.encode(photo, quality=60, mode="tcq8")
    (tile,) = read_symbols(data, bundle, threads=1)
    reference = symbol_hash(tile)
    pixels = softstair.decode(data, threads=1).astype(int)
    stream = read_stream(data)
    height, width = -(-photo.shape[0] // 16), -(-photo.shape[1] // 16)
    for simd in (True, False):
        model = bundle.at(stream.header.position, stream.header.mode, simd=simd).model
        z, y = model.decode(stream.tiles[0], height, width)
        assert hashlib.sha256(z.tobytes() + y.tobytes()).hexdigest() == reference
    levels = ort.GraphOptimizationLevel
    for threads in (1, 2):
        for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_EXTENDED):
            coder = TileCoder(bundle, OnnxNetworks(bundle.graph, threads, level), Mode.TCQ8)
            geometry = coder.analyse(photo).geometry
            symbols = coder.read_symbols(stream.tiles[0], geometry, stream.header.position)
            assert symbol_hash(symbols) == reference
            latents = coder.reconstruct(symbols, stream.header.position)
            other = coder.synthesise(latents, geometry, stream.header.position, stream.header.smoothing)
            assert np.abs(other - pixels).max() <= 1


def test_grey_pictures_stay_grey(photo):
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    decoded = softstair.decode(softstair.encode(grey, quality=60))
    assert decoded.shape == grey.shape
    assert psnr(grey, decoded) > 28


def test_alpha_is_lossless(photo):
    alpha = photo[..., :1] // 16 * 17
    rgba = np.concatenate([photo, alpha], axis=2)
    decoded = softstair.decode(softstair.encode(rgba))
    np.testing.assert_array_equal(decoded[..., 3], alpha[..., 0])


def test_pil_images(photo):
    image = Image.fromarray(photo)
    assert softstair.encode(image) == softstair.encode(photo)


@pytest.mark.parametrize("target", [5_000, 20_000, 60_000])
def test_target_size_is_met_from_below(photo, target):
    for mode in ("scalar", "tcq32"):
        data = softstair.encode(photo, target_size=target, mode=mode)
        assert 0.99 * target < len(data) <= target


def test_target_bpp_and_psnr(photo):
    pixels = photo.shape[0] * photo.shape[1]
    assert len(softstair.encode(photo, target_bpp=0.8)) * 8 <= 0.8 * pixels
    reached = psnr(photo, softstair.decode(softstair.encode(photo, target_psnr=30.0)))
    assert 30.0 <= reached < 30.3


def test_targets_out_of_reach(photo):
    with pytest.raises(TargetOutOfReach, match="smallest file"):
        softstair.encode(photo, target_size=100)


@pytest.mark.parametrize(
    ("image", "options", "word"),
    [
        (np.zeros((4, 4, 3), np.float32), {}, "uint8"),
        (np.zeros((4, 4, 5), np.uint8), {}, "shape"),
        (np.zeros((0, 4, 3), np.uint8), {}, "shape"),
        (np.zeros((4, 4, 3), np.uint8), {"quality": 101}, "Quality"),
        (np.zeros((4, 4, 3), np.uint8), {"rate_position": 161}, "rate position must be"),
        (np.zeros((4, 4, 3), np.uint8), {"quality": 5, "target_size": 100}, "one of"),
    ],
)
def test_wishes_that_cannot_be_met(image, options, word):
    with pytest.raises(UsageError, match=word):
        softstair.encode(image, **options)


def test_the_wrong_bundle_is_told(tiny_bundle, small_photo):
    data = softstair.encode(small_photo)
    with pytest.raises(UsageError, match="was made with bundle"):
        softstair.decode(data, bundle=tiny_bundle)


def test_a_rate_position_beyond_the_bundle(bundle, small_photo):
    from dataclasses import replace

    stream = read_stream(softstair.encode(small_photo))
    beyond = replace(stream, header=replace(stream.header, position=200))
    with pytest.raises(CorruptStream, match="200"):
        decode_picture(write_stream(beyond), bundle)


def test_info_needs_no_bundle(small_photo, tiny_bundle):
    data = softstair.encode(small_photo, rate_position=33, bundle=tiny_bundle)
    info = softstair.info(data)
    assert (info.width, info.height, info.rate_position) == (90, 75, 33)
    assert info.fingerprint == tiny_bundle.fingerprint.hex()


def test_sixteen_bit_and_palette_sources():
    deep = Image.fromarray((np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16))
    picture = picture_from(deep)
    assert picture.is_grey
    np.testing.assert_array_equal(picture.pixels, np.rint(np.arange(64 * 64).reshape(64, 64) * 16 / 257))
    palette = Image.fromarray(photograph(20, 20)).convert("P")
    np.testing.assert_array_equal(picture_from(palette).pixels, np.asarray(palette.convert("RGB")))
