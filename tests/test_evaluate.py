from __future__ import annotations

import csv
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softstair.errors import SoftstairError, UsageError

pytest.importorskip("scipy", reason="evaluation needs the extra eval")

from softstair.evaluate import (
    DataSet,
    delta_rate,
    evaluate,
    find_data_set,
    find_peers,
    hash_pixels,
    installed_peers,
    markdown,
    ms_ssim,
    psnr,
    read_results,
    softstair_codec,
)
from softstair.evaluate.data import read_rgb
from softstair.evaluate.own import Softstair
from softstair.evaluate.peers import PillowPeer
from softstair.evaluate.run import cache_beside

from .conftest import GOLDEN, ROOT
from .tiny import photograph

POINTS = ROOT.parent / "shared" / "reference" / "points.csv"
CURVE = [(0.1, 28.0), (0.2, 30.0), (0.4, 32.5), (0.8, 35.5), (1.5, 39.0)]
BUNDLE = GOLDEN / "v1" / "tiny.stairs"


@dataclass(frozen=True)
class CountingPeer(PillowPeer):
    """JPEG that notes what it encodes."""

    calls: list[float] = field(default_factory=list)

    def encode(self, pixels, quality):
        self.calls.append(quality)
        return super().encode(pixels, quality)


@dataclass(frozen=True)
class WrongEstimate(Softstair):
    """Softstair whose tables charge 2 % less than its payload takes."""

    def encode_counted(self, pixels, quality):
        encoded = super().encode_counted(pixels, quality)
        return replace(encoded, payload_bytes=20_000, table_bits=0.98 * 8 * 20_000)


def counting_peer(qualities=(20, 60)) -> CountingPeer:
    return CountingPeer("jpeg", "4:2:0", "1", qualities, "JPEG", (("subsampling", "4:2:0"),))


def jpeg_at(qualities):
    return replace(find_peers(["jpeg-420"])[0], qualities=qualities)


@pytest.fixture
def data_set(tmp_path) -> DataSet:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, size in enumerate([(161, 200), (176, 165)]):
        Image.fromarray(photograph(*size, seed=index)).save(folder / f"{index}.png")
    return find_data_set(folder)


def reference_curve(codec: str, variant: str, source: str) -> list[tuple[float, float]]:
    if not POINTS.exists():
        pytest.skip("the published figures are not beside this checkout (../shared/reference)")
    with POINTS.open(newline="") as file:
        points = [
            (float(row["bpp"]), float(row["psnr_db"]))
            for row in csv.DictReader(file)
            if row["dataset"] == "kodak"
            and row["codec"] == codec
            and row["variant"].startswith(variant)
            and source in row["source_repo"]
        ]
    return sorted(points)


PAIRS = [
    (("LALIC", "CVPR 2025, MSE", "Rwkv"), ("VVC intra (VTM)", "VTM 9.1", "CompressAI")),
    (
        ("AVIF", "Pillow 13.0.0, libavif 1.4.2 aom, speed 6, 4:4:4, tune", "measured"),
        ("WebP", "", "measured"),
    ),
    (("JPEG XL", "", "measured"), ("VVC intra (VTM)", "VTM 18.0", "lossy-vae")),
]


def test_a_curve_against_itself_needs_no_more_rate():
    delta = delta_rate(CURVE, CURVE[::-1])
    assert delta.pchip == pytest.approx(0, abs=1e-12)
    assert delta.akima == pytest.approx(0, abs=1e-12)
    assert (delta.low, delta.high, delta.overlap) == (28.0, 39.0, 1.0)
    assert (delta.dropped_anchor, delta.dropped_test) == (0, 0)


def test_ten_percent_more_rate_is_ten_percent():
    delta = delta_rate(CURVE, [(1.1 * rate, value) for rate, value in CURVE])
    assert delta.pchip == pytest.approx(10)
    assert delta.akima == pytest.approx(10)


@pytest.mark.parametrize(("test", "anchor"), PAIRS, ids=lambda curve: curve[0])
def test_delta_rates_agree_with_the_package_bjontegaard(test, anchor):
    test_curve, anchor_curve = reference_curve(*test), reference_curve(*anchor)
    pytest.importorskip("bjontegaard", reason="the oracle is in the extra dev")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of matplotlib, which it imports
        from bjontegaard import bd_rate
    delta = delta_rate(anchor_curve, test_curve)
    rates = [np.array(values) for curve in (anchor_curve, test_curve) for values in zip(*curve, strict=True)]
    for method in ("pchip", "akima"):
        expected = bd_rate(*rates, method=method, require_matching_points=False, min_overlap=0)
        assert getattr(delta, method) == pytest.approx(expected, abs=1e-9)


