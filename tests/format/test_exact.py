"""Exact tiles: what is drawn comes back as it was, and what is photographed costs no more than before."""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import softstair
from softstair.codec import PictureEncoder, Rate, View, decode_view, encode_picture, read_symbols
from softstair.codec.colours import PALETTES, by_colour, in_fewer_colours
from softstair.codec.flatness import look_at_cells
from softstair.codec.forms import Form, divide, images_in_fewer_colours
from softstair.codec.geometry import Geometry
from softstair.codec.ground import without_noise
from softstair.codec.picture_coder import Measured
from softstair.errors import (
    BundleNotFound,
    CorruptStream,
    LimitExceeded,
    PartialPicture,
    SoftstairError,
    StreamError,
    UsageError,
)
from softstair.evaluate import psnr
from softstair.exact import pack_samples, unpack_samples
from softstair.pictures import Picture
from softstair.stream import (
    NO_BUNDLE,
    ExactPayload,
    StreamReader,
    measure_parts,
    read_exact_payload,
    read_stream,
    write_stream,
)
from softstair.tiles import ONE_TILE, TileGrid

from ..tiny import photograph, screen, screen_with_photograph, smoothed_letters


@pytest.fixture(scope="module")
def mixed(tiny_bundle):
    """Of a screen with a photograph: pixels, place of the photograph, the stream at a middling quality."""
    pixels, place = screen_with_photograph()
    return pixels, place, softstair.encode(pixels, quality=60, bundle=tiny_bundle, threads=1)


def with_image(data: bytes, image: bytes, learned: bytes | None = None) -> bytes:
    """A stream of one exact tile with another image, and checksums that are right."""
    stream = read_stream(data)
    payload = read_exact_payload(stream.tiles[0], 0)
    kept = payload.learned if learned is None else learned
    return write_stream(replace(stream, tiles=(ExactPayload(kept, image).pack(),)))


samples = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([None, 3, 4]), st.integers(0, 99))


@given(samples)
@settings(deadline=None)
def test_samples_come_back(case):
    height, width, channels, seed = case
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels is None else (height, width, channels)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    if channels == 4:
        pixels[..., 3] = np.where(pixels[..., 3] > 100, 255, 0)
    found = unpack_samples(pack_samples(pixels), height, width, "image")
    assert found.shape == (height, width, 4)
    shown = found[..., 3] == 255
    if channels == 4:
        np.testing.assert_array_equal(shown, pixels[..., 3] == 255)
        np.testing.assert_array_equal(found[shown][:, :3], pixels[shown][:, :3])
    else:
        assert shown.all()
        expected = pixels if channels == 3 else np.repeat(pixels[..., None], 3, axis=2)
        np.testing.assert_array_equal(found[..., :3], expected)


def test_a_screen_is_coded_exactly_without_being_asked(tiny_bundle):
    pixels = screen(200, 300)
    for quality in (50, 75, 90):
        data = softstair.encode(pixels, quality=quality, bundle=tiny_bundle, threads=1)
        np.testing.assert_array_equal(softstair.decode(data), pixels)  # by nobody's bundle
        webp = io.BytesIO()
        Image.fromarray(pixels).save(webp, "WEBP", lossless=True)
        assert len(data) < 1.1 * len(webp.getvalue())
    info = softstair.info(data)
    assert (info.tiles, info.exact_tiles, info.fingerprint) == (1, 1, NO_BUNDLE.hex())
    assert list(read_symbols(data)) == []


