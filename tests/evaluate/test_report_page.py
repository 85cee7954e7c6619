from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("scipy", reason="evaluation needs the extra eval")

from softstair.commands import softstair as cli
from softstair.errors import UsageError
from softstair.evaluate import (
    DataSet,
    Results,
    Timing,
    evaluate,
    find_data_set,
    find_peers,
    hash_pixels,
    read_results,
    softstair_codec,
    write_results,
)
from softstair.evaluate.page import report_page
from softstair.evaluate.page_pictures import Shown, show_pictures

from ..tiny import photograph

HOSTILE = "</script><script>alert(1)</script><!--"


class Page(HTMLParser):
    """What a browser would load, and the data element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self._element = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._element = tag
        self.loads += [value for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._element = ""

    def handle_data(self, data: str) -> None:
        if self._element == "script":
            self.scripts[-1] += data

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and its results, by the shipped bundle and JPEG."""
    root = tmp_path_factory.mktemp("report")
    folder = root / "pictures"
    folder.mkdir()
    for index, size in enumerate([(161, 200), (176, 165), (170, 170)]):
        Image.fromarray(photograph(*size, seed=index)).save(folder / f"{index}.png")
    codecs = [
        softstair_codec(positions=(8, 40, 72, 104, 136)),
        replace(find_peers(["jpeg-420"])[0], qualities=(10, 30, 60, 80, 90)),
        replace(find_peers(["webp"])[0], qualities=(5, 50)),
    ]
    evaluate(codecs, find_data_set(folder), root / "results.json")
    return root


@pytest.fixture(scope="module")
def results(root: Path) -> Results:
    return read_results(root / "results.json")


