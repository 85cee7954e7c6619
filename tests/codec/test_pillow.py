"""The Pillow plugin. Many of these are bugs that plugins for other formats had."""

from __future__ import annotations

import copy
import ctypes
import io
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

import softstair
import softstair.pillow
from softstair.errors import SoftstairError
from softstair.pictures import Picture
from softstair.pillow import StairImageFile
from softstair.stream import Metadata, read_stream

from ..conftest import GOLDEN
from ..tiny import photograph

V1 = GOLDEN / "v1"
PLAIN = V1 / "plain.stair"


@pytest.fixture(autouse=True)
def _tiny_is_installed(monkeypatch):
    monkeypatch.setenv("SOFTSTAIR_MODELS", str(V1))


@pytest.fixture
def save(tiny_bundle):
    """Save with the tiny bundle; the bytes."""

    def save(image: Image.Image, **options) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "STAIR", **{"bundle": tiny_bundle, "quality": 50, **options})
        return buffer.getvalue()

    return save


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    return exif


def photo(mode: str = "RGB") -> Image.Image:
    image = Image.fromarray(photograph(40, 56))
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.convert(mode)


# Opening


def test_pillow_knows_the_format():
    softstair.pillow.register()
    softstair.pillow.register()
    assert Image.ID.count("STAIR") == 1
    assert Image.registered_extensions()[".stair"] == "STAIR"
    with Image.open(PLAIN) as image:
        assert image.format == "STAIR"
        assert image.get_format_mimetype() == Image.MIME["STAIR"] == "image/x-stair"
        assert image.format_description


@pytest.mark.parametrize("path", sorted(V1.glob("*.stair")), ids=lambda path: path.stem)
def test_every_golden_stream_opens_and_is_what_decode_returns(path):
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), softstair.decode(path.read_bytes()))


