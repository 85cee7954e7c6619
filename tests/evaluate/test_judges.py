"""Judges: grid, butteraugli, ColorVideoVDP, and what a run does with rows that lack them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from softstair.errors import SoftstairError, UsageError

pytest.importorskip("ssimulacra2", reason="evaluation needs the extra eval")

from click.testing import CliRunner

from softstair.commands import softstair as cli
from softstair.evaluate import (
    METRICS,
    Judge,
    delta_rate,
    evaluate,
    find_data_set,
    find_judges,
    find_peers,
    markdown,
    measure_grid,
    measured_metrics,
    read_results,
)
from softstair.evaluate import judges as module
from softstair.evaluate.curve_files import curves_of

from ..results_example import example_results
from ..tiny import photograph
from .test_evaluate import counting_peer

INSTALLED = {judge.name: judge for judge in find_judges(["all"])}


def sky(height: int = 192, width: int = 256) -> np.ndarray:
    """A slope with fine grain: smooth everywhere."""
    rows, columns = np.mgrid[:height, :width]
    grain = np.random.default_rng(1).normal(0, 0.4, (height, width))
    luma = 90 + 0.25 * rows + 0.15 * columns + grain
    return np.repeat(luma[..., None], 3, axis=2).round().clip(0, 255).astype(np.uint8)


def with_cells(pixels: np.ndarray, side: int, levels: float) -> np.ndarray:
    """Every cell lighter or darker by something of its own."""
    height, width, _ = pixels.shape
    offsets = np.random.default_rng(2).normal(0, levels, (-(-height // side), -(-width // side)))
    cells = np.kron(offsets, np.ones((side, side)))[:height, :width, None]
    return (pixels + cells).round().clip(0, 255).astype(np.uint8)


def test_grid_is_one_without_cells_and_rises_with_them():
    picture = sky()
    grids = [measure_grid(picture, with_cells(picture, 16, levels), 16) for levels in (0, 0.5, 1, 2, 4)]
    ratios = [grid.across / grid.beside for grid in grids]
    assert ratios[0] == pytest.approx(1, abs=0.06)
    assert ratios == sorted(ratios)
    assert ratios[-1] > 3 * ratios[0]
    assert all(grid.smooth == grids[0].smooth > 0.95 for grid in grids)


def test_grid_sees_the_lattice_that_it_is_told_of_alone():
    picture = sky()
    shifted = np.roll(with_cells(np.roll(picture, 8, (0, 1)), 16, 3), -8, (0, 1))
    assert measure_grid(picture, shifted, 16).across == pytest.approx(
        measure_grid(picture, picture, 16).across, rel=0.06
    )
    cells = with_cells(picture, 16, 3)
    assert measure_grid(picture, cells, 16).across > 1.5 * measure_grid(picture, cells, 8).across


def test_grid_looks_where_the_reference_is_smooth():
    noise = np.random.default_rng(3).integers(0, 256, (192, 256, 3), np.uint8)
    assert measure_grid(noise, noise, 16) == measure_grid(noise, with_cells(noise, 16, 4), 16)
    assert measure_grid(noise, noise, 16).smooth == 0
    half = np.concatenate([sky(), noise], axis=1)
    assert measure_grid(half, half, 16).smooth == pytest.approx(0.5, abs=0.05)


def test_grid_finds_the_blocks_of_jpeg():
    picture, buffer = sky(), io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=10)
    grid = measure_grid(picture, np.asarray(Image.open(buffer)), 8)
    assert grid.across > 3 * grid.beside


def test_grid_counts_lines_by_hand():
    """One upright line of 8 levels, at column 16 of 33; no other step."""
    flat = np.full((16, 33, 3), 100, np.uint8)
    stepped = flat.copy()
    stepped[:, 16:] += 8
    grid = measure_grid(flat, stepped, 16)
    assert grid.smooth == 1
    assert grid.across == pytest.approx(8, rel=1e-4)
    assert grid.beside == 0
    assert measure_grid(flat[:, :16], flat[:, :16], 16) == measure_grid(flat[:, :20], flat[:, :20], 16)


@pytest.mark.skipif("butteraugli" not in INSTALLED, reason="libjxl's butteraugli_main is not installed")
def test_butteraugli_is_nothing_for_equal_pictures_and_rises_with_noise():
    judge, picture = INSTALLED["butteraugli"], photograph(170, 180)
    noise = np.random.default_rng(1).normal(0, 1, picture.shape)
    marks = [
        judge.judge(picture, np.clip(picture + sigma * noise, 0, 255).astype(np.uint8), None)
        for sigma in (0, 2, 10, 40)
    ]
    assert marks[0] == {"butteraugli": 0, "butteraugli_max": 0}
    for name in marks[0]:
        values = [mark[name] for mark in marks]
        assert values == sorted(set(values))
    assert all(mark["butteraugli"] < mark["butteraugli_max"] for mark in marks[1:])


@pytest.mark.skipif("cvvdp" not in INSTALLED, reason="the package cvvdp is not installed")
def test_color_video_vdp_is_ten_for_equal_pictures_and_falls_with_noise():
    torch = pytest.importorskip("torch")
    judge, picture, threads = INSTALLED["cvvdp"], photograph(170, 180), torch.get_num_threads()
    noise = np.random.default_rng(1).normal(0, 1, picture.shape)
    marks = [
        judge.judge(picture, np.clip(picture + sigma * noise, 0, 255).astype(np.uint8), None)["cvvdp"]
        for sigma in (0, 4, 15, 40)
    ]
    assert marks[0] == 10
    assert marks == sorted(set(marks), reverse=True)
    assert torch.get_num_threads() == threads


def test_a_judge_that_fails_says_so(monkeypatch, tmp_path):
    program = tmp_path / "butteraugli_main"
    program.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (judge,) = find_judges(["butteraugli"])
    with pytest.raises(SoftstairError, match=r"butteraugli_main failed: out of order\."):
        judge.judge(photograph(20, 20), photograph(20, 20), None)


def test_judges_that_are_not_installed_say_what_they_need(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert [judge.name for judge in find_judges(["all"])] == ["grid"]
    with pytest.raises(UsageError, match="libjxl-devtools"):
        find_judges(["butteraugli"])
    with pytest.raises(UsageError, match=r"softstair\[judges\]"):
        find_judges(["grid", "cvvdp"])
    with pytest.raises(UsageError, match="No judge is called vmaf; there are grid"):
        find_judges(["vmaf"])


@pytest.fixture
def data_set(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, size in enumerate([(161, 200), (176, 165)]):
        Image.fromarray(photograph(*size, seed=index)).save(folder / f"{index}.png")
    return find_data_set(folder)


def test_judges_fill_in_what_rows_lack_and_measure_nothing_else_again(data_set, tmp_path, monkeypatch):
    output, peer = tmp_path / "results.json", replace(counting_peer(), cells=8)
    before = evaluate([peer], data_set, output)
    assert all(row.smooth is None for row in before.rows)
    assert all(mean.grid is None for mean in before.means)
    monkeypatch.setattr("softstair.evaluate.run.ssimulacra2", None)  # is not called again
    grid = find_judges(["grid"])
    after = evaluate([peer], data_set, output, judges=grid)
    assert len(peer.calls) == 8
    assert after.reused_rows == 0
    assert all(row.smooth is not None for row in after.rows)
    unjudged = {"smooth": None, "grid_across": None, "grid_beside": None}
    assert tuple(replace(row, **unjudged) for row in after.rows) == before.rows
    assert evaluate([peer], data_set, output, judges=grid).reused_rows == 4
    assert evaluate([peer], data_set, output).rows == after.rows
    assert len(peer.calls) == 8


def test_a_row_is_measured_anew_where_another_file_comes_out(data_set, tmp_path):
    output, peer = tmp_path / "results.json", counting_peer((20,))
    before = evaluate([peer], data_set, output)
    other = replace(peer, options=(("subsampling", "4:4:4"),))  # as after an update that kept its name
    after = evaluate([other], data_set, output, judges=find_judges(["grid"]))
    assert all(one.file_bytes != two.file_bytes for one, two in zip(before.rows, after.rows, strict=True))
    assert all(one.psnr != two.psnr for one, two in zip(before.rows, after.rows, strict=True))


def test_a_codec_without_a_lattice_has_no_grid(data_set, tmp_path):
    codecs = [replace(peer, qualities=(20.0,)) for peer in find_peers(["jpeg-420", "jpeg2000"])]
    jpeg, wavelet = evaluate(codecs, data_set, tmp_path / "x.json", judges=find_judges(["grid"])).means
    assert wavelet.grid is None
    assert jpeg.grid is None or jpeg.grid > 0


def test_files_without_judges_stay_readable(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(
        '{"schema":2,"data_set":"x","data_hash":"0","pictures":1,"machine":{"machine":"","processor":"",'
        '"cores":1,"python":"","numpy":"","onnxruntime":"","load":null},"softstair":"0","jobs":1,'
        '"reused_rows":0,"codecs":[{"name":"a","settings":"","version":""}],"complexity":[],"timings":[],'
        '"means":[{"codec":"a","quality":1,"pictures":1,"bpp":1.0,"psnr":30.0,"psnr_of_mean_mse":30.0,'
        '"ms_ssim":0.9,"ms_ssim_db":10.0,"ssimulacra2":50.0,"entropy_overhead":null}],"rows":[]}'
    )
    results = read_results(path)
    assert [metric.key for metric in measured_metrics(results)] == ["ssimulacra2", "psnr", "ms-ssim"]
    assert "butteraugli" not in markdown(results)
    shown = CliRunner().invoke(cli, ["bdrate", f"{path}::a", f"{path}::a", "--metric", "cvvdp"])
    assert "has no ColorVideoVDP; softstair eval with --judges all adds it." in str(shown.exception)


def test_delta_rates_by_judges_have_the_right_sign():
    results = example_results()
    assert measured_metrics(results) == tuple(METRICS.values())
    for metric in METRICS.values():
        ours, jpeg, _ = curves_of(results, metric)
        assert delta_rate(jpeg.points, ours.points).pchip == pytest.approx(100 / 1.1 - 100)
    (value,) = {mean.grid for mean in results.means}
    assert value == 1.5
    first = results.means[0]
    assert METRICS["butteraugli"].value(first) == pytest.approx(-10 * np.log10(4))
    assert METRICS["cvvdp"].value(first) == pytest.approx(-10 * np.log10(2))
    assert METRICS["cvvdp"].value(replace(first, cvvdp=10.0)) is None


def test_the_report_shows_what_judges_said():
    report = markdown(example_results())
    assert "| ColorVideoVDP, JOD | grid |" in report
    assert "| ours | jpeg | " + " | ".join(["-9.09 %"] * len(METRICS)) + " |" in report


def test_eval_asks_the_judges_that_are_named(data_set, tmp_path):
    output = tmp_path / "results.json"
    arguments = [
        "eval",
        data_set.paths[0].parent,
        "-o",
        output,
        "--rate-positions",
        "32",
        "--modes",
        "scalar",
    ]

    def run(*more: object):
        return CliRunner().invoke(cli, [*map(str, arguments), *map(str, more)])

    assert run("--judges", "none").exit_code == 0
    assert [row.smooth for row in read_results(output).rows] == [None, None]
    assert run("--judges", "grid").exit_code == 0
    assert all(row.smooth is not None for row in read_results(output).rows)
    failed = run("--judges", "grid,vmaf")
    assert "No judge is called vmaf" in str(failed.exception)


def test_judges_can_be_given_to_processes():
    import pickle

    for judge in find_judges(["all"]):
        assert isinstance(pickle.loads(pickle.dumps(judge)), Judge)
