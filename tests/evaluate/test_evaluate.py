from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageStat

from softstair.errors import SoftstairError, UsageError

pytest.importorskip("scipy", reason="evaluation needs the extra eval")

from softstair.evaluate import (
    DataSet,
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
    ssimulacra2,
    write_results,
)
from softstair.evaluate.cache import unfinished_beside
from softstair.evaluate.data import read_rgb
from softstair.evaluate.own import Softstair
from softstair.peers import PillowPeer

from ..conftest import GOLDEN
from ..tiny import photograph

BUNDLE = GOLDEN / "v1" / "tiny.stairs"


@dataclass(frozen=True)
class CountingPeer(PillowPeer):
    """JPEG that notes what it encodes."""

    calls: list[float] = field(default_factory=list)

    def encode(self, pixels, quality):
        self.calls.append(quality)
        return super().encode(pixels, quality)


@dataclass(frozen=True)
class StoppingPeer(CountingPeer):
    """Is interrupted at its third picture."""

    def encode(self, pixels, quality):
        if len(self.calls) == 2:
            raise KeyboardInterrupt
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


def test_ssimulacra2_is_a_hundred_for_equal_pictures_and_falls_with_noise():
    picture = photograph(170, 180)
    noise = np.random.default_rng(1).normal(0, 1, picture.shape)
    values = [
        ssimulacra2(picture, np.clip(picture + sigma * noise, 0, 255).astype(np.uint8))
        for sigma in (2, 10, 40)
    ]
    assert ssimulacra2(picture, picture) == 100
    assert 100 > values[0] > values[1] > values[2]
    with pytest.raises(UsageError, match="cannot be compared"):
        ssimulacra2(picture, picture[:-1])


@pytest.mark.parametrize("quality", [5, 30, 85])
def test_metrics_agree_with_second_implementations(kodak, quality):
    """PSNR by Pillow's statistics, MS-SSIM by pytorch-msssim."""
    torch = pytest.importorskip("torch", reason="the second implementation needs the extra learn")
    other = pytest.importorskip("pytorch_msssim", reason="the second implementation is in the extra dev")
    for path in (kodak[4], kodak[12], kodak[22]):
        buffer = io.BytesIO()
        with Image.open(path) as original:
            original.save(buffer, "JPEG", quality=quality)
            decoded = Image.open(buffer)
            squares = ImageStat.Stat(ImageChops.difference(original, decoded)).sum2
        one, two = read_rgb(path), np.asarray(decoded)
        assert psnr(one, two) == pytest.approx(10 * np.log10(255**2 * one.size / sum(squares)), abs=1e-4)
        planes = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None].double() for x in (one, two)]
        assert ms_ssim(one, two) == pytest.approx(float(other.ms_ssim(*planes, data_range=255)), abs=1e-4)


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
    files = [peer.encode(pixels, quality) for quality in (peer.qualities[0], peer.qualities[-1])]
    decoded = [peer.decode(data) for data in files]
    assert all(array.shape == pixels.shape and array.dtype == np.uint8 for array in decoded)
    assert len(files[0]) < len(files[1])
    assert psnr(pixels, decoded[0]) < psnr(pixels, decoded[1])


def test_peers_are_found_by_name_and_by_family():
    assert [peer.name for peer in find_peers(["avif-444", "jp2", "jpeg", "avif"])] == [
        "avif-444",
        "jpeg2000",
        "jpeg-420",
        "jpeg-444",
        "avif-420",
        "avif-420-s2",
        "avif-444-s2",
        "avif-444-psnr",
    ]
    assert find_peers(["all", "webp"]) == installed_peers()
    assert find_peers([]) == ()


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
        assert row.bpp == pytest.approx(8 * len(data) / (row.width * row.height), abs=1e-6)
        assert row.psnr == pytest.approx(psnr(pixels, codec.decode(data)), abs=1e-6)
        assert row.ssimulacra2 == pytest.approx(ssimulacra2(pixels, codec.decode(data)), abs=1e-6)
    low = results.means[0]
    assert low.bpp == pytest.approx(np.mean([row.bpp for row in results.rows[:2]]))
    assert low.psnr == pytest.approx(np.mean([row.psnr for row in results.rows[:2]]))
    mse = np.mean([row.mse for row in results.rows[:2]])
    assert low.psnr_of_mean_mse == pytest.approx(10 * np.log10(255**2 / mse))
    assert low.ms_ssim_db == pytest.approx(-10 * np.log10(1 - low.ms_ssim))
    assert low.ssimulacra2 == pytest.approx(np.mean([row.ssimulacra2 for row in results.rows[:2]]))
    assert all(len(line) < 400 for line in output.read_text().splitlines())


def test_a_run_that_was_stopped_redoes_nothing_finished(data_set, tmp_path):
    output, peer = tmp_path / "results.json", counting_peer()
    stopped = StoppingPeer(*vars(peer).values())
    with pytest.raises(KeyboardInterrupt):
        evaluate([stopped], data_set, output)
    unfinished = unfinished_beside(output)
    assert not output.exists()
    assert len(unfinished.read_bytes().splitlines()) == 2
    unfinished.write_bytes(unfinished.read_bytes()[:-20])  # as if stopped in the middle of a line
    peer.calls.clear()
    results = evaluate([peer], data_set, output)
    assert (len(peer.calls), results.reused_rows) == (3, 1)
    assert not unfinished.exists()