def test_opening_starts_no_engine_and_reads_no_payload():
    """Header only: the bundle of this stream is not even installed."""
    code = (
        "import sys, softstair.pillow\n"
        "from PIL import Image\n"
        f"with Image.open({str(PLAIN)!r}) as image:\n"
        "    assert (image.size, image.mode) == ((90, 75), 'RGB')\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "SOFTSTAIR_MODELS"}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)


def test_opening_reads_little_of_a_large_file(save):
    data = save(photo().resize((400, 300)), quality=100, exif=exif_with(6))

    class Counting(io.BytesIO):
        count = 0

        def read(self, size=-1):
            piece = super().read(size)
            self.count += len(piece)
            return piece

    file = Counting(data)
    image = Image.open(file, formats=["STAIR"])  # what others read to know it is not counted
    assert image.getexif()[0x0112] == 6
    assert file.count < 300 < len(data) / 30


def test_importing_softstair_registers_nothing():
    code = "import softstair; from PIL import Image; assert 'STAIR' not in Image.OPEN"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_bomb_check_comes_before_any_decoding(monkeypatch):
    monkeypatch.setattr("softstair.pillow.decode_view", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(Image.DecompressionBombError, match="6750"):
        Image.open(PLAIN)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(PLAIN).close()


def test_the_limit_holds_for_who_goes_round_the_check(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with StairImageFile(PLAIN) as image, pytest.raises(Image.DecompressionBombError, match="limit of 4000"):
        image.load()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(PLAIN) as image:
        image.load()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_modes_are_known_before_pixels(save, mode):
    """Grey opened as RGB, alpha that appeared with the pixels: not here."""
    image = opened(save(photo(mode)))
    assert (image.mode, image.size) == (mode, (56, 40))
    image.load()
    assert (image.mode, image.size) == (mode, (56, 40))
    if "A" in mode:
        assert image.getchannel("A").tobytes() == photo(mode).getchannel("A").tobytes()


def test_pixels_can_be_changed(save):
    for mode in ("L", "RGBA"):
        image = opened(save(photo(mode)))
        image.load()
        image.putpixel((3, 4), 77 if mode == "L" else (1, 2, 3, 4))
        assert image.getpixel((3, 4)) == (77 if mode == "L" else (1, 2, 3, 4))


def test_thumbnail_and_draft(save):
    image = opened(save(photo()))
    assert image.draft("RGB", (10, 10)) == ("RGB", (0, 0, 14.0, 10.0))
    assert image.size == (14, 10)
    image = opened(save(photo()))
    image.thumbnail((14, 14))
    assert image.size == (14, 10)


def test_frames():
    with Image.open(PLAIN) as image:
        image.seek(0)
        with pytest.raises(EOFError):
            image.seek(1)


# Files and their lifetime


def test_a_file_of_our_own_is_closed_after_loading():
    image = Image.open(PLAIN)
    file = image.fp
    image.load()
    assert file.closed
    image.load()
    assert image.getpixel((0, 0))


def test_a_file_of_the_callers_stays_open():
    with PLAIN.open("rb") as file:
        with Image.open(file) as image:
            image.load()
        assert not file.closed


def test_a_file_that_cannot_seek():
    class Pipe:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def read(self) -> bytes:
            return self._data

    image = Image.open(Pipe(PLAIN.read_bytes()))
    image.load()
    assert image.size == (90, 75)


@pytest.mark.parametrize("loaded", [False, True])
def test_closed_images_say_so(loaded):
    image = Image.open(PLAIN)
    if loaded:
        image.load()
    image.close()
    with pytest.raises(ValueError, match="closed image"):
        image.load()


def test_loading_after_the_file_went_away_says_so():
    with Image.open(PLAIN) as image:
        pass
    with pytest.raises(ValueError, match="closed image"):
        image.load()


def test_a_file_that_was_replaced_after_opening(save):
    file = io.BytesIO(save(photo()))
    image = Image.open(file)
    file.seek(0)
    file.write(save(photo().resize((10, 10))))
    file.truncate()
    with pytest.raises(OSError, match="open it again"):
        image.load()


def test_pickled_copied_and_made_from_nothing(save):
    """Objects without their decoder must not miss it."""
    data = save(photo("RGBA"), exif=exif_with(6))
    pixels = opened(data).tobytes()
    for loaded in (False, True):
        image = opened(data)
        if loaded:
            image.load()
        for twin in (pickle.loads(pickle.dumps(image)), copy.copy(image), copy.deepcopy(image), image.copy()):
            assert twin.tobytes() == pixels
            assert twin.getexif()[0x0112] == 6
            twin.load()
            twin.convert("L").resize((5, 5)).load()


def test_threads(save):
    data = save(photo("RGBA"))
    pixels = opened(data).tobytes()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: opened(data).tobytes(), range(24))) == {pixels}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_decodes_after_its_parent_did():
    """Data loaders fork; threads of an engine do not come along."""
    softstair.decode(PLAIN.read_bytes(), threads=2)
    child = os.fork()
    if child == 0:
        try:
            softstair.decode(PLAIN.read_bytes(), threads=2)
            Image.open(PLAIN).load()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_incremental_parsing():
    data = PLAIN.read_bytes()
    with ImageFile.Parser() as parser:
        for start in range(0, len(data), 7):
            parser.feed(data[start : start + 7])
    assert parser.image.size == (90, 75)
    np.testing.assert_array_equal(np.asarray(parser.image), softstair.decode(data))


LEAKS = """
import ctypes, gc, io, os, sys
import softstair.pillow
from PIL import Image

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one thread: quick on a busy machine too
data = open(sys.argv[1], "rb").read()

def decode():
    with Image.open(sys.argv[1]) as image:
        image.load()

def open_only():
    Image.open(io.BytesIO(data)).close()

def fail():
    try:
        Image.open(io.BytesIO(data[:-30])).load()
    except OSError:
        return
    raise SystemExit("a cut file was loaded")

class Mallinfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo

def used():
    gc.collect()
    info = mallinfo()
    return info.uordblks + info.hblkhd, sys.getallocatedblocks(), len(os.listdir("/proc/self/fd"))

for work in (decode, open_only, fail):
    marks = []
    for _ in range(6):
        for _ in range(100):
            work()
        marks.append(used())
    # A leak grows in every round; what is kept for later comes once.
    print(*(min(late - early for early, late in zip(one, one[1:])) for one in zip(*marks)))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs the allocator of glibc")
def test_a_thousand_decodes_leak_nothing():
    # Counted by the allocators: how many pages they hold depends on what else the machine does.
    done = subprocess.run(
        [sys.executable, "-c", LEAKS, str(V1 / "alpha.stair")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        grown, blocks, files = map(int, line.split())
        assert files == 0
        assert grown < 1600  # of 100 calls, 16 bytes each
        assert blocks < 75  # less than an object each


# Errors


def test_not_our_file_leaves_it_to_others():
    with pytest.raises(SyntaxError, match="does not start like"):
        StairImageFile(io.BytesIO(b"something else entirely"))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"something else entirely"))


def test_a_broken_header_is_unidentified_in_our_words():
    data = bytearray(PLAIN.read_bytes())
    data[4] = 9
    with pytest.raises(UnidentifiedImageError, match="version 9") as caught:
        opened(bytes(data))
    assert isinstance(caught.value.__cause__, SoftstairError)
    for length in range(4, 20):
        with pytest.raises(UnidentifiedImageError, match="not complete"):
            opened(PLAIN.read_bytes()[:length])


def test_cut_and_damaged_files_open_and_fail_to_load(monkeypatch):
    data = PLAIN.read_bytes()
    damaged = data[:60] + bytes([data[60] ^ 1]) + data[61:]
    for bad, word in ((data[:-5], "not complete"), (damaged, "damaged")):
        image = opened(bad)
        with pytest.raises(OSError, match=word) as caught:
            image.load()
        assert isinstance(caught.value.__cause__, SoftstairError)
        with pytest.raises(OSError, match=word):
            opened(bad).verify()
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        image.load()  # the image that failed is not lost
        assert image.size == (90, 75)
        grey = np.asarray(image) == 128
        assert grey.all() == (bad is damaged)  # what is only cut is shown
        monkeypatch.undo()
        monkeypatch.setenv("SOFTSTAIR_MODELS", str(V1))


def test_tiles_that_are_whole_are_shown(save, monkeypatch):
    data = save(Image.fromarray(photograph(32, 2200)).convert("LA"))
    whole = np.asarray(opened(data))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = opened(data[: len(data) - 200])
    assert image.mode == "LA"
    shown = np.asarray(image)
    np.testing.assert_array_equal(shown[:, :900, 0], whole[:, :900, 0])
    assert (shown[..., 1] == 255).all()


def test_truncated_metadata_does_not_hide_the_size(save):
    data = save(photo(), exif=exif_with(6), icc_profile=bytes(range(200)), xmp=b"<x:xmpmeta/>")
    whole = opened(data).info
    assert set(whole) == {"icc_profile", "exif", "xmp"}
    cut = opened(data[:-8])
    assert cut.info == {key: whole[key] for key in ("icc_profile", "exif")}
    with pytest.raises(OSError, match="XMP"):
        cut.load()


def test_verify():
    with Image.open(PLAIN) as image:
        image.verify()
    damaged = bytearray(PLAIN.read_bytes())
    damaged[-20] ^= 1
    with Image.open(io.BytesIO(damaged)) as image, pytest.raises(OSError, match="tile 0"):
        image.verify()


def test_a_missing_bundle_is_named(monkeypatch):
    monkeypatch.delenv("SOFTSTAIR_MODELS")
    with Image.open(PLAIN) as image, pytest.raises(OSError, match="which is not installed"):
        image.load()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_comes_in_is_an_oserror(data):
    damaged = bytearray((V1 / "alpha.stair").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        opened(bytes(damaged[: data.draw(st.integers(0, len(damaged)))])).load()
    except (OSError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return


# Saving


def test_saving_takes_the_options_of_encode(tmp_path, tiny_bundle):
    image = photo()
    for options in (
        {"quality": 20},
        {"quality": np.float32(33.0)},
        {"rate_position": 100},
        {"target_size": 1500},
        {"target_bpp": 2.0},
        {"target_psnr": 25},
        {"effort": 1},
        {"mode": "rdoq", "threads": 1},
    ):
        image.save(tmp_path / "a.stair", bundle=tiny_bundle, optimize=True, **options)
        expected = softstair.encode(image, bundle=tiny_bundle, **options)
        assert (tmp_path / "a.stair").read_bytes() == expected


def test_saving_by_name_with_the_shipped_bundle(tmp_path):
    photo().save(tmp_path / "a.stair", quality=60)
    with Image.open(tmp_path / "a.stair") as image:
        assert np.abs(np.asarray(image).astype(int) - np.asarray(photo())).mean() < 12


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"quality": 101}, "Quality"),
        ({"quality": -1}, "Quality"),
        ({"quality": "best"}, "quality must be"),
        ({"quality": True}, "quality must be"),
        ({"quality": float("nan")}, "Quality"),
        ({"rate_position": 7.5}, "rate_position must be"),
        ({"rate_position": 161}, "rate position must be"),
        ({"effort": 10}, "Effort must be"),
        ({"effort": 5, "mode": "scalar"}, "not for both"),
        ({"mode": "magic"}, "no mode magic"),
        ({"quality": 5, "target_size": 1000}, "one of"),
        ({"target_size": 20}, "smallest file"),
        ({"bundle": "small"}, "bundle must be"),
    ],
)
def test_options_that_cannot_be_met_are_value_errors(tmp_path, tiny_bundle, options, word):
    with pytest.raises(ValueError, match=word):
        photo().save(tmp_path / "a.stair", **{"bundle": tiny_bundle, **options})
    assert not (tmp_path / "a.stair").exists()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["L", "LA", "RGB", "RGBA", "P", "1"]), st.integers(1, 40), st.integers(1, 40))
def test_any_mode_any_size(tiny_bundle, mode, width, height):
    image = Image.fromarray(photograph(height, width)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "STAIR", bundle=tiny_bundle, quality=10)
    assert opened(buffer.getvalue()).size == image.size


# Metadata


def test_metadata_is_carried_along(save):
    image = photo()
    image.info |= {"icc_profile": b"i" * 300, "exif": exif_with(6).tobytes(), "xmp": b"<x/>"}
    info = opened(save(image)).info
    assert info == {"icc_profile": b"i" * 300, "exif": exif_with(6).tobytes(), "xmp": b"<x/>"}


def test_metadata_can_be_given_and_left_out(save):
    image = photo()
    image.info |= {"icc_profile": b"i" * 300, "exif": exif_with(6).tobytes(), "xmp": b"<x/>"}
    given = opened(save(image, icc_profile=b"j" * 300, exif=exif_with(3), xmp="<y/>")).info
    assert given == {"icc_profile": b"j" * 300, "exif": exif_with(3).tobytes(), "xmp": b"<y/>"}
    assert opened(save(image, icc_profile=None, exif=b"", xmp=None)).info == {}


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
def test_exif_with_and_without_its_prefix(save, tiny_bundle, prefix):
    bare = exif_with(6).tobytes()[6:]
    for data in (
        save(photo(), exif=prefix + bare),
        softstair.encode(
            Picture(photograph(20, 20), metadata=Metadata(exif=prefix + bare)), bundle=tiny_bundle
        ),
    ):
        image = opened(data)
        assert image.info["exif"] == b"Exif\0\0" + bare
        assert image.getexif()[0x0112] == 6


def test_orientation_is_kept_and_honoured_by_whom_it_concerns(save):
    data = save(photo(), exif=exif_with(6))
    image = opened(data)
    assert image.size == photo().size
    turned = ImageOps.exif_transpose(image)
    assert turned.size == (40, 56)
    again = opened(save(turned))
    assert again.size == (40, 56)
    assert 0x0112 not in again.getexif()
    assert again.getexif()[0x010E] == "a description"


def test_exif_changed_in_place_is_what_is_saved(save):
    image = opened(save(photo(), exif=exif_with(6)))
    image.getexif()[0x010E] = "another"
    again = opened(save(image))
    assert dict(again.getexif()) == {0x0112: 6, 0x010E: "another"}
    image.getexif().clear()
    assert "exif" not in opened(save(image)).info


def test_exif_that_cannot_be_parsed_is_kept(save):
    for garbage in (b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"):
        image = opened(save(photo(), exif=garbage))
        image.load()
        assert image.info["exif"] == b"Exif\0\0" + garbage
        assert opened(save(image)).info["exif"] == b"Exif\0\0" + garbage


# Other libraries


def test_imageio_reads_and_writes_through_pillow(tmp_path, tiny_bundle):
    iio = pytest.importorskip("imageio.v3")
    path = tmp_path / "a.stair"
    iio.imwrite(path, photograph(20, 30), bundle=tiny_bundle, quality=60)
    assert iio.improps(path).shape == (20, 30, 3)
    np.testing.assert_array_equal(iio.imread(path), softstair.decode(path.read_bytes()))


def test_kept_fifty_times_a_file_stays_the_same_bytes():
    data = first = (V1 / "alpha.stair").read_bytes()
    for _ in range(50):
        buffer = io.BytesIO()
        opened(data).save(buffer, "STAIR", quality="keep")
        data = buffer.getvalue()
    assert data == first


def test_kept_with_other_metadata_the_payload_stays(save):
    data = save(photo(), exif=exif_with(6), icc_profile=bytes(range(200)))
    buffer = io.BytesIO()
    opened(data).save(buffer, "STAIR", quality="keep", exif=None, xmp=b"<x:xmpmeta/>")
    before, after = read_stream(data), read_stream(buffer.getvalue())
    assert (after.header, after.tiles, after.alpha) == (before.header, before.tiles, before.alpha)
    assert after.metadata == Metadata(icc=bytes(range(200)), xmp=b"<x:xmpmeta/>")


def test_only_what_was_not_changed_can_be_kept(monkeypatch):
    data = PLAIN.read_bytes()
    changed, copied, cut = opened(data), opened(data).copy(), opened(data[:-5])
    changed.putpixel((3, 4), (1, 2, 3))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for image in (changed, copied, cut, Image.new("RGB", (9, 9))):
        with pytest.raises(ValueError, match="not changed"):
            image.save(io.BytesIO(), "STAIR", quality="keep")
    with pytest.raises(ValueError, match="leave effort out"):
        opened(data).save(io.BytesIO(), "STAIR", quality="keep", effort=2)