def test_a_drawing_of_many_near_colours_is_coded_in_fewer_unless_nothing_may_be_lost(tiny_bundle):
    pixels = smoothed_letters()
    exactly = softstair.encode(pixels, lossless=True)
    encoded = encode_picture(Picture(pixels), Rate(quality=50), tiny_bundle)
    decoded = softstair.decode(encoded.data)
    error = np.square(decoded.astype(float) - pixels).mean()
    assert (encoded.is_reduced, encoded.position) == (True, None)
    said = softstair.info(encoded.data), softstair.info(exactly)
    assert [(info.exact_tiles, info.reduced_tiles) for info in said] == [(0, 1), (1, 0)]
    assert len(encoded.data) < 0.8 * len(exactly)
    assert 0 < error < 1
    np.testing.assert_array_equal(decoded[pixels == 255], 255)  # paper stays white
    np.testing.assert_array_equal(softstair.decode(exactly), pixels)
    fine = softstair.encode(pixels, target_psnr=90, bundle=tiny_bundle)
    np.testing.assert_array_equal(softstair.decode(fine), pixels)
    small = softstair.encode(pixels, target_size=len(encoded.data), bundle=tiny_bundle)
    assert small == encoded.data


def page() -> np.ndarray:
    """Grey buttons on white paper, a yellow picture, and a small photograph in colours of its own."""
    random = np.random.default_rng(3)
    pixels = np.full((200, 300, 3), 255, np.uint8)
    pixels[20:40, 20:80] = 242
    pixels[60:80, 20:80] = 248
    near = random.integers(0, 10, (60, 80, 3)) + np.array([230, 200, 40])
    many = random.integers(0, 256, (60, 80, 1)) + random.integers(-9, 9, (60, 80, 3))
    pixels[120:180, 20:100], pixels[120:180, 120:200] = near, np.clip(many, 0, 255)
    return pixels


@pytest.mark.parametrize("most", PALETTES)
def test_in_fewer_colours_no_ground_melts_into_another_and_yellow_stays_yellow(most):
    pixels = page()
    reduced = in_fewer_colours(by_colour(pixels.reshape(-1, 3)), most)
    assert reduced is not None
    assert len(np.unique(reduced, axis=0)) <= most
    reduced = reduced.reshape(pixels.shape)
    np.testing.assert_array_equal(reduced[:110], pixels[:110])
    assert np.abs(reduced.astype(int) - pixels).max() <= 48


@pytest.mark.parametrize("most", PALETTES)
def test_pixels_of_few_colours_stay_as_they_are(most):
    pixels = page()[:110].reshape(-1, 3)
    np.testing.assert_array_equal(in_fewer_colours(by_colour(pixels), most), pixels)


def test_no_colour_becomes_quite_another():
    """Half a million colours, which 32 cannot stand for."""
    every = np.random.default_rng(0).permutation(1 << 24)[: 1 << 19]
    pixels = np.stack([every >> 16, every >> 8 & 255, every & 255], axis=1).astype(np.uint8)
    assert in_fewer_colours(by_colour(pixels), 32) is None


def test_patches_that_change_as_a_whole_show_more_than_a_texture_that_does():
    """The same colours once as a shade and once at random: squared errors are alike, and bands show."""
    shade = np.tile(np.arange(256, dtype=np.uint8).repeat(2), (64, 1))
    texture = np.random.default_rng(0).permutation(shade.ravel()).reshape(shade.shape)
    shares = []
    for grey in (shade, texture):
        picture, grid = Picture(np.dstack([grey, grey, grey // 2])), TileGrid(64, 512, ONE_TILE)
        ((_, losses, shifts),) = images_in_fewer_colours(picture, grid, [32])
        assert losses.shape == shifts.shape == (4, 32)
        shares.append(shifts.sum() / losses.sum())
    assert shares[0] > 2
    assert shares[1] < 0.5


def test_noise_on_even_ground_goes_and_letters_and_faint_shades_stay():
    clean = page()[:110]
    clean[90:100, 20:120:5] = 30  # strokes
    noise = np.zeros(clean.shape[:2], np.int64)
    noise[88:104, 16:128] = np.random.default_rng(5).integers(-3, 1, (16, 112))
    noisy = np.where((clean > 100) & (noise[..., None] < 0), clean + noise[..., None], clean).astype(np.uint8)
    np.testing.assert_array_equal(without_noise(noisy, 125.0), clean)
    np.testing.assert_array_equal(without_noise(noisy, 0.01), noisy)  # dearer than bits
    tall = np.tile(noisy, (11, 1, 1))
    np.testing.assert_array_equal(without_noise(tall, 125.0), np.tile(clean, (11, 1, 1)))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 2), (3, 3), (17, 33)])