def test_an_output_is_its_own_cache(data_set, tmp_path):
    output, peer = tmp_path / "results.json", counting_peer()
    first = evaluate([peer], data_set, output)
    assert len(peer.calls) == 4
    again = evaluate([peer], data_set, output)
    assert again == replace(first, reused_rows=4, machine=again.machine)
    assert len(peer.calls) == 4
    more = evaluate([replace(peer, qualities=(20, 40, 60))], data_set, output)
    assert (len(peer.calls), more.reused_rows) == (6, 4)
    assert [row.quality for row in more.rows] == [20, 20, 40, 40, 60, 60]


def test_rows_of_other_settings_or_pixels_are_not_reused(data_set, tmp_path):
    output, peer = tmp_path / "results.json", counting_peer((30,))
    evaluate([peer], data_set, output)
    assert evaluate([replace(peer, version="2")], data_set, output).reused_rows == 0
    assert evaluate([peer], data_set, output, resume=False).reused_rows == 0
    Image.fromarray(photograph(170, 170, seed=9)).save(data_set.paths[1])
    assert evaluate([peer], data_set, output).reused_rows == 0
    assert len(peer.calls) == 8


def test_a_run_does_not_drop_what_its_output_holds(data_set, tmp_path):
    output, peer = tmp_path / "results.json", counting_peer()
    evaluate([peer], data_set, output)
    before = output.read_bytes()
    with pytest.raises(UsageError, match=r"would drop \(jpeg at 60\)"):
        evaluate([replace(peer, qualities=(20,))], data_set, output)
    with pytest.raises(UsageError, match=r"would drop \(jpeg at 20, jpeg at 60\)"):
        evaluate([replace(peer, name="other")], data_set, output)
    with pytest.raises(UsageError, match="holds results of pictures, not of others"):
        evaluate([peer], replace(data_set, name="others"), output)
    assert output.read_bytes() == before
    output.write_text('{"schema": 1}')
    with pytest.raises(UsageError, match=r"has schema 1, this release reads 2.*--fresh"):
        evaluate([peer], data_set, output)
    assert evaluate([peer], data_set, output, resume=False).reused_rows == 0


def test_several_jobs_find_the_same(data_set, tmp_path):
    codec = jpeg_at((20,))
    alone = evaluate([codec], data_set, tmp_path / "alone.json")
    together = evaluate([codec], data_set, tmp_path / "together.json", jobs=2)
    assert alone.rows == together.rows


def test_times_are_taken_apart_and_kept(data_set, tmp_path):
    output, peer = tmp_path / "results.json", counting_peer()
    steps: list[tuple[int, int]] = []
    timed = evaluate([peer], data_set, output, timings=1, progress=lambda *step: steps.append(step))
    assert len(peer.calls) == 4 + 1 + 2  # rows, a first one untimed, times
    assert steps == [(done, 6) for done in range(1, 7)]
    assert [(time.quality, time.pictures, time.threads) for time in timed.timings] == [(20, 1, 1), (60, 1, 1)]
    assert all(0 < time.encode_seconds < 1 and 0 < time.decode_seconds < 1 for time in timed.timings)
    assert evaluate([peer], data_set, output).timings == timed.timings
    assert evaluate([replace(peer, version="2")], data_set, output).timings == ()
    again = evaluate([peer], data_set, output, timings=9)
    assert [time.pictures for time in again.timings] == [2, 2]
    assert "| jpeg | 20 | 2 | 1 | " in markdown(again)


def test_times_of_another_machine_are_not_kept(data_set, tmp_path):
    output, peer = tmp_path / "results.json", counting_peer((20,))
    timed = evaluate([peer], data_set, output, timings=1)
    elsewhere = replace(timed.machine, processor="another one")
    write_results(replace(timed, machine=elsewhere), output)
    assert evaluate([peer], data_set, output).timings == ()


def test_softstair_is_measured_with_its_payload(data_set, tmp_path):
    codec = softstair_codec(BUNDLE, [0, 24, 64, 100, 160])
    results = evaluate([codec, jpeg_at((5, 15, 40, 80))], data_set, tmp_path / "results.json")
    own = [row for row in results.rows if row.codec == codec.name]
    for row in own:
        assert row.payload_bytes is not None
        assert row.table_bits is not None
        assert 0 < row.file_bytes - row.payload_bytes <= 32
        assert row.table_bits / 8 == pytest.approx(row.payload_bytes, rel=0.05, abs=30)
    assert results.codecs[0].fingerprint == codec.fingerprint
    assert results.codecs[1].bundle is None
    report = markdown(results)
    assert report.count(f"| {codec.name} | ") == 9  # five rates, its cost, one pair three times
    assert "PSNR of mean MSE" in report
    assert results.complexity[0].codec == codec.name


def test_an_estimate_that_is_off_is_an_error(data_set, tmp_path):
    right = softstair_codec(BUNDLE, [0])
    wrong = WrongEstimate(**vars(right))
    with pytest.raises(SoftstairError, match=r"0\.png by softstair-tiny-scalar at 0: .* more than 1% apart"):
        evaluate([wrong], data_set, tmp_path / "results.json")


def test_runs_that_make_no_sense_are_refused(data_set, tmp_path):
    peer, output = counting_peer(), tmp_path / "results.json"
    with pytest.raises(UsageError, match="different names"):
        evaluate([peer, peer], data_set, output)
    with pytest.raises(UsageError, match="jobs must be 1 or more"):
        evaluate([peer], data_set, output, jobs=0)
    with pytest.raises(UsageError, match="timings must be 0 or more"):
        evaluate([peer], data_set, output, timings=-1)
    with pytest.raises(UsageError, match="cannot be written"):
        evaluate([peer], data_set, tmp_path / "missing" / "results.json")
    with pytest.raises(UsageError, match="must be from 0 to"):
        softstair_codec(BUNDLE, [999])
    output.write_text("{}")
    with pytest.raises(UsageError, match="does not hold results"):
        read_results(Path(output))
