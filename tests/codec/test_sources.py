"""What people's files hold, and what becomes of it: tones, transparency, metadata, pages."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

import softstair
import softstair.pillow
from softstair.errors import LimitExceeded, PictureChanged, SoftstairError, UnreadablePicture, UsageError
from softstair.pictures import (
    Picture,
    check_writable,
    count_pages,
    picture_from,
    read_picture,
    write_and_tell,
    write_picture,
)
from softstair.stream import MAX_METADATA, Metadata

from .. import files_of_people as people
from ..files_of_people import RAMP
from ..tiny import photograph


def read(data: bytes, **options) -> Picture:
    return read_picture(data, "photo", **options)


def kinds(picture: Picture) -> list[str]:
    return [note.kind for note in picture.notes]


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# More than 8 bits


def test_where_white_is_0_in_16_bits():
    """PhotometricInterpretation 0, as X-rays and film scans have it."""
    usual = read(people.tiff(RAMP.astype("<u2")))
    turned = read(people.tiff(RAMP.astype("<u2"), photometric=0))
    np.testing.assert_array_equal(turned.pixels, 255 - usual.pixels)
    np.testing.assert_array_equal(usual.pixels[0], np.rint(RAMP[0].astype("u2") / 257))


def test_12_bits_and_32_bits_have_scales_of_their_own():
    unsigned = np.tile(np.linspace(0, 2**32 - 1, 64).astype("<u4"), (32, 1))
    np.testing.assert_array_equal(
        read(people.tiff(unsigned)).pixels, np.rint(unsigned / (2**32 - 1) * 255).astype(np.uint8)
    )
    packed = np.tile(np.array([0xFF, 0xF0, 0x00], np.uint8), (32, 32))  # white, black, white ..
    data = people.tiff(packed, bits=12).replace(
        struct.pack("<HHII", 256, 4, 1, 96), struct.pack("<HHII", 256, 4, 1, 64)
    )
    assert read(data).pixels[0, :4].tolist() == [255, 0, 255, 0]


@pytest.mark.parametrize(
    ("low", "high", "white"),
    [(0, 1, 1.0), (0, 0.25, 1.0), (0, 255, 255.0), (0, 60000, 65535.0), (-1, 1, 1.0)],
)
def test_floats_of_any_usual_scale(low, high, white):
    values = np.tile(np.linspace(low, high, 64).astype("<f4"), (32, 1))
    picture = read(people.tiff(values, kind=3))
    expected = np.rint(np.clip(values, 0, white) * (255 / white))
    assert np.abs(picture.pixels - expected).max() <= 1
    assert kinds(picture) == ([] if white == 255 else ["floats scaled"])


def test_floats_that_are_not_numbers():
    values = np.full((8, 8), 0.5, "<f4")
    values[0, :3] = np.nan, np.inf, -np.inf
    picture = read(people.tiff(values, kind=3))
    assert picture.pixels[0, :4].tolist() == [0, 255, 0, 128]
    assert "clipped" in picture.notes[0].text


@pytest.mark.parametrize(
    ("samples", "kind", "said"),
    [
        (RAMP.astype("<u2") >> 4, 1, "nearly black"),
        (RAMP.astype("<u2") // 100, 1, "nearly black"),
        ((RAMP - 32768).astype("<i2"), 2, "samples clipped"),
        ((RAMP // 256 - 128).astype("i1"), 2, "samples clipped"),
        ((RAMP // 512).astype("i1"), 2, None),
        (RAMP.astype("<u2"), 1, None),
        (np.zeros((8, 8), "<u2"), 1, None),
    ],
)
def test_what_looks_wrong_is_said(samples, kind, said):
    assert kinds(read(people.tiff(samples, kind=kind))) == ([said] if said else [])


@pytest.mark.parametrize("colour", [2, 6])
def test_16_bit_colour_of_png_is_rounded(colour):
    channels = {2: 3, 6: 4}[colour]
    samples = np.random.default_rng(1).integers(0, 65536, (30, 40, channels)).astype(">u2")
    picture = read(people.png((40, 30), 16, colour, samples.tobytes()))
    np.testing.assert_array_equal(picture.array, np.rint(samples / 257))


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_colour_of_12_bits_in_16_is_said_to_look_nearly_black(colour):
    channels = {2: 3, 4: 2, 6: 4}[colour]
    samples = np.random.default_rng(1).integers(0, 4096, (30, 40, channels)).astype(">u2")
    assert kinds(read(people.png((40, 30), 16, colour, samples.tobytes()))) == ["nearly black"]


def test_signed_bytes_grow_brighter_as_their_numbers_do():
    picture = read(people.tiff(np.array([[-128, -1, 0, 64, 127]], "i1"), kind=2))
    assert picture.pixels.tolist() == [[0, 0, 0, 129, 255]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colour_of_tiff_is_rounded(order):
    tifffile = pytest.importorskip("tifffile", reason="writes 16-bit colour")
    samples = np.random.default_rng(1).integers(0, 65536, (30, 40, 3)).astype("u2")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, byteorder=order, photometric="rgb")
    np.testing.assert_array_equal(read(buffer.getvalue()).pixels, np.rint(samples / 257))


def rounded(samples: np.ndarray, full: int = 65535) -> np.ndarray:
    return np.rint(samples.astype(np.float64) * (255 / full)).astype(np.uint8)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("kind", [2, 3])
@pytest.mark.parametrize("photometric", [0, 1])
def test_signed_and_float_samples_in_any_byte_order(order, deflated, kind, photometric):
    """Pillow reads those of a compressed file in the other order as if they were of this one."""
    if kind == 2 and photometric == 0:
        return  # which Pillow does not read at all
    samples = (RAMP / 2).astype("i2") if kind == 2 else (RAMP / 65535).astype("f4")
    picture = read(people.tiff(samples, photometric, kind, order=order, deflated=deflated))
    wanted = rounded(samples, 32767 if kind == 2 else 1)
    np.testing.assert_array_equal(picture.pixels, wanted if photometric else 255 - wanted)
    if kind == 2:
        whole = people.tiff(samples.astype("i4"), 1, kind, order=order, deflated=deflated)
        np.testing.assert_array_equal(read(whole).pixels, rounded(samples))


ALPHA, MULTIPLIED, OTHER = ((338, 3, value) for value in (2, 1, 0))
PLANES = np.random.default_rng(5).integers(0, 65536, (20, 30, 4)).astype("u2")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("depth", ["u1", "u2"])
@pytest.mark.parametrize(
    ("photometric", "count", "tags"),
    [
        *(
            (0, 1, ()),
            (1, 1, ()),
            (1, 2, (ALPHA,)),
            (1, 2, (OTHER,)),
            (1, 2, (MULTIPLIED,)),
            (2, 3, ()),
            (2, 4, ()),
        ),
        *((2, 4, (ALPHA,)), (2, 4, (OTHER,)), (2, 4, (MULTIPLIED,)), (5, 4, ()), (8, 3, ())),
    ],
)
def test_tiff_in_planes_is_read_as_tiff_without(order, deflated, depth, photometric, count, tags):
    samples = PLANES[..., :count] if depth == "u2" else (PLANES[..., :count] >> 8).astype("u1")
    samples = samples[..., 0] if count == 1 else samples
    files = [
        people.tiff(
            samples, photometric, 1, tags, order=order, planar=planar, deflated=deflated and planar == 2
        )
        for planar in (1, 2)
    ]
    try:
        beside = read(files[0])
    except UnreadablePicture as error:
        assert "TIFF" in str(error)
        with pytest.raises(UnreadablePicture):
            read(files[1])
        return
    if tags == (OTHER,) and not deflated and depth == "u1":
        with pytest.raises(UnreadablePicture, match="TIFF"):  # as Pillow opens none of them
            read(files[1])
        return
    apart = read(files[1])
    np.testing.assert_array_equal(apart.array, beside.array)
    if photometric == 2:
        assert (apart.alpha is not None) == (count == 4 and OTHER not in tags)
        if MULTIPLIED not in tags:
            np.testing.assert_array_equal(
                apart.pixels, rounded(samples[..., :3], np.iinfo(samples.dtype).max)
            )


def test_planes_keep_page_orientation_and_metadata():
    samples = PLANES[..., :3]
    tags = ((274, 3, 6), (700, 1, people.SOURCE))
    picture = read(people.tiff(samples, 2, 1, tags, planar=2))
    np.testing.assert_array_equal(picture.pixels, np.rot90(rounded(samples), 3))
    assert picture.metadata.xmp == people.SOURCE
    with pytest.raises(LimitExceeded, match="memory"):
        read(people.tiff(samples, 2, planar=2), max_memory=60_000_000)


def test_16_bit_colour_multiplied_by_its_alpha_is_divided_before_it_is_rounded():
    colour, alpha = PLANES[..., :3], np.maximum(PLANES[..., 3:], 2000)
    product = np.rint(colour * (alpha / 65535)).astype("u2")
    picture = read(people.tiff(np.dstack([product, alpha]), 2, 1, (MULTIPLIED,)))
    np.testing.assert_array_equal(picture.alpha, rounded(alpha[..., 0]))
    assert np.abs(picture.pixels.astype(int) - rounded(colour)).max() <= 1


@pytest.mark.filterwarnings("ignore:::PIL")
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_planes_are_read_or_refused(data):
    file = bytearray(people.tiff(PLANES, 2, 1, (ALPHA,), planar=2, deflated=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(0, 240))] = data.draw(st.integers(0, 255))
    with suppress(SoftstairError):
        read(bytes(file))


def test_what_pillow_knows_and_cannot_read_is_called_by_its_name():
    with pytest.raises(UnreadablePicture, match=r"photo is TIFF and cannot be read \(unknown pixel mode\)"):
        read(people.tiff((RAMP / 65535).astype("f8"), 1, 3))
    with pytest.raises(UnreadablePicture, match="photo is PNG and cannot be read"):
        read(people.rgb_png()[:20] + b"\xff" + people.rgb_png()[21:])
    with pytest.raises(UnreadablePicture, match="photo is empty"):
        read(b"")


def test_camera_raw_files_are_not_taken_for_their_previews():
    """DNG, NEF, ARW: the first page is a small preview, and the picture is where Pillow does not look."""
    small = PLANES[..., :3].astype("u1")
    for tags in (((254, 4, 1), (330, 4, 8)), ((50706, 1, b"\1\4\0\0"),)):
        with pytest.raises(UnreadablePicture, match="camera raw file"):
            read(people.tiff(small, 2, 1, tags))


def test_a_first_page_that_is_a_smaller_version_is_said():
    buffer = io.BytesIO()
    pages = [Image.fromarray(photograph(side, side)) for side in (20, 40)]
    pages[0].save(buffer, "TIFF", tiffinfo={254: 1}, save_all=True, append_images=pages[1:])
    assert kinds(read(buffer.getvalue())) == ["more pages left out", "smaller version taken"]


def fits(*cards: str) -> bytes:
    """Four by three samples of 16 bits."""
    head = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 4", "NAXIS2  = 3", *cards, "END"]
    return "".join(f"{card:80}" for card in head).ljust(2880).encode() + bytes(2880)


@pytest.mark.parametrize("card", ["BZERO   = 32768 / unsigned", "BSCALE  = 2.5", "BZERO   = what"])
def test_fits_whose_numbers_are_to_be_scaled_is_refused(card):
    assert read_picture(fits("BZERO   = 0", "BSCALE  = 1.0"), "a.fits").pixels.shape == (3, 4)
    with pytest.raises(UnreadablePicture, match=r"a\.fits is FITS whose numbers are to be scaled"):
        read_picture(fits(card), "a.fits")


def test_16_bits_of_sgi_are_cut_and_it_is_said():
    head = struct.pack(">HBBHHHHll", 474, 0, 2, 3, 4, 3, 3, 0, 65535)
    samples = np.full((3, 3, 4), 0x80FF, ">u2")
    picture = read_picture(head.ljust(512, b"\0") + samples.tobytes(), "a.sgi")
    assert (picture.pixels == 0x80).all()
    assert [note.kind for note in picture.notes] == ["16 bits cut"]


def test_grey_with_alpha_of_16_bits_stays_grey_with_its_profile():
    grey = np.tile(np.arange(40, dtype=">u2") * 1600, (30, 1))
    samples = np.dstack([grey, np.full_like(grey, 0x8000)]).astype(">u2")
    profile = people.grey_profile()
    icc = (b"iCCP", b"grey\0\0" + zlib.compress(profile))
    picture = read(people.png((40, 30), 16, 4, samples.tobytes(), icc))
    np.testing.assert_array_equal(picture.pixels, np.rint(grey / 257))
    assert (picture.alpha == 128).all()
    assert picture.metadata.icc == profile
    with Image.open(io.BytesIO(people.png((40, 30), 16, 4, samples.tobytes(), icc))) as image:
        image.load()  # Pillow knows it as RGBA from here on
        assert picture_from(image).is_grey


def test_a_command_tells_and_a_call_warns(tiny_bundle):
    image = Image.fromarray(np.full((20, 20), 0.5, np.float32))
    with pytest.warns(PictureChanged, match="floats"):
        data = softstair.encode(image, bundle=tiny_bundle)
    assert abs(int(softstair.decode(data, bundle=tiny_bundle).mean()) - 128) < 6


# Transparency


@pytest.mark.parametrize(("depth", "key"), [(1, 1), (2, 3), (2, 1), (4, 15), (4, 7), (8, 200), (16, 300)])
def test_the_grey_that_stands_for_transparent_at_any_depth(depth, key):
    values = [x * (1 << depth) // 16 for x in range(16)] if depth < 16 else [*range(296, 312)]
    if depth == 8:
        values = [*range(190, 206)]
    bits = "".join(format(value, f"0{depth}b") for value in values)
    row = int(bits, 2).to_bytes(len(bits) // 8, "big")
    picture = read(people.png((16, 4), depth, 0, row * 4, (b"tRNS", struct.pack(">H", key))))
    assert [at for at in range(16) if picture.alpha[0, at] == 0] == [
        at for at in range(16) if values[at] == key
    ]


def test_the_colour_that_stands_for_transparent_in_16_bits():
    samples = np.zeros((4, 4, 3), ">u2")
    samples[0, 0], samples[0, 1] = (300, 301, 302), (300, 301, 303)
    data = people.png((4, 4), 16, 2, samples.tobytes(), (b"tRNS", struct.pack(">3H", 300, 301, 302)))
    assert (read(data).alpha == 0).nonzero()[0].tolist() == [0]


# Colour


def test_colours_told_by_numbers_get_a_profile():
    linear = read(people.rgb_png((b"gAMA", struct.pack(">I", 100000))))
    wide = read(people.rgb_png((b"cICP", bytes([12, 13, 0, 1]))))
    for picture in (linear, wide):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.metadata.icc))
        assert profile.profile.xcolor_space.strip() == "RGB"
    # Display P3's red, by LittleCMS, is outside sRGB; half of linear light is 188 there.
    srgb = ImageCms.createProfile("sRGB")
    for picture, colour, expected in (
        (linear, (128, 128, 128), (188, 188, 188)),
        (wide, (128, 128, 128), (128,) * 3),
    ):
        source = ImageCms.ImageCmsProfile(io.BytesIO(picture.metadata.icc))
        shown = ImageCms.profileToProfile(Image.new("RGB", (1, 1), colour), source, srgb).getpixel((0, 0))
        assert np.abs(np.subtract(shown, expected)).max() <= 1
    source = ImageCms.ImageCmsProfile(io.BytesIO(wide.metadata.icc))
    shown = ImageCms.profileToProfile(Image.new("RGB", (1, 1), (0, 200, 0)), source, srgb).getpixel((0, 0))
    assert shown[1] > 200


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))],
        [(b"gAMA", struct.pack(">I", 45455))],
        [(b"cICP", bytes([1, 13, 0, 1]))],
    ],
)
def test_srgb_needs_no_profile(chunks):
    assert read(people.rgb_png(*chunks)).metadata.icc is None


def test_a_grey_gamma_becomes_a_grey_profile():
    rows = np.tile(np.arange(40, dtype=np.uint8), (30, 1)).tobytes()
    icc = read(people.png((40, 30), 8, 0, rows, (b"gAMA", struct.pack(">I", 100000)))).metadata.icc
    assert icc[16:20] == b"GRAY"


def test_colours_of_hdr_displays_are_said():
    assert kinds(read(people.rgb_png((b"cICP", bytes([9, 16, 0, 1]))))) == ["HDR colours not kept"]


def test_a_profile_that_does_not_fit_is_said():
    grey = Image.new("L", (8, 8))
    other = bytes(16) + b"RGB " + bytes(108)
    assert kinds(read(saved(grey, "PNG", icc_profile=other))) == ["profile not kept"]


# Metadata


def test_extended_xmp_is_one_packet_and_two_again_in_jpeg():
    extended = people.depth_map(150_000)
    picture = read(people.jpeg(*people.extended_xmp(extended)))
    assert b"QUJDQUJD" in picture.metadata.xmp
    assert b"HasExtendedXMP" not in picture.metadata.xmp
    again = write_picture(picture, ".jpg")
    assert again.count(b"http://ns.adobe.com/xmp/extension/\0") == 3
    assert read(again).metadata.xmp.count(b"QUJD") == picture.metadata.xmp.count(b"QUJD")
    with Image.open(io.BytesIO(people.jpeg(*people.extended_xmp(extended)))) as image:
        assert b"QUJDQUJD" in picture_from(image).metadata.xmp


def test_extended_xmp_that_is_not_whole_is_said():
    picture = read(people.jpeg(*people.extended_xmp(people.depth_map(150_000), cut=100)))
    assert kinds(picture) == ["extended XMP not kept"]
    assert b"HasExtendedXMP" not in picture.metadata.xmp


def test_small_properties_of_a_large_packet_stay_where_all_readers_look():
    small = b"<dc:title>a title</dc:title>"
    large = b"<dc:history>" + b"saved " * 20_000 + b"</dc:history>"
    packet = people.PACKET % (
        b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        + large
        + small
        + b"</rdf:Description>"
    )
    data = write_picture(Picture(photograph(20, 20), None, Metadata(xmp=packet)), ".jpg")
    with Image.open(io.BytesIO(data)) as image:
        assert small in image.info["xmp"]
        assert large not in image.info["xmp"]
    assert large in read(data).metadata.xmp


def test_a_packet_that_is_no_xml_and_too_large_for_jpeg_is_said():
    picture = Picture(photograph(20, 20), None, Metadata(xmp=b"<a" + b"x" * 70_000))
    written = write_and_tell(picture, ".jpg")
    assert [note.kind for note in written.notes] == ["XMP not kept"]
    assert read(written.data).metadata.xmp is None
    assert read(write_picture(picture, ".png")).metadata.xmp == picture.metadata.xmp


def test_transparency_that_jpeg_has_no_place_for_is_said():
    pixels, alpha = photograph(20, 30), photograph(20, 30, 2)[..., 0]
    for suffix, said in ((".jpg", ["transparency not kept"]), (".png", []), (".webp", [])):
        assert [note.kind for note in write_and_tell(Picture(pixels, alpha), suffix).notes] == said
    assert write_and_tell(Picture(pixels, np.full_like(alpha, 255)), ".jpg").notes == ()


def test_exif_that_is_too_large_for_jpeg():
    thumbnail = people.exif_with_thumbnail(bytes([1]) * 66_000)
    picture = Picture(photograph(40, 40), None, Metadata(exif=thumbnail))
    assert [note.kind for note in write_and_tell(picture, ".jpg").notes] == ["thumbnail not kept"]
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    turned[ExifTags.Base.ImageDescription] = "x" * 70_000
    exif = turned.tobytes()[6:]
    written = write_and_tell(Picture(photograph(30, 40), None, Metadata(exif=exif)), ".jpg")
    assert [note.kind for note in written.notes] == ["EXIF not kept"]
    with Image.open(io.BytesIO(written.data)) as image:
        assert image.size == (30, 40)  # turned, as its orientation is gone


@pytest.mark.parametrize("tail", [b"", b"\0", b"\nmore"])
def test_metadata_that_png_holds_as_text(tail):
    read_back = read(
        people.rgb_png(
            people.raw_profile("exif", b"Exif\0\0" + people.EXIF, tail),
            people.raw_profile("xmp", people.SOURCE, tail),
            people.raw_profile("iptc", people.photoshop_segment(people.IPTC)[1], tail),
        )
    ).metadata
    assert read_back == Metadata(None, people.EXIF, people.SOURCE, people.IPTC)
    app1 = people.raw_profile("APP1", b"http://ns.adobe.com/xap/1.0/\0" + people.SOURCE, tail)
    assert read(people.rgb_png(app1)).metadata.xmp == people.SOURCE


def test_iptc_there_and_back(tiny_bundle):
    picture = read(people.jpeg(people.photoshop_segment(people.IPTC)))
    assert picture.metadata.iptc == people.IPTC
    data = softstair.encode(picture, bundle=tiny_bundle)
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["photoshop"] == {0x0404: people.IPTC}
    for suffix in (".jpg", ".png"):
        assert read(write_picture(picture, suffix)).metadata.iptc == people.IPTC
    assert [note.kind for note in write_and_tell(picture, ".webp").notes] == ["IPTC not kept"]


@pytest.mark.parametrize("tag", [(33723, 7), (33723, 1), (34377, 7)])
def test_iptc_of_tiff(tag):
    number, form = tag
    content = people.IPTC if number == 33723 else people.photoshop_segment(people.IPTC)[1][14:]
    data = people.tiff(RAMP.astype("u1"), tags=((number, form, content),))
    assert read(data).metadata.iptc == people.IPTC


def test_metadata_in_boxes_of_jpeg_2000():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    boxes = [
        (b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + people.SOURCE),
        (b"uuid", b"JpgTiffExif->JP2" + people.EXIF),
        (b"uuid", bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38") + people.IPTC),
    ]
    metadata = read(people.jpeg_2000(40, *boxes, profile=profile)).metadata
    assert metadata == Metadata(profile, people.EXIF, people.SOURCE, people.IPTC)
    assert read(people.jpeg_2000(40)).metadata == Metadata()


@pytest.mark.parametrize("chunk", [b"tEXt", b"zTXt"])
def test_xmp_in_a_chunk_of_plain_text(chunk):
    text = people.SOURCE if chunk == b"tEXt" else b"\0" + zlib.compress(people.SOURCE)
    assert read(people.rgb_png((chunk, b"XML:com.adobe.xmp\0" + text))).metadata.xmp == people.SOURCE


@pytest.mark.parametrize("gamma", [1, 45455, 2**31])
@pytest.mark.parametrize("chromaticity", [[5] * 8, [31270, 32900] + [30000] * 6, [0, 1, 64000, 33000] * 2])
def test_colours_that_no_light_has_are_no_error(gamma, chromaticity):
    chunks = (b"gAMA", struct.pack(">I", gamma)), (b"cHRM", struct.pack(">8I", *chromaticity))
    assert read(people.rgb_png(*chunks)).pixels.shape == (30, 40, 3)


def test_a_page_has_no_profile_of_another_one():
    buffer, icc = io.BytesIO(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with TiffImagePlugin.AppendingTiffWriter(buffer) as file:
        for options in ({"icc_profile": icc}, {}):
            Image.fromarray(photograph(20, 30)).save(file, "TIFF", **options)
            file.newFrame()
    pages = [read(buffer.getvalue(), page=number).metadata.icc for number in (1, 2)]
    assert pages == [icc, None]


def test_a_gain_map_is_said_and_no_longer_announced():
    picture = read(people.ultra_hdr())
    assert kinds(picture) == ["gain map not kept"]
    for word in (b"GainMap", b"hdrgm", b"Container", b"hdr-gain-map"):
        assert word not in picture.metadata.xmp
    assert b"archive 42" in picture.metadata.xmp


def test_a_gain_map_in_avif_is_said():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(buffer, "AVIF")
    plain = buffer.getvalue()
    assert kinds(read(plain)) == []
    item = b"\0\0\0\x0cfreetmap"  # the kind of an item that makes the two one
    assert kinds(read(plain + item)) == ["gain map not kept"]


def test_films_and_pictures_behind_a_picture_are_said():
    film = people.jpeg(tail=struct.pack(">I", 24) + b"ftypmp42" + bytes(400))
    assert kinds(read(film)) == ["film not kept"]
    assert kinds(read(people.jpeg(tail=people.jpeg()))) == ["further pictures not kept"]
    assert kinds(read(people.jpeg(tail=bytes(40)))) == []


def test_a_film_behind_a_gain_map_is_said_too():
    film = bytes(100_000) + b"\0\0\0\x18ftypmp42" + bytes(200_000)
    assert kinds(read(people.ultra_hdr() + film)) == ["film not kept", "gain map not kept"]


def test_calls_and_pillow_tell_what_an_image_leaves_in_its_file(tiny_bundle):
    frames = [Image.fromarray(photograph(20, 30, seed)) for seed in (1, 2)]
    for kind, word in (("PNG", "frames"), ("WEBP", "frames"), ("GIF", "frames"), ("TIFF", "pages")):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        image = Image.open(io.BytesIO(data))
        with pytest.warns(PictureChanged, match=f"Only the first of its 2 {word} is taken"):
            softstair.encode(image, bundle=tiny_bundle)
        image.seek(1)
        softstair.encode(image, bundle=tiny_bundle)  # who asked for a frame needs no word
    with pytest.warns(PictureChanged, match="gain map"):
        Image.open(io.BytesIO(people.ultra_hdr())).save(io.BytesIO(), "STAIR", bundle=tiny_bundle)
    with pytest.raises(ValueError, match="holds one picture"):
        frames[0].save(io.BytesIO(), "STAIR", save_all=True, append_images=frames[1:])
    frames[0].save(io.BytesIO(), "STAIR", save_all=True, bundle=tiny_bundle)


def test_xmp_that_announces_and_cannot_be_mended_is_left_out():
    packet = b"<a xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/' hdrgm:Version"
    picture = read(people.jpeg(people.xmp_segment(packet)))
    assert (picture.metadata.xmp, "XMP not kept" in kinds(picture)) == (None, True)


def test_entities_in_xmp_are_not_expanded():
    bomb = b"<!DOCTYPE a [<!ENTITY b 'bbbbbbbbbb'>]>" + people.SOURCE.replace(
        b"archive", b"HasExtendedXMP&b;"
    )
    assert read(people.jpeg(people.xmp_segment(bomb))).metadata.xmp == bomb


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("how", ["pop", "clear", "new"])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_exif_that_was_taken_out_does_not_come_back(kind, how, touched):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (50.0, 3.0, 4.5)}
    packet = b'<x tiff:Orientation="6"/>'
    image = Image.open(
        io.BytesIO(saved(Image.fromarray(photograph(20, 20)), kind, exif=exif.tobytes(), xmp=packet))
    )
    image.load()
    if touched:
        image.getexif()
    if how == "pop":
        if kind == "TIFF":
            pytest.skip("the info of a TIFF holds no EXIF that could be taken out alone")
        image.info.pop("exif")
    elif how == "clear":
        image.info.clear()
    else:
        image.info = {}
    assert picture_from(image).metadata.exif is None


def test_a_place_taken_out_of_exif_is_gone():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (50.0, 3.0, 4.5)}
    image = Image.open(io.BytesIO(saved(Image.fromarray(photograph(20, 20)), "JPEG", exif=exif)))
    del image.getexif()[ExifTags.IFD.GPSInfo]
    kept = Image.Exif()
    kept.load(picture_from(image).metadata.exif)
    assert dict(kept) == {ExifTags.Base.Make: "Maker"}


def test_a_part_has_no_thumbnail_of_the_whole(tiny_bundle):
    thumbnail = saved(Image.fromarray(photograph(10, 10)), "JPEG")
    exif = people.exif_with_thumbnail(thumbnail)
    source = Picture(photograph(40, 40), None, Metadata(exif=exif))
    data = softstair.encode(source, bundle=tiny_bundle)
    from softstair.codec import View, decode_view

    for view, size in ((View((4, 6, 20, 10)), (20, 10)), (View(divisor=2), (20, 20))):
        part = decode_view(data, view, tiny_bundle).picture.metadata.exif
        assert thumbnail not in part
        found = Image.Exif()
        found.load(part)
        inner = found.get_ifd(ExifTags.IFD.Exif)
        assert (inner[0xA002], inner[0xA003]) == size
    assert decode_view(data, View(), tiny_bundle).picture.metadata.exif == exif


def test_a_crop_by_pillow_has_no_thumbnail_of_the_whole():
    thumbnail = saved(Image.fromarray(photograph(10, 10)), "JPEG")
    exif = b"Exif\0\0" + people.exif_with_thumbnail(thumbnail)
    image = Image.open(io.BytesIO(people.jpeg((0xE1, exif))))
    assert thumbnail in picture_from(image).metadata.exif
    assert thumbnail not in picture_from(image.crop((2, 2, 20, 20))).metadata.exif


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_exif_is_cut_without_a_crash(data):
    from softstair.pictures import for_a_part

    exif = bytearray(people.exif_with_thumbnail(bytes(40)))
    for _ in range(data.draw(st.integers(1, 5))):
        exif[data.draw(st.integers(0, len(exif) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(exif)))
    part = for_a_part(Metadata(exif=bytes(exif[:length])), 10, 10).exif
    assert len(part) <= length


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_are_read_or_refused(data):
    source = data.draw(st.sampled_from(SOURCES))
    damaged = bytearray(source)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(SoftstairError):
        read(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]), max_memory=200_000_000)


SOURCES = [
    people.ultra_hdr(),
    people.jpeg(*people.extended_xmp(people.depth_map(2000)), people.photoshop_segment(people.IPTC)),
    people.rgb_png(people.raw_profile("xmp", people.SOURCE), (b"gAMA", struct.pack(">I", 100000))),
    people.tiff(RAMP.astype("<u2"), photometric=0),
]


# Pages


def letter() -> bytes:
    pages = [Image.new("L", (20, 10), value) for value in (250, 150, 50)]
    return saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])


def test_pages_are_told_and_can_be_chosen():
    first = read(letter())
    assert kinds(first) == ["more pages left out"]
    assert "3 pages" in first.notes[0].text
    for page, value in ((1, 250), (2, 150), (3, 50)):
        picture = read(letter(), page=page)
        assert (picture.pixels[0, 0], picture.notes) == (value, ())
    for page in (0, 4):
        with pytest.raises(UsageError, match="no page"):
            read(letter(), page=page)
    assert count_pages(letter(), "letter") == 3
    assert count_pages(people.jpeg(), "photo") == 1


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_frames_are_told(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    animation = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert kinds(read(animation)) == ["more frames left out"]
    assert read(animation, page=2).pixels[0, 0].tolist() == pytest.approx([0, 0, 255], abs=3)


# Sizes


def test_a_side_that_no_stream_holds_is_refused_unread():
    size = struct.pack(">IIBBBBB", 70000, 10, 8, 0, 0, 0, 0)
    empty = b"\x89PNG\r\n\x1a\n" + chunk_of(b"IHDR", size) + chunk_of(b"IDAT", b"") + chunk_of(b"IEND", b"")
    with pytest.raises(LimitExceeded, match="at most 65536 a side"):
        read(empty)
    with pytest.raises(LimitExceeded, match="at most 65536 a side"):
        softstair.encode(np.zeros((1, 65537), np.uint8))


chunk_of = people.chunk


def test_200_megapixels_are_sized_up_before_they_are_read():
    size = struct.pack(">IIBBBBB", 16320, 12240, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk_of(b"IHDR", size) + chunk_of(b"IDAT", b"") + chunk_of(b"IEND", b"")
    with pytest.raises(LimitExceeded, match=r"16320x12240 .*--max-memory"):
        read(data, max_memory=100_000_000)
    with pytest.raises(UnreadablePicture, match="cannot be decoded"):
        read(data)


def test_what_cannot_be_written_is_known_before_decoding():
    with pytest.raises(UsageError, match="16383 pixels a side"):
        check_writable(".webp", 16384, 10)
    with pytest.raises(UsageError, match="65500 pixels a side"):
        check_writable(".jpg", 10, 65536)
    with pytest.raises(LimitExceeded, match="or write PNG"):
        check_writable(".webp", 8000, 6000, 900_000_000)
    check_writable(".png", 8000, 6000, 900_000_000)


def test_more_metadata_than_is_read_is_not_written(tiny_bundle):
    picture = Picture(photograph(20, 20), None, Metadata(exif=bytes(MAX_METADATA), xmp=b"x"))
    with pytest.raises(LimitExceeded, match="--strip"):
        softstair.encode(picture, bundle=tiny_bundle)


# Formats


@pytest.mark.parametrize("kind", ["BMP", "GIF", "PPM", "TGA", "PCX", "JPEG2000", "ICO", "WEBP", "AVIF"])
def test_formats_that_pillow_opens(kind):
    if kind not in Image.SAVE:
        Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    picture = read(saved(Image.fromarray(photograph(32, 32)), kind))
    assert picture.pixels.shape == (32, 32, 3)


def test_heic():
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra formats is not installed")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(photograph(64, 64))).save(buffer, quality=90)
    picture = read(buffer.getvalue())
    assert np.abs(picture.pixels.astype(int) - photograph(64, 64)).mean() < 8


def test_jpeg_xl():
    pillow_jxl = pytest.importorskip("pillow_jxl", reason="the extra formats is not installed")
    assert pillow_jxl
    picture = read(saved(Image.fromarray(photograph(64, 64)), "JXL", lossless=True))
    np.testing.assert_array_equal(picture.pixels, photograph(64, 64))


@pytest.mark.parametrize(
    ("start", "module", "name"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "pillow_heif", "HEIC"),
        (b"\xff\x0a" + bytes(40), "pillow_jxl", "JPEG XL"),
    ],
)
def test_formats_that_need_more_say_what(start, module, name, monkeypatch):
    from softstair.pictures import formats

    monkeypatch.setattr(formats, "find_spec", lambda asked: None)
    with pytest.raises(UnreadablePicture, match=rf"{name}.*softstair\[formats\]"):
        read(start)


def test_programs_are_not_run():
    """EPS is a program, which Pillow would hand to another one."""
    with pytest.raises(UnreadablePicture, match="not a picture"):
        read(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")


def test_a_stair_file_is_not_encoded_again(tiny_bundle):
    data = softstair.encode(photograph(20, 20), bundle=tiny_bundle)
    with pytest.raises(UnreadablePicture, match="a .stair file already"):
        read(data)


# Damage


def scan_of(data: bytes) -> int:
    """Where the pixels of a JPEG begin."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize("restart", [0, 3])