def report(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def test_the_page_loads_nothing_from_anywhere(root, results):
    text = report_page(results, show_pictures(results, root, 1))
    assert all(load.startswith("data:") for load in Page(text).loads)
    assert set(re.findall(r"https?://[^\"')\s]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|innerHTML", text)


def test_the_page_holds_every_codec_and_figure(root, results):
    timing = Timing("jpeg-420", 30.0, 3, 1, 0.0125, 0.0075, 0.5)
    data = Page(report_page(replace(results, timings=(timing,)), Shown((), ()))).data["figures"]
    written = json.loads((root / "results.json").read_text())
    for part in ("data_hash", "machine", "codecs", "means", "complexity"):
        assert data["results"][part] == written[part]
    assert data["results"]["timings"][0]["encode_seconds"] == 0.0125
    for row in results.rows:
        (curve,) = [
            one for one in data["pictures"] if (one["codec"], one["picture"]) == (row.codec, row.picture)
        ]
        assert [row.bpp, row.psnr] in curve["points"]
    for mean in results.means:
        (one,) = [one for one in data["series"] if one["name"] == mean.codec]
        for metric, value in (
            ("psnr", mean.psnr),
            ("ms-ssim", mean.ms_ssim_db),
            ("ssimulacra2", mean.ssimulacra2),
        ):
            point = {"quality": mean.quality, "bpp": mean.bpp, "value": value}
            assert point in one["points"][metric]


def test_the_page_compares_each_pair_or_says_why_not(results):
    data = Page(report_page(results, Shown((), ()))).data["figures"]
    pairs = [(delta["metric"], delta["test"], delta["anchor"]) for delta in data["deltas"]]
    assert len(set(pairs)) == len(pairs) == 3 * 3 * 2
    for delta in data["deltas"]:
        if "webp" in (delta["test"], delta["anchor"]):
            assert "2 usable points" in delta["refused"]
        elif not delta["refused"]:
            assert delta["low"] < delta["high"]
            assert 0.5 <= delta["overlap"] <= 1
    for metric, sentence in zip(("SSIMULACRA 2", "PSNR"), data["position"], strict=True):
        assert re.fullmatch(
            rf"For equal {metric}, softstair-[\w-]+ needs [\d.]+\u00a0% (fewer|more) bits than jpeg-420; "
            r"it cannot be compared with webp\.",
            sentence,
        )


def test_published_curves_stand_beside_the_pixels_of_kodak_alone(results, kodak):
    pixels = hash_pixels(DataSet("kodak", tuple(kodak)))
    figures = Page(report_page(replace(results, data_hash=pixels), Shown((), ()))).data["figures"]
    published = {one["name"]: one for one in figures["series"] if one["source"]}
    assert "VTM 9.1" in published
    assert all(point["quality"] is None for point in published["VTM 9.1"]["points"]["psnr"])
    assert {delta["anchor"] for delta in figures["deltas"] if delta["published"]} == set(published)
    assert not published.keys() & {delta["test"] for delta in figures["deltas"]}
    other = Page(report_page(replace(results, data_set="kodak"), Shown((), ()))).data["figures"]
    assert not [one for one in other["series"] if one["source"]]


def test_hostile_names_stay_text(results):
    codecs = tuple(
        replace(codec, name=HOSTILE) if codec.name == "jpeg-420" else codec for codec in results.codecs
    )
    means = tuple(replace(m, codec=HOSTILE) if m.codec == "jpeg-420" else m for m in results.means)
    page = Page(report_page(replace(results, data_set=HOSTILE, codecs=codecs, means=means), Shown((), ())))
    assert len(page.scripts) == 2
    assert page.data["figures"]["results"]["data_set"] == HOSTILE
    assert HOSTILE in [one["name"] for one in page.data["figures"]["series"]]


def test_pictures_are_coded_again_at_rates_that_match(root, results):
    steps: list[tuple[int, int]] = []
    shown = show_pictures(results, root, 2, lambda *step: steps.append(step))
    assert steps == [(at, 6) for at in range(1, 7)]
    assert [picture.picture for picture in shown.pictures] == ["0.png", "2.png"]
    for picture in shown.pictures:
        original, own, jpeg, webp = picture.views
        assert (original.codec, original.quality, jpeg.codec, webp.codec) == (
            "original",
            None,
            "jpeg-420",
            "webp",
        )
        for view in (own, jpeg, webp):
            (row,) = [
                row
                for row in results.rows
                if (row.codec, row.quality, row.picture) == (view.codec, view.quality, picture.picture)
            ]
            assert (view.file_bytes, view.psnr) == (row.file_bytes, pytest.approx(row.psnr))
        sizes = [
            row.file_bytes
            for row in results.rows
            if (row.codec, row.picture) == ("jpeg-420", picture.picture)
        ]
        ratios = [max(size, own.file_bytes) / min(size, own.file_bytes) for size in sizes]
        assert sizes[ratios.index(min(ratios))] == jpeg.file_bytes
    assert "2 of 3 pictures" in shown.notes[0]


def test_a_codec_that_is_not_here_is_left_out_of_the_pictures(root, results):
    own, *peers = results.codecs
    changed = replace(results, codecs=(replace(own, fingerprint="00" * 8), *peers))
    shown = show_pictures(changed, root, 1)
    assert [view.codec for view in shown.pictures[0].views] == ["original", "jpeg-420", "webp"]
    assert any(f"{own.name} is not shown" in note for note in shown.notes)


def test_the_command_writes_a_page_with_pictures(root):
    output = root / "report.html"
    done = report(root / "results.json", "--data-root", root, "--pictures", 1, "-o", output)
    assert done.exit_code == 0, done.output
    assert [picture["picture"] for picture in Page(output.read_text()).data["shown"]["pictures"]] == ["1.png"]
    again = report(root / "results.json", "-o", output)
    assert again.exit_code != 0
    assert "exists already" in str(again.exception)


def test_without_its_pictures_the_page_says_so(root, results, tmp_path):
    output = tmp_path / "report.html"
    assert report(root / "results.json", "-o", output).exit_code == 0
    shown = Page(output.read_text()).data["shown"]
    assert shown["pictures"] == []
    assert "--data-root" in shown["notes"][0]
    (tmp_path / "pictures").mkdir()
    Image.fromarray(photograph(170, 170, seed=7)).save(tmp_path / "pictures" / "0.png")
    other = show_pictures(results, tmp_path, 4)
    assert other.pictures == ()
    assert "not those that were measured" in other.notes[0]


def test_other_schemas_are_refused_in_a_sentence_and_nothing_is_written(root, results, tmp_path):
    old, output = tmp_path / "old.json", tmp_path / "report.html"
    write_results(replace(results, schema=1), old)
    done = report(old, "-o", output)
    assert isinstance(done.exception, UsageError)
    assert re.search(r"has schema 1, this release reads \d+; evaluate again\.$", str(done.exception))
    missing = report(root / "results.json", "-o", tmp_path / "nowhere" / "report.html")
    assert isinstance(missing.exception, UsageError)
    assert "cannot be written" in str(missing.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.json"]