def test_pixels_of_any_number_may_have_noise(size):
    pixels = np.random.default_rng(1).integers(0, 9, (*size, 3), dtype=np.uint8)
    assert without_noise(pixels, 100.0).shape == pixels.shape


def test_a_screen_that_was_a_jpeg_costs_less_without_its_noise(tiny_bundle):
    jpeg = io.BytesIO()
    Image.fromarray(smoothed_letters()).save(jpeg, "JPEG", quality=90)
    pixels = np.array(Image.open(jpeg))
    encoder = PictureEncoder(Picture(pixels), tiny_bundle)
    data = encoder.fit(Rate(quality=50)).data
    with patch("softstair.codec.forms.without_noise", lambda pixels, worth: pixels):
        noisy = softstair.encode(pixels, quality=50, bundle=tiny_bundle)
    assert len(data) < 0.9 * len(noisy)
    fine = encoder.fit(Rate(target_psnr=60)).data
    assert psnr(pixels, softstair.decode(fine, bundle=tiny_bundle)) >= 60


def test_a_cell_that_is_hardly_cheaper_learned_is_what_those_around_it_are():
    form = Form(None, {0: bytes(1000)})  # 320 bits a cell
    for saved, is_exact in ((20, True), (250, False)):
        bits = np.full((5, 5), 400.0)
        bits[2, 2] = 320 - saved
        cells, _ = divide(np.ones((5, 5)), form, Measured(np.zeros((5, 5)), bits), 100.0)
        assert cells[2, 2] == is_exact
        assert np.count_nonzero(cells) == 24 + is_exact


def test_what_is_hidden_has_no_part_in_what_fewer_colours_lose(tiny_bundle):
    pixels = smoothed_letters()
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:, 120:] = 0
    encoder = PictureEncoder(Picture(pixels, alpha), tiny_bundle)
    decoded = softstair.decode(encoder.fit(Rate(quality=50)).data)
    error = np.square(decoded[:, :120, :3].astype(float) - pixels[:, :120]).mean()
    assert 0 < error < 1


def test_the_same_file_by_any_bundle(tiny_bundle, bundle):
    pixels = screen(60, 90)
    assert softstair.encode(pixels, bundle=tiny_bundle) == softstair.encode(pixels, bundle=bundle)


def test_a_photograph_has_nothing_exact(tiny_bundle, small_photo):
    assert look_at_cells(small_photo) is None
    data = softstair.encode(small_photo, quality=60, bundle=tiny_bundle)
    assert data[4:6] == b"\2\0"
    assert softstair.info(data).exact_tiles == 0


def test_a_photograph_in_a_screen_stays_a_photograph(tiny_bundle, mixed):
    pixels, place, data = mixed
    decoded = softstair.decode(data, bundle=tiny_bundle)
    cells = np.zeros(pixels.shape[:2], bool)
    cells[place] = True
    np.testing.assert_array_equal(decoded[~cells], pixels[~cells])
    error = np.square(decoded[place].astype(float) - pixels[place]).mean()
    assert 10 < error < 500  # a tiny network's
    exactly = len(softstair.encode(pixels, lossless=True))
    assert len(data) < 0.8 * exactly
    assert softstair.info(data).exact_tiles == 1
    (symbols,) = read_symbols(data, tiny_bundle)
    assert symbols.y.shape[:2] == (14, 20)