def test_jpegs_whose_data_is_damaged_are_named(progressive, optimise, restart, grey):
    for size, quality in (((1, 1), 90), ((17, 33), 5), ((90, 120), 95)):
        pixels = photograph(*size)
        image = Image.fromarray(pixels[..., 0] if grey else pixels)
        options = {"quality": quality, "progressive": progressive, "optimize": optimise}
        data = saved(image, "JPEG", restart_marker_blocks=restart, **options)
        assert kinds(read(data)) == []
    middle = (scan_of(data) + len(data)) // 2
    zeros = data[:middle] + bytes(len(data) - middle - 2) + data[-2:]
    assert kinds(read(zeros)) == ["damaged"]
    assert kinds(read(data[: middle - 200] + data[middle + 200 :])) == ["damaged"]


def test_a_jpeg_with_a_few_bytes_too_many_is_not_called_damaged():
    data = people.jpeg()
    assert kinds(read(data[:-2] + bytes(8) + data[-2:])) == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_are_checked_without_a_crash(data):
    from softstair import _core

    damaged = bytearray(data.draw(st.sampled_from(SOURCES[:2] + PROGRESSIVE)))
    for _ in range(data.draw(st.integers(0, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert _core.jpeg_is_damaged(bytes(damaged[: data.draw(st.integers(0, len(damaged)))])) in (False, True)


PROGRESSIVE = [saved(Image.fromarray(photograph(40, 50)), "JPEG", progressive=True)]


def test_exif_that_parsers_choke_on_turns_pixels_all_the_same():
    """A tag of a wrong type and an orientation: read by its number, with no parser that writes it again."""
    exif = (
        b"MM\0*\0\0\0\x08\0\x03\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01B\0\x02\0\0\0\x06\0\0\0\x32\x87i\0\x04"
    )
    exif += b"\0\0\0\x01\0\0\0\x08\0\0\0\0hello\0"
    from softstair.pictures import strip
    from softstair.view.display import as_png

    picture = read(people.jpeg((0xE1, b"Exif\0\0" + exif)))
    source = Picture(photograph(30, 40), None, picture.metadata)
    assert source.metadata.exif == exif
    assert strip(source, frozenset({"exif"})).pixels.shape == (40, 30, 3)
    with Image.open(io.BytesIO(as_png(source))) as image:
        assert image.size == (30, 40)


# Calls with what is no picture, or no option


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("photo.png", "Of str no picture is made; open the file with PIL.Image.open"),
        (b"\x89PNG", "Of bytes no picture is made"),
        (Image.new("RGB", (0, 5)), "no pixels: it is of 0x5"),
        (Image.open(io.BytesIO(people.rgb_png()[:900])), "cannot be decoded: image file is truncated"),
    ],
)
def test_what_is_no_picture_is_said(image, sentence):
    with pytest.raises(UsageError, match=sentence):
        softstair.encode(image)


def test_an_image_that_was_closed():
    image = Image.new("RGB", (4, 4))
    image.close()
    with pytest.raises(UnreadablePicture, match="closed image"):
        softstair.encode(image)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"quality": True}, "Quality must be a number, not True"),
        ({"quality": "75"}, "Quality must be a number, not '75'"),
        ({"rate_position": 1.5}, "Position must be a whole number"),
        ({"target_size": "10k"}, "Target size must be a number"),
        ({"threads": -1}, "Threads must be a whole number of at least 1"),
        ({"bundle": "photo"}, "A bundle is what softstair.open_bundle returns, not 'photo'"),
    ],
)
def test_options_of_another_kind_are_said(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        softstair.encode(photograph(8, 8), **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"region": (1, 2, 3)}, "four whole numbers, not"),
        ({"region": (0.5, 0, 1, 1)}, "four whole numbers, not"),
        ({"scale": "1/2"}, "not by 1/2"),
        ({"threads": 0}, "Threads must be"),
        ({"bundle": 3}, "A bundle is what"),
    ],
)
def test_parts_of_another_kind_are_said(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        softstair.decode(softstair.encode(photograph(8, 8), lossless=True), **options)