def test_a_published_delta_rate_comes_out():
    test, anchor = PAIRS[0]
    delta = delta_rate(reference_curve(*anchor), reference_curve(*test))
    assert delta.pchip == pytest.approx(-15.26, abs=0.01)
    assert delta.akima == pytest.approx(-15.30, abs=0.01)


def test_points_that_a_cheaper_one_beats_are_dropped_and_counted():
    worse = [(0.5, 32.0), (0.2, 29.0), (2.0, float("nan")), (3.0, None)]
    delta = delta_rate(CURVE, CURVE + worse)
    assert delta.pchip == pytest.approx(0, abs=1e-12)
    assert delta.dropped_test == 4


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (CURVE[:3], "3 usable points"),
        ([*CURVE[:3], (0.9, 20.0)], "1 dropped"),
        ([(rate, value + 8) for rate, value in CURVE], "share 27%"),
        ([(rate, value + 20) for rate, value in CURVE], "share 0%"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(test, message):
    with pytest.raises(UsageError, match=message):
        delta_rate(CURVE, test)


def test_psnr_of_known_pictures():
    black = np.zeros((4, 5, 3), np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + 255) == pytest.approx(0)
    one_channel = black.copy()
    one_channel[..., 0] = 3
    assert psnr(black, one_channel) == pytest.approx(10 * np.log10(255**2 / 3))
    with pytest.raises(UsageError, match="cannot be compared"):
        psnr(black, black[:2])
    with pytest.raises(UsageError, match="float64"):
        psnr(black, black / 2)


def test_ms_ssim_is_one_for_equal_pictures_and_falls_with_noise():
    picture = photograph(201, 199)
    noise = np.random.default_rng(1).normal(0, 1, picture.shape)
    values = [
        ms_ssim(picture, np.clip(picture + sigma * noise, 0, 255).astype(np.uint8)) for sigma in (5, 20, 60)
    ]
    assert ms_ssim(picture, picture) == pytest.approx(1, abs=1e-12)
    assert 1 > values[0] > values[1] > values[2] > 0
    assert ms_ssim(picture, 255 - picture) == 0
    with pytest.raises(UsageError, match="at least 161 pixels"):
        ms_ssim(picture[:160], picture[:160])


@pytest.mark.long
def test_metrics_give_what_was_measured_before(kodak):
    """JPEG 4:2:0, quality 10: bpp, PSNR and MS-SSIM of points.csv (source "measured, jpeg420op")."""
    (jpeg,) = find_peers(["jpeg-420"])
    found = []
    for path in kodak:
        pixels = read_rgb(path)
        data = jpeg.encode(pixels, 10)
        decoded = jpeg.decode(data)
        found.append((8 * len(data) / (768 * 512), psnr(pixels, decoded), ms_ssim(pixels, decoded)))
    assert np.mean(found, axis=0) == pytest.approx((0.268375, 26.6718, 0.8942415), rel=1e-5)


@pytest.mark.parametrize("peer", installed_peers(), ids=lambda peer: peer.name)
def test_peers_spend_bytes_on_quality(peer):
    pixels = photograph(160, 128)
    peer.prepare()
    files = [peer.encode(pixels, quality) for quality in (peer.qualities[0], peer.qualities[-1])]
    decoded = [peer.decode(data) for data in files]
    assert all(array.shape == pixels.shape and array.dtype == np.uint8 for array in decoded)
    assert len(files[0]) < len(files[1])
    assert psnr(pixels, decoded[0]) < psnr(pixels, decoded[1])


def test_unknown_peers_and_data_sets_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"No peer is called vvc.*jpeg-420"):
        find_peers(["jpeg-420", "vvc"])
    with pytest.raises(UsageError, match="kodak"):
        find_data_set("kodak", tmp_path)
    with pytest.raises(UsageError, match="holds no pictures"):
        find_data_set(tmp_path)


def test_the_hash_of_a_data_set_is_of_its_pixels(data_set):
    before = hash_pixels(data_set)
    path = data_set.paths[0]
    with Image.open(path) as image:
        pixels = np.array(image)
    Image.fromarray(pixels).save(path, compress_level=0)
    assert hash_pixels(data_set) == before
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert hash_pixels(data_set) != before


