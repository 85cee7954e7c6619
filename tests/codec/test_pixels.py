"""Pixels and what belongs to them: modes, transparency, profiles, EXIF, XMP."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

import softstair
import softstair.pillow
from softstair.codec import Rate, decode_picture, encode_picture
from softstair.pictures import Picture, fill_hidden, picture_from, read_picture, strip, to_pil, write_picture
from softstair.pictures import transparent as transparent_module
from softstair.stream import Metadata, read_stream

from ..commands.test_commands import run
from ..tiny import photograph

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    "<é/></x:xmpmeta><?xpacket end='w'?>"
).encode()


def camera_exif(orientation: int = 6) -> bytes:
    """EXIF as cameras write it: big-endian, an IFD of its own, padding that no parser needs."""
    exif = Image.Exif()
    exif.endian = ">"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Softstair"
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ExposureTime: 0.01, ExifTags.Base.MakerNote: b"\1\2\3\0"}
    return exif.tobytes()[6:] + b"padding"


def photo_png(alpha: np.ndarray) -> bytes:
    """A PNG with everything: alpha, ICC, EXIF with an orientation, XMP."""
    image = Image.fromarray(photograph(*alpha.shape))
    image.putalpha(Image.fromarray(alpha))
    info = PngImagePlugin.PngInfo()
    info.add(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", icc_profile=SRGB, exif=camera_exif(), pnginfo=info)
    return buffer.getvalue()


def a_cut_out(height: int, width: int) -> np.ndarray:
    """Alpha of a disc with a soft edge."""
    rows, columns = np.mgrid[0:height, 0:width]
    distance = np.hypot(rows - height / 2, columns - width / 2)
    return np.clip(255 * (min(height, width) / 3 - distance) / 4, 0, 255).astype(np.uint8)


def everything(png: bytes) -> tuple[bytes, bytes, bytes, bytes, tuple[int, int]]:
    """ICC, EXIF, XMP, alpha and size of a PNG."""
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        info = image.info
        return (
            info["icc_profile"],
            info["exif"],
            info["xmp"],
            image.getchannel("A").tobytes(),
            image.size,
        )


# There and back


def test_png_to_stair_to_png_keeps_everything(tmp_path):
    before = photo_png(a_cut_out(80, 100))
    (tmp_path / "photo.png").write_bytes(before)
    assert run("encode", tmp_path / "photo.png").returncode == 0
    assert run("decode", tmp_path / "photo.stair", "-o", tmp_path / "back.png").returncode == 0
    after = (tmp_path / "back.png").read_bytes()
    assert everything(after) == everything(before)
    assert b"Exif\0\0" + camera_exif() == everything(after)[1]
    with Image.open(tmp_path / "back.png") as image:
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == b"\1\2\3\0"


def test_png_to_stair_to_png_through_pillow_keeps_everything(tmp_path):
    before = photo_png(a_cut_out(80, 100))
    with Image.open(io.BytesIO(before)) as image:
        image.save(tmp_path / "photo.stair", quality=60)
    with Image.open(tmp_path / "photo.stair") as image:
        assert (image.size, image.mode) == ((100, 80), "RGBA")
        info = PngImagePlugin.PngInfo()
        info.add(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + image.info["xmp"])
        image.save(tmp_path / "back.png", exif=image.info["exif"], pnginfo=info)
    assert everything((tmp_path / "back.png").read_bytes()) == everything(before)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_every_output_carries_the_metadata(tiny_bundle, suffix):
    picture = read_picture(photo_png(a_cut_out(40, 40)), "photo")
    with Image.open(io.BytesIO(write_picture(picture, suffix))) as image:
        image.load()
        assert image.info["icc_profile"] == SRGB
        assert image.info["exif"].removeprefix(b"Exif\0\0") == camera_exif()
        assert image.info["xmp"] == XMP
        assert image.getexif()[ExifTags.Base.Orientation] == 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_every_source_gives_the_same_metadata(kind):
    if kind == "AVIF" and "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow has no AVIF")
    buffer = io.BytesIO()
    exif = camera_exif()
    Image.fromarray(photograph(40, 40)).save(buffer, kind, exif=b"Exif\0\0" + exif, icc_profile=SRGB, xmp=XMP)
    metadata = read_picture(buffer.getvalue(), "photo").metadata
    assert metadata.icc == SRGB
    assert metadata.xmp == (None if kind == "PNG" else XMP)  # Pillow's writer of PNG leaves it out
    if kind == "AVIF":  # Pillow moves the orientation into the container and back
        parsed = Image.Exif()
        parsed.load(metadata.exif)
        assert parsed[ExifTags.Base.Orientation] == 6
    else:
        assert metadata.exif == exif


def test_exif_of_a_tiff_tells_of_the_picture_and_not_of_the_tiff():
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Softstair"
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ExposureTime: 0.01}
    Image.fromarray(photograph(20, 30)).save(buffer, "TIFF", exif=exif.tobytes(), icc_profile=SRGB)
    picture = read_picture(buffer.getvalue(), "photo.tiff")
    assert picture.pixels.shape == (30, 20, 3)  # Pillow has turned it
    kept = Image.Exif()
    kept.load(picture.metadata.exif)
    assert kept[ExifTags.Base.Make] == "Softstair"
    assert kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] == pytest.approx(0.01)
    assert ExifTags.Base.Orientation not in kept
    assert ExifTags.Base.StripOffsets not in kept
    assert picture.metadata.icc == SRGB


def test_an_orientation_that_only_xmp_knows_makes_no_exif():
    image = Image.fromarray(photograph(10, 10))
    image.info["xmp"] = b'<x tiff:Orientation="6"/>'
    image.getexif()
    assert picture_from(image).metadata == Metadata(xmp=image.info["xmp"])


# Stripping


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stripped_pictures_look_as_before(orientation):
    """Without its orientation a picture would lie on its side: its pixels are turned instead."""
    metadata = Metadata(SRGB, camera_exif(orientation), XMP)
    picture = Picture(photograph(20, 30), a_cut_out(20, 30), metadata)
    upright = strip(picture, frozenset({"exif"}))
    assert upright.metadata == Metadata(SRGB, None, XMP)
    turns = {1: (0, 0), 2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (1, 1), 6: (3, 0), 7: (3, 1), 8: (1, 0)}
    quarters, mirrored = turns[orientation]
    source = picture.array[:, ::-1] if mirrored else picture.array
    np.testing.assert_array_equal(upright.array, np.rot90(source, quarters))


def test_stripping_what_does_not_turn_leaves_pixels_alone():
    metadata = Metadata(SRGB, camera_exif(6), XMP)
    picture = Picture(photograph(20, 30), None, metadata)
    assert strip(picture, frozenset({"icc", "xmp"})) == Picture(
        picture.pixels, None, Metadata(exif=metadata.exif)
    )
    grey = Picture(picture.pixels[..., 0], None, Metadata(xmp=b'<x tiff:Orientation="8"/>'))
    assert strip(grey, frozenset({"xmp"})).pixels.shape == (30, 20)


def test_strip_on_the_command_line_turns_the_picture(tmp_path):
    (tmp_path / "photo.png").write_bytes(photo_png(a_cut_out(60, 90)))
    assert run("encode", tmp_path / "photo.png", "--strip", "all").returncode == 0
    stream = read_stream((tmp_path / "photo.stair").read_bytes())
    assert (stream.header.width, stream.header.height) == (60, 90)
    assert stream.metadata == Metadata()


# Transparency


def test_hidden_colours_cost_nothing_and_alpha_is_exact(bundle, photo):
    alpha = a_cut_out(*photo.shape[:2])
    rng = np.random.default_rng(1)
    noisy = np.where(alpha[..., None] > 0, photo, rng.integers(0, 256, photo.shape)).astype(np.uint8)
    plain = encode_picture(Picture(photo), Rate(50), bundle)
    hidden = encode_picture(Picture(photo, alpha), Rate(50), bundle)
    noise = encode_picture(Picture(noisy, alpha), Rate(50), bundle)
    assert noise.data == hidden.data
    assert hidden.payload_bytes < 0.6 * plain.payload_bytes
    decoded = decode_picture(hidden.data)
    np.testing.assert_array_equal(decoded.alpha, alpha)
    visible = alpha > 0
    lost = np.abs(decoded.pixels[visible].astype(int) - photo[visible]).mean()
    assert lost < 1.02 * np.abs(softstair.decode(plain.data)[visible].astype(int) - photo[visible]).mean()


def test_a_target_psnr_is_that_of_what_can_be_seen(bundle, photo):
    alpha = a_cut_out(*photo.shape[:2])
    data = encode_picture(Picture(photo, alpha), Rate(target_psnr=28.0), bundle).data
    visible = alpha > 0
    error = np.square(decode_picture(data).pixels[visible].astype(float) - photo[visible]).mean()
    assert 28.0 <= 10 * np.log10(255**2 / error) < 28.3


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]), st.integers(0, 9)
)
def test_a_fill_touches_nothing_visible(height, width, share, seed):
    pixels = photograph(height, width, seed)
    if seed % 2:
        pixels = pixels[..., 0].copy()
    alpha = np.random.default_rng(seed).random((height, width)) < share
    alpha = (alpha * 255).astype(np.uint8)
    before = pixels.copy()
    filled = fill_hidden(pixels, alpha)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(filled[alpha > 0], pixels[alpha > 0])
    if alpha.any():
        assert filled.max() <= pixels[alpha > 0].max() + 3
        assert filled.min() >= pixels[alpha > 0].min() - 3


def test_a_fill_in_stripes_is_the_same(monkeypatch):
    pixels, alpha = photograph(300, 200), a_cut_out(300, 200)
    whole = fill_hidden(pixels, alpha)
    monkeypatch.setattr(transparent_module, "_STRIPE", 64)
    assert np.abs(fill_hidden(pixels, alpha).astype(int) - whole).max() <= 1


def test_a_fill_is_smooth():
    filled = fill_hidden(photograph(200, 300), a_cut_out(200, 300)).astype(int)
    steps = np.abs(np.diff(filled[a_cut_out(200, 300).max(axis=1) == 0], axis=1))
    assert steps.max() <= 4


def test_nothing_to_fill_is_no_copy():
    pixels = photograph(10, 10)
    assert fill_hidden(pixels, None) is pixels
    assert fill_hidden(pixels, np.full((10, 10), 1, np.uint8)) is pixels
    assert not fill_hidden(pixels, np.zeros((10, 10), np.uint8)).any()


# Modes


@pytest.mark.parametrize(
    ("mode", "becomes"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "LA"),
        ("La", "LA"),
        ("P", "RGB"),
        ("PA", "RGBA"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("RGBa", "RGBA"),
        ("RGBX", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
        ("LAB", "RGB"),
        ("I", "L"),
        ("F", "L"),
        ("I;16", "L"),
        ("I;16L", "L"),
        ("I;16B", "L"),
        ("I;16N", "L"),
    ],
)
def test_what_every_mode_becomes(mode, becomes):
    """The table in docs/pictures.md."""
    assert to_pil(picture_from(Image.new(mode, (4, 3)))).mode == becomes


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_values_of_8_bit_modes(mode):
    source = Image.fromarray(photograph(20, 30))
    source.putalpha(Image.fromarray(a_cut_out(20, 30)))
    source = source.convert(mode)
    expected = source.convert({"1": "L", "P": "RGBA"}.get(mode, mode))
    np.testing.assert_array_equal(picture_from(source).array, np.asarray(expected))


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_16_bits_are_rounded_to_the_nearest_of_8(mode):
    values = np.arange(0, 65536, 16, np.uint16).reshape(64, 64)
    image = Image.frombytes(mode, (64, 64), values.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    np.testing.assert_array_equal(picture_from(image).pixels, np.rint(values / 257))


def test_a_colour_that_stands_for_transparent():
    """PNG and GIF mark a colour; it becomes alpha, in 16 bits as well."""
    pixels = np.array([[0, 7, 300]], np.uint16)
    for image, colour in (
        (Image.fromarray(pixels), 300),
        (Image.fromarray(pixels.astype(np.uint8)), 44),
        (Image.fromarray(pixels.astype(np.uint8)).convert("RGB"), (44, 44, 44)),
    ):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", transparency=colour)
        picture = read_picture(buffer.getvalue(), "a.png")
        np.testing.assert_array_equal(picture.alpha, [[255, 255, 0]])


# Profiles


@pytest.mark.parametrize(
    ("mode", "space", "kept"),
    [
        ("RGB", b"RGB ", True),
        ("RGB", b"GRAY", False),
        ("RGB", b"CMYK", False),
        ("YCbCr", b"RGB ", True),
        ("L", b"GRAY", True),
        ("L", b"RGB ", False),
        ("CMYK", b"CMYK", False),
        ("RGB", b"none", True),
    ],
)
def test_profiles_of_other_colours_are_left_out(mode, space, kept):
    image = Image.new(mode, (2, 2), "red" if mode == "RGB" else None)
    image.info["icc_profile"] = bytes(16) + space + bytes(108)
    assert (picture_from(image).metadata.icc is not None) == kept


def cmyk_profile() -> bytes:
    """A press on which black ink alone is dark: CMYK to Lab with L = 100 - 100 K, a = b = 0."""
    straight = bytes(range(256))
    grid = b"".join(bytes([0 if corner & 1 else 255, 128, 128]) for corner in range(16))
    identity = struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + straight * 4 + grid + straight * 3
    table += bytes(-len(table) % 4)
    head = struct.pack(">I4sI4s4s4s", 144 + len(table), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    head += bytes(128 - len(head))
    return head + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_cmyk_goes_through_its_own_profile():
    """The press of the profile ignores cyan, magenta and yellow; the naive rule does not."""
    image = Image.new("CMYK", (2, 1))
    image.putpixel((0, 0), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    naive = picture_from(image).pixels
    image.info["icc_profile"] = cmyk_profile()
    picture = picture_from(image)
    assert picture.metadata.icc is None
    assert naive[0, 0, 0] < 5
    assert picture.pixels[0, 0].min() > 250
    assert picture.pixels[0, 1].max() < 5


def test_cmyk_with_a_broken_profile_is_converted_all_the_same():
    image = Image.new("CMYK", (2, 1), (255, 0, 0, 0))
    expected = picture_from(image).pixels
    image.info["icc_profile"] = cmyk_profile()[:200]
    np.testing.assert_array_equal(picture_from(image).pixels, expected)
