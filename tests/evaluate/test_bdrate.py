"""Delta rates against what others computed, and the commands bdrate and plot."""

from __future__ import annotations

import csv
import warnings
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from softstair.errors import SoftstairError, UsageError

pytest.importorskip("scipy", reason="evaluation needs the extra eval")
pytest.importorskip("ssimulacra2", reason="evaluation needs the extra eval")

from softstair.commands import softstair
from softstair.commands.bdrate import METRIC_KEYS
from softstair.evaluate import METRICS, delta_rate, published_curves, read_results, write_results
from softstair.evaluate.curve_files import MEASURED, curves_of

from ..conftest import ROOT
from ..results_example import example_results

REFERENCE = ROOT.parent / "shared" / "reference"
POINTS, BD_RATES = REFERENCE / "points.csv", REFERENCE / "bdrate_kodak.csv"
CURVE = [(0.1, 28.0), (0.2, 30.0), (0.4, 32.5), (0.8, 35.5), (1.5, 39.0)]
# Names in bdrate_kodak.csv: codec and a part of the variant in points.csv.
PLACES = {
    "VTM 9.1 (CompressAI)": ("VVC intra (VTM)", "as named by LALIC"),
    "VTM 18.0 (lossy-vae)": ("VVC intra (VTM)", "VTM 18.0"),
    "VTM 22.0 (TinyLIC survey)": ("VVC intra (VTM)", "VTM 22.0"),
    "BPG 4:4:4 (CompressAI)": ("BPG", "0.9.8"),
    "BPG (TinyLIC survey)": ("BPG", "TinyLIC survey"),
    "HM 4:4:4 (CompressAI)": ("HEVC intra (HM)", "4:4:4"),
    "AVIF 4:4:4 s6 tune=psnr (measured)": ("AVIF", "4:4:4, tune=psnr"),
    "JPEG XL e7 (measured)": ("JPEG XL", "effort 7"),
    "WebP m6 (measured)": ("WebP", "method 6"),
    "mbt2018-mean (CompressAI zoo)": ("mbt2018-mean", "CompressAI zoo weights, optimised for MSE"),
    "cheng2020-attn (CompressAI zoo)": ("cheng2020-attn", "CompressAI zoo weights, optimised for MSE"),
    "ELIC (paper)": ("elic2022", "paper figures, optimised for MSE"),
    "QARV": ("QARV", "TPAMI"),
    "LALIC": ("LALIC", "CVPR 2025, MSE"),
    "DCAE": ("DCAE", "CVPR 2025, MSE"),
    "HPCM-Large": ("HPCM-Large", "ICCV 2025, MSE"),
    "LIC-TCM Large": ("LIC-TCM Large", "MSE"),
    "MLIC++": ("MLIC++", "MSE"),
    "C3": ("C3", "MSE"),
    "TinyLIC Nano 10k": ("TinyLIC Nano (10 kMAC/px)", "MSE"),
    "TinyLIC Small 20k": ("TinyLIC Small (20 kMAC/px)", "MSE"),
    "TinyLIC Base 50k": ("TinyLIC Base (50 kMAC/px)", "MSE"),
    "Cool-chic 2.0": ("Cool-chic 2.0", "MSE"),
    "Cool-chic 3.0": ("Cool-chic 3.0", "MSE"),
    "Cool-chic 5.0": ("Cool-chic 5.0", "MSE"),
    "Cool-chic 2.0 [PmMSE]": ("Cool-chic 2.0 [PSNR of mean MSE]", "MSE"),
    "Cool-chic 3.0 [PmMSE]": ("Cool-chic 3.0 [PSNR of mean MSE]", "MSE"),
}
# Pairs whose published figure comes out, by the README of the reference.
EXPLAINED = [
    ("LALIC", "VTM 9.1 (CompressAI)"),
    ("DCAE", "VTM 9.1 (CompressAI)"),
    ("LIC-TCM Large", "VTM 9.1 (CompressAI)"),
    ("QARV", "VTM 18.0 (lossy-vae)"),
    ("TinyLIC Nano 10k", "VTM 22.0 (TinyLIC survey)"),
    ("TinyLIC Small 20k", "VTM 22.0 (TinyLIC survey)"),
    ("TinyLIC Base 50k", "VTM 22.0 (TinyLIC survey)"),
    ("BPG (TinyLIC survey)", "VTM 22.0 (TinyLIC survey)"),
    ("Cool-chic 3.0 [PmMSE]", "Cool-chic 2.0 [PmMSE]"),
]
ANCHORS = ["VTM 9.1 (CompressAI)", "VTM 18.0 (lossy-vae)", "BPG 4:4:4 (CompressAI)", "WebP m6 (measured)"]