def test_a_run_counts_whole_files(data_set, tmp_path):
    codec, output = jpeg_at((20, 60)), tmp_path / "results.json"
    steps: list[tuple[int, int]] = []
    results = evaluate([codec], data_set, output, progress=lambda *step: steps.append(step))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert read_results(output) == results
    assert (results.pictures, results.data_hash) == (2, hash_pixels(data_set))
    for row in results.rows:
        with Image.open(data_set.paths[0].parent / row.picture) as image:
            pixels = np.asarray(image)
        data = codec.encode(pixels, row.quality)
        assert row.file_bytes == len(data)
        assert row.bpp == 8 * len(data) / (row.width * row.height)
        assert row.psnr == pytest.approx(psnr(pixels, codec.decode(data)))
    low = results.means[0]
    assert low.bpp == pytest.approx(np.mean([row.bpp for row in results.rows[:2]]))
    assert low.psnr == pytest.approx(np.mean([row.psnr for row in results.rows[:2]]))
    mse = np.mean([row.mse for row in results.rows[:2]])
    assert low.psnr_of_mean_mse == pytest.approx(10 * np.log10(255**2 / mse))
    assert low.ms_ssim_db == pytest.approx(-10 * np.log10(1 - low.ms_ssim))


def test_a_run_goes_on_where_it_stopped(data_set, tmp_path):
    output, peer = tmp_path / "results.json", counting_peer()
    first = evaluate([peer], data_set, output)
    assert len(peer.calls) == 4
    assert evaluate([peer], data_set, output).rows == first.rows
    assert len(peer.calls) == 4
    cache = cache_beside(output)
    cache.write_bytes(cache.read_bytes()[:-20])  # as if stopped in the middle of a line
    again = evaluate([peer], data_set, output)
    assert (len(peer.calls), again.reused_rows) == (5, 3)
    assert evaluate([peer], data_set, output).reused_rows == 4
    more = evaluate([replace(peer, qualities=(20, 40, 60))], data_set, output)
    assert (len(peer.calls), more.reused_rows) == (7, 4)
    assert [row.quality for row in more.rows] == [20, 20, 40, 40, 60, 60]


def test_rows_of_other_settings_or_pixels_are_not_reused(data_set, tmp_path):
    output, peer = tmp_path / "results.json", counting_peer((30,))
    evaluate([peer], data_set, output)
    assert evaluate([replace(peer, version="2")], data_set, output).reused_rows == 0
    assert evaluate([peer], data_set, output, resume=False).reused_rows == 0
    Image.fromarray(photograph(170, 170, seed=9)).save(data_set.paths[1])
    assert evaluate([peer], data_set, output).reused_rows == 0
    assert len(peer.calls) == 8


def test_several_jobs_find_the_same_and_mark_their_times(data_set, tmp_path):
    codec = jpeg_at((20,))
    alone = evaluate([codec], data_set, tmp_path / "alone.json")
    together = evaluate([codec], data_set, tmp_path / "together.json", jobs=2)
    assert not any(row.under_load for row in alone.rows)
    assert all(row.under_load for row in together.rows)
    for one, two in zip(alone.rows, together.rows, strict=True):
        assert replace(two, encode_seconds=one.encode_seconds, decode_seconds=one.decode_seconds) == replace(
            one, under_load=True
        )


def test_softstair_is_measured_with_its_payload(data_set, tmp_path):
    codec = softstair_codec(BUNDLE, [0, 24, 64, 100, 160], name="ours")
    results = evaluate([codec, jpeg_at((5, 15, 40, 80))], data_set, tmp_path / "results.json")
    own = [row for row in results.rows if row.codec == "ours"]
    for row in own:
        assert row.payload_bytes is not None
        assert row.table_bits is not None
        assert 0 < row.file_bytes - row.payload_bytes <= 32
        assert row.table_bits / 8 == pytest.approx(row.payload_bytes, rel=0.05, abs=30)
    assert results.codecs[0].fingerprint == codec.fingerprint
    assert results.codecs[1].bundle is None
    report = markdown(results)
    assert report.count("| ours | ") == 6  # five rates, one pair
    assert "PSNR of mean MSE" in report


def test_an_estimate_that_is_off_is_an_error(data_set, tmp_path):
    right = softstair_codec(BUNDLE, [0])
    wrong = WrongEstimate(**vars(right))
    with pytest.raises(SoftstairError, match=r"0\.png by softstair-tiny at 0: .* more than 1% apart"):
        evaluate([wrong], data_set, tmp_path / "results.json")


def test_runs_that_make_no_sense_are_refused(data_set, tmp_path):
    peer, output = counting_peer(), tmp_path / "results.json"
    with pytest.raises(UsageError, match="names that differ"):
        evaluate([peer, peer], data_set, output)
    with pytest.raises(UsageError, match="at least one job"):
        evaluate([peer], data_set, output, jobs=0)
    with pytest.raises(UsageError, match="cannot be written"):
        evaluate([peer], data_set, tmp_path / "missing" / "results.json")
    with pytest.raises(UsageError, match="run from 0 to"):
        softstair_codec(BUNDLE, [999])
    output.write_text("{}")
    with pytest.raises(UsageError, match="does not hold results"):
        read_results(Path(output))