def test_no_seam_shows_beside_what_is_exact(tiny_bundle, mixed):
    """Learned pixels at the edge of the photograph are no worse than those inside."""
    pixels, place, data = mixed
    error = np.square(softstair.decode(data, bundle=tiny_bundle).astype(float) - pixels)[place].mean(axis=2)
    edge = np.ones(error.shape, bool)
    edge[4:-4, 4:-4] = False
    assert error[edge].mean() < 1.5 * error[~edge].mean() + 10


def test_letters_on_a_shaded_ground_are_exact_and_the_ground_is_learned(bundle):
    down, right = np.mgrid[0:256, 0:384]
    ground = np.stack([40 + right // 4, 90 + down // 3, 200 - (right + down) // 8], axis=2).astype(np.uint8)
    pixels, letters = ground.copy(), (slice(64, 192), slice(96, 288))
    pixels[letters] = screen(128, 192)
    data = softstair.encode(pixels, quality=50, bundle=bundle)
    decoded = softstair.decode(data, bundle=bundle)
    np.testing.assert_array_equal(decoded[letters], pixels[letters])
    assert np.square(decoded.astype(float) - pixels).mean() < 4
    payload = read_exact_payload(read_stream(data).tiles[0], 0)
    shown = unpack_samples(payload.image, 256, 384, "image")[..., 3] == 255
    assert shown[letters].all()
    assert shown.mean() < 0.5
    exactly = softstair.encode(pixels, lossless=True)
    assert len(data) < 0.8 * len(exactly)


def test_what_is_exact_is_decided_by_the_rate(tiny_bundle):
    """Where a bit is worth less error, no fewer cells are exact."""
    pixels = screen_with_photograph()[0]
    shares = []
    for position in (10, 60, 110):
        data = softstair.encode(pixels, rate_position=position, bundle=tiny_bundle)
        image = read_exact_payload(read_stream(data).tiles[0], 0).image
        shares.append((unpack_samples(image, 224, 320, "image")[..., 3] == 255).mean())
    assert shares == sorted(shares)
    assert shares[0] > 0.1


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from(["grey", "rgb", "greya", "rgba"]),
    st.integers(0, 9),
)
@settings(deadline=None, max_examples=40)
def test_lossless_is_bit_exact(height, width, kind, seed):
    rng = np.random.default_rng(seed)
    channels = {"grey": 1, "rgb": 3, "greya": 2, "rgba": 4}[kind]
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    pixels[: height // 2] = pixels[0, 0]
    if channels % 2 == 0:
        pixels[: height // 3, :, -1] = 0  # hidden, and kept
    data = softstair.encode(pixels, lossless=True)
    np.testing.assert_array_equal(softstair.decode(data), pixels[..., 0] if channels == 1 else pixels)
    assert data == softstair.encode(pixels, quality=100)


def test_a_photograph_without_loss(photo):
    data = softstair.encode(photo, lossless=True)
    np.testing.assert_array_equal(softstair.decode(data), photo)
    assert softstair.encode(photo, target_psnr=60) == data
    assert softstair.encode(photo, target_size=10 * len(data)) == data
    almost = softstair.encode(photo, target_size=len(data) - 1)
    assert softstair.info(almost).exact_tiles == 0


def test_no_target_in_decibels_fails(tiny_bundle):
    pixels = photograph(50, 60)
    for floor in (20, 45, 60, 99, 1000):
        data = softstair.encode(pixels, target_psnr=floor, bundle=tiny_bundle)
        error = np.square(softstair.decode(data, bundle=tiny_bundle).astype(float) - pixels).mean()
        assert error == 0 or 10 * np.log10(255**2 / error) >= floor


def error_of(data, pixels, bundle):
    return np.square(softstair.decode(data, bundle=bundle).astype(float) - pixels).mean()


def test_targets_of_a_screen_with_a_photograph(tiny_bundle, mixed):
    pixels = mixed[0]
    exactly = softstair.encode(pixels, lossless=True)
    assert softstair.encode(pixels, target_size=len(exactly), bundle=tiny_bundle) == exactly
    positions = range(0, tiny_bundle.last_position + 1, 4)
    files = [softstair.encode(pixels, rate_position=at, bundle=tiny_bundle) for at in positions]
    for part in (0.3, 0.6, 0.9):
        limit = int(part * len(files[-1]))
        data = softstair.encode(pixels, target_size=limit, bundle=tiny_bundle)
        assert len(data) <= limit
        if len(data) <= 0.8 * limit:  # a form of one size, which is better than whatever fills the limit
            filling = max((one for one in files if len(one) <= limit), key=len)
            assert error_of(data, pixels, tiny_bundle) <= error_of(filling, pixels, tiny_bundle)
    with pytest.raises(UsageError, match="smallest file"):
        softstair.encode(pixels, target_size=50, bundle=tiny_bundle)


def test_only_one_wish_at_a_time():
    with pytest.raises(UsageError, match="one of quality, lossless"):
        softstair.encode(photograph(8, 8), 75, lossless=True)


def test_hidden_colours_cost_nothing_unless_nothing_may_be_lost(tiny_bundle):
    pixels = np.dstack([screen(64, 80), np.full((64, 80), 255, np.uint8)])
    pixels[20:40, 20:60, 3] = 0
    noisy = pixels.copy()
    noisy[20:40, 20:60, :3] = np.random.default_rng(0).integers(0, 256, (20, 40, 3))
    assert softstair.encode(noisy, bundle=tiny_bundle) == softstair.encode(pixels, bundle=tiny_bundle)
    np.testing.assert_array_equal(softstair.decode(softstair.encode(noisy, lossless=True)), noisy)


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    """More than a tile each way."""
    return screen(2100, 2300, 3)


def test_a_large_picture_without_loss(large):
    data = softstair.encode(large, lossless=True)
    assert softstair.info(data).tiles == softstair.info(data).exact_tiles == 4
    np.testing.assert_array_equal(softstair.decode(data), large)
    region = softstair.decode(data, region=(1000, 900, 500, 700))
    np.testing.assert_array_equal(region, large[900:1600, 1000:1500])
    half = softstair.decode(data, scale=1 / 2)
    assert half.shape == (1050, 1150, 3)
    mean = large.reshape(1050, 2, 1150, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - mean).max() <= 0.5


def test_only_the_tiles_of_a_region_are_read(large):
    data = bytearray(softstair.encode(large, lossless=True))
    reader = StreamReader(bytes(data))
    last = reader.tile(3)
    data[bytes(data).index(last) + len(last) // 2] ^= 1
    np.testing.assert_array_equal(softstair.decode(bytes(data), region=(0, 0, 99, 99)), large[:99, :99])
    with pytest.raises(CorruptStream, match="tile 3"):
        softstair.decode(bytes(data))
    with pytest.warns(PartialPicture, match="1 of 4 tiles"):
        found = softstair.decode(bytes(data), allow_partial=True)
    box = reader.grid.box(3)
    assert (found[box.slices] == 128).all()
    found[box.slices] = large[box.slices]
    np.testing.assert_array_equal(found, large)


def test_tiles_that_no_learned_pixel_needs_have_no_learned_part(tiny_bundle):
    pixels = screen(320, 4200)
    pixels[64:256, 64:320] = photograph(192, 256)
    data = softstair.encode(pixels, quality=60, bundle=tiny_bundle, threads=1)
    stream = read_stream(data)
    parts = [read_exact_payload(stream.tiles[index], index) for index in sorted(stream.exact)]
    assert [bool(part.learned) for part in parts] == [True, False, False]
    decoded = softstair.decode(data, bundle=tiny_bundle)
    np.testing.assert_array_equal(decoded[:, 400:], pixels[:, 400:])
    hidden = softstair.decode(data, region=(2500, 0, 600, 320), bundle=tiny_bundle)
    np.testing.assert_array_equal(hidden, pixels[:, 2500:3100])
    part = softstair.decode(data, region=(50, 40, 300, 250), bundle=tiny_bundle)
    assert np.abs(part.astype(int) - decoded[40:290, 50:350]).max() <= 1


def test_a_grey_screen(tiny_bundle):
    pixels = screen(100, 120)[..., 0]
    data = softstair.encode(pixels, bundle=tiny_bundle)
    assert softstair.info(data).exact_tiles == 1
    np.testing.assert_array_equal(softstair.decode(data), pixels)
    pixels = screen_with_photograph()[0][..., 1]
    decoded = softstair.decode(softstair.encode(pixels, quality=60, bundle=tiny_bundle), bundle=tiny_bundle)
    np.testing.assert_array_equal(decoded[:48], pixels[:48])


def test_regions_and_scales_of_what_is_exact_in_part(tiny_bundle, mixed):
    data = mixed[2]
    whole = softstair.decode(data, bundle=tiny_bundle)
    for left, top, width, height in ((0, 0, 320, 40), (90, 40, 33, 47), (100, 60, 16, 16)):
        part = softstair.decode(data, region=(left, top, width, height), bundle=tiny_bundle)
        expected = whole[top : top + height, left : left + width].astype(int)
        assert np.abs(part - expected).max() <= 1
    small = softstair.decode(data, scale=1 / 4, bundle=tiny_bundle)
    assert np.abs(small - whole.reshape(56, 4, 80, 4, 3).mean(axis=(1, 3))).max() <= 1


def test_little_memory_means_no_exact_tiles_or_a_sentence(tiny_bundle):
    pixels = screen(600, 700)
    with pytest.raises(LimitExceeded, match="MB of memory"):
        softstair.encode(pixels, lossless=True, max_memory=100_000_000)
    data = softstair.encode(pixels, lossless=True)
    with pytest.raises(LimitExceeded, match="MB of memory"):
        softstair.decode(data, max_memory=100_000_000)


def test_info_names_exact_tiles(tmp_path, mixed):
    from click.testing import CliRunner

    from softstair.commands import softstair as command

    for name, data in {"mixed": mixed[2], "exact": softstair.encode(screen(20, 20))}.items():
        (tmp_path / name).write_bytes(data)
        done = CliRunner().invoke(command, ["info", "--json", str(tmp_path / name)])
        fields = json.loads(done.output)
        assert (fields["exact_tiles"], fields["reduced_tiles"]) == (1, 0)
        assert (fields["bundle"] is None) == (fields["mode"] is None) == (name == "exact")


# What lies.


@pytest.mark.parametrize("kind", ["exact", "mixed"])
def test_every_flipped_bit_and_truncation(kind, tiny_bundle, mixed):
    data = softstair.encode(screen(24, 40)) if kind == "exact" else mixed[2]
    step = 1 if kind == "exact" else 41
    for bit in range(0, 8 * len(data), step):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SoftstairError):
            softstair.decode(bytes(damaged), bundle=None if kind == "exact" else tiny_bundle)
    for length in range(0, len(data), step):
        with pytest.raises(StreamError):
            softstair.decode(data[:length], bundle=tiny_bundle)


def webp(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


def liars() -> dict[str, bytes]:
    image = Image.fromarray(screen(224, 320))
    frames = [Image.fromarray(screen(224, 320, seed)) for seed in (1, 2)]
    half = np.dstack([screen(224, 320), np.full((224, 320), 128, np.uint8)])
    good = pack_samples(screen(224, 320))
    return {
        "nothing": b"",
        "one byte": b"\x2f",
        "a whole WebP": webp(image, lossless=True),
        "a lossy WebP": webp(image, quality=80),
        "a lossy bitstream": webp(image, quality=80)[20:],
        "an animation": webp(frames[0], save_all=True, append_images=frames[1:], lossless=True),
        "metadata": webp(image, lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0", xmp=b"<x/>"),
        "another size": pack_samples(screen(223, 320)),
        "sides exchanged": pack_samples(screen(320, 224)),
        "half transparent": pack_samples(half),
        "another version": good[:4] + bytes([good[4] | 0x20]) + good[5:],
        "half of it": good[: len(good) // 2],
        "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "the largest size": b"\x2f\xff\xff\xff\x0f" + bytes(200),
    }


@pytest.mark.parametrize("name", liars())
def test_images_that_are_not_what_they_should_be(name, tiny_bundle, mixed):
    data = with_image(mixed[2], liars()[name])
    with pytest.raises(CorruptStream, match=r"exact image of tile 0"):
        softstair.decode(data, bundle=tiny_bundle)
    decoded = decode_view(data, View(allow_partial=True), tiny_bundle, threads=1)
    assert decoded.missing == (0,)
    assert "1 of 1 tiles" in str(decoded.damage)


def test_gaps_with_nothing_learned_below(tiny_bundle, mixed):
    payload = read_exact_payload(read_stream(mixed[2]).tiles[0], 0)
    with pytest.raises(CorruptStream, match="gaps"):
        softstair.decode(with_image(mixed[2], payload.image, b""), bundle=tiny_bundle)


def test_what_is_learned_under_no_bundle(mixed):
    stream = read_stream(mixed[2])
    header = replace(stream.header, fingerprint=NO_BUNDLE)
    for exact in (stream.exact, frozenset()):
        with pytest.raises(CorruptStream, match="names no bundle"):
            softstair.decode(write_stream(replace(stream, header=header, exact=exact)))


def test_an_exact_payload_that_says_it_is_learned(tiny_bundle, mixed):
    stream = read_stream(mixed[2])
    with pytest.raises(CorruptStream):
        softstair.decode(write_stream(replace(stream, exact=frozenset())), bundle=tiny_bundle)
    plain = softstair.encode(photograph(40, 40), quality=50, bundle=tiny_bundle)
    stream = read_stream(plain)
    with pytest.raises(CorruptStream):
        softstair.decode(write_stream(replace(stream, exact=frozenset({0}))), bundle=tiny_bundle)


def test_what_is_exact_in_part_needs_its_bundle(mixed):
    with pytest.raises(BundleNotFound):
        softstair.decode(mixed[2])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_exact_payloads_with_right_checksums(tiny_bundle, mixed, data):
    stream = read_stream(mixed[2])
    payload = bytearray(stream.tiles[0])
    for _ in range(data.draw(st.integers(1, 5))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    damaged = write_stream(replace(stream, tiles=(bytes(payload),)))
    try:
        pixels = softstair.decode(damaged, bundle=tiny_bundle, threads=1)
    except CorruptStream:
        return
    assert pixels.shape == (224, 320, 3)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_exact_payloads_of_noise(payload):
    stream = read_stream(softstair.encode(screen(16, 16)))
    with pytest.raises(CorruptStream):
        softstair.decode(write_stream(replace(stream, tiles=(payload,))))


def test_cells_are_those_of_the_latents():
    pixels, place = screen_with_photograph(232, 330)
    unlike = look_at_cells(pixels)
    assert unlike is not None
    geometry = Geometry(pixels.shape[1], pixels.shape[0])
    assert unlike.shape == (geometry.rows, geometry.columns)
    rows, columns = (slice(side.start // 16, side.stop // 16) for side in place)
    assert unlike[rows, columns].min() > 100
    assert unlike[:3].max() < 100


def test_exact_alpha_is_smaller_and_whole(tiny_bundle):
    alpha = photograph(100, 120)[..., 1]
    pixels = np.dstack([photograph(100, 120, 2), alpha])
    data = softstair.encode(pixels, quality=50, bundle=tiny_bundle)
    np.testing.assert_array_equal(softstair.decode(data, bundle=tiny_bundle)[..., 3], alpha)
    deflated = np.diff(alpha, axis=0, prepend=np.zeros((1, 120), np.uint8)).tobytes()
    assert measure_parts(StreamReader(data)).alpha < len(zlib.compress(deflated, 9))