def run(*arguments: object):
    return CliRunner().invoke(softstair, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def reference() -> dict[tuple[str, str], dict[str, dict[str, str]]]:
    """Rows of bdrate_kodak.csv by test and anchor, then by method."""
    if not (POINTS.exists() and BD_RATES.exists()):
        pytest.skip("the published figures are not beside this checkout (../shared/reference)")
    rows: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    with BD_RATES.open(newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault((row["test"], row["anchor"]), {})[row["method"]] = row
    return rows


def place(name: str) -> str:
    return "::".join([str(POINTS), "kodak", *PLACES[name]])


def delta_by_command(test: str, anchor: str) -> tuple[float, float]:
    """PCHIP and Akima, percent, as softstair bdrate prints them."""
    result = run("bdrate", place(anchor), place(test))
    assert result.exit_code == 0, result.exception
    (line,) = result.output.splitlines()[2:]
    pchip, akima = line.split(" | ")[2:4]
    return float(pchip.removesuffix(" %")), float(akima.removesuffix(" %"))


@pytest.mark.parametrize("anchor", ANCHORS)
def test_delta_rates_of_published_curves_come_out(reference, anchor):
    compared = 0
    for test in PLACES:
        rows = reference.get((test, anchor))
        # Below half the command refuses; the rounded figures at half itself are left out.
        if rows is None or float(rows["pchip"]["overlap_share_of_test"]) <= 0.51:
            continue
        expected = [float(rows[method]["bdrate_percent"]) for method in ("pchip", "akima")]
        assert delta_by_command(test, anchor) == pytest.approx(expected, abs=0.2), test
        compared += 1
    assert compared >= 10


@pytest.mark.parametrize(("test", "anchor"), EXPLAINED, ids=lambda name: name.split(" (")[0])
def test_delta_rates_that_others_published_come_out(reference, test, anchor):
    published = float(reference[test, anchor]["pchip"]["published_percent"])
    assert delta_by_command(test, anchor)[0] == pytest.approx(published, abs=0.2)


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


@pytest.mark.parametrize("seed", range(20))
def test_delta_rates_agree_with_the_package_bjontegaard(seed):
    pytest.importorskip("bjontegaard", reason="the oracle is in the extra dev")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of matplotlib, which it imports
        from bjontegaard import bd_rate
    rng = np.random.default_rng(seed)
    curves = [
        (
            0.1 * np.exp(np.cumsum(rng.uniform(0.05, 0.8, count))),
            rng.uniform(27, 29) + np.linspace(0, 12, count) + rng.uniform(0, 0.8, count),
        )
        for count in rng.integers(5, 12, 2)
    ]
    anchor, test = ([*zip(*curve, strict=True)] for curve in curves)
    delta = delta_rate(anchor, test)
    flat = [values for curve in curves for values in curve]
    for method in ("pchip", "akima"):
        expected = bd_rate(*flat, method=method, require_matching_points=False, min_overlap=0)
        assert getattr(delta, method) == pytest.approx(expected, abs=1e-9)


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


@pytest.fixture
def results(tmp_path):
    """A results file: ours, jpeg with 10 % more rate, tiny with too few points."""
    path = tmp_path / "kodak.json"
    write_results(example_results(), path)
    return path


@pytest.mark.parametrize("metric", METRIC_KEYS)
def test_a_pair_of_codecs_of_one_file(results, metric):
    result = run("bdrate", f"{results}::ours", f"{results}::jpeg", "--metric", metric)
    assert result.exit_code == 0
    _, _, line = result.output.splitlines()
    assert line.startswith("| jpeg | ours | +10.00 % | +10.00 % | ")
    assert line.endswith(" | 100% | 0 + 0 |")


def test_files_stand_for_all_their_codecs(results):
    result = run("bdrate", results, results)
    assert result.exit_code == 0
    lines = result.output.splitlines()[2:]
    assert len(lines) == 9
    assert sum("2 usable points" in line for line in lines) == 5


@pytest.mark.parametrize(
    ("anchor", "test", "message"),
    [
        ("{0}::ours", "{0}::few", "2 usable points"),
        ("{0}::ours", "{0}::vvc", "names no codec .*; it has ours, jpeg, few"),
        ("{0}::ours", "{1}::ours", "different pictures, all called kodak"),
        ("{0}::ours", "{2}::tecnick::VTM", "Curves over different pictures .* kodak and tecnick"),
        ("{0}::ours", "{2}", "must name a data set.*kodak, tecnick"),
        ("{0}::ours", "{2}::kodak::BPG", "names no codec .*; it has VTM"),
        ("{0}::ours", "{2}::kodak::VTM::8", "names no variant .*; it has 9.1, fast, 9.1, slow"),
        ("{0}::ours", "{2}::kodak::VTM::fast::x", "must name a data set"),
        ("{0}::ours", "{3}", "columns .* are missing"),
        ("{0}::ours", "nowhere.csv::kodak", "cannot be read"),
        ("{0}::ours", "nowhere.json", "cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_refused(results, tmp_path, anchor, test, message):
    other, table, wrong = tmp_path / "other.json", tmp_path / "points.csv", tmp_path / "wrong.csv"
    write_results(replace(read_results(results), data_hash="other"), other)
    table.write_text(
        "dataset,codec,variant,bpp,psnr_db,ms_ssim,source_repo\n"
        'kodak,VTM,"9.1, fast",0.1,28,0.9,paper\n'
        'kodak,VTM,"9.1, slow",0.1,28,0.9,paper\n'
        "tecnick,VTM,9.1,0.1,28,0.9,paper\n"
    )
    wrong.write_text("a,b\n1,2\n")
    places = [text.format(results, other, table, wrong) for text in (anchor, test)]
    result = run("bdrate", *places)
    assert isinstance(result.exception, UsageError)  # exit code 2, as test_commands shows
    with pytest.raises(UsageError, match=message):
        raise result.exception


def test_published_curves_are_marked_and_have_sources():
    curves = published_curves("kodak")
    assert len({curve.name for curve in curves}) == len(curves) == 10
    assert all(curve.source and curve.source != MEASURED for curve in curves)
    assert all(curve.label.endswith(" (published)") for curve in curves)
    assert all(len(curve.points) >= 4 for curve in curves)
    assert published_curves("tecnick") == ()
    assert {curve.name for curve in published_curves("kodak", METRICS["ms-ssim"])} < {
        curve.name for curve in curves
    }
    assert published_curves("kodak", METRICS["ssimulacra2"]) == ()


def test_published_curves_are_those_of_the_reference():
    if not POINTS.exists():
        pytest.skip("the published figures are not beside this checkout (../shared/reference)")
    with POINTS.open(newline="") as file:
        known = [row for row in csv.DictReader(file) if row["dataset"] == "kodak"]
    with (ROOT / "src" / "softstair" / "evaluate" / "published.csv").open(newline="") as file:
        ours = list(csv.DictReader(file))
    assert all({key: row[key] for key in row if key != "label"} in known for row in ours)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_plots_are_pictures_and_the_same_again(results, tmp_path, suffix):
    plots = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for plot in plots:
        assert run("plot", results, "--published", "-o", plot).exit_code == 0
    assert plots[0].read_bytes() == plots[1].read_bytes()
    if suffix == "png":
        with Image.open(plots[0]) as image:
            assert image.size == (1350, 810)
    else:
        assert "(published)" in plots[0].read_text()


def test_plots_that_make_no_sense_are_refused(results, tmp_path):
    taken = tmp_path / "taken.svg"
    taken.write_text("mine")
    others = tmp_path / "others.json"
    write_results(replace(example_results(), data_hash="of a folder called kodak"), others)
    for arguments, message in (
        ([results, "-o", tmp_path / "plot.pdf"], "must end in"),
        ([results, "-o", taken], "exists already"),
        ([results, "--published", "--metric", "ssimulacra2", "-o", tmp_path / "x.svg"], "no published"),
        ([others, "--published", "-o", tmp_path / "x.svg"], "no published curves of PSNR over"),
    ):
        error = run("plot", *arguments).exception
        assert isinstance(error, SoftstairError)
        assert message in str(error)
    assert taken.read_text() == "mine"
    assert run("plot", results, "-o", taken, "--force").exit_code == 0


def test_metrics_of_the_command_are_those_of_the_curves():
    assert tuple(METRICS) == METRIC_KEYS
    for metric in METRICS.values():
        assert all(len(curve.points) >= 2 for curve in curves_of(example_results(), metric))
