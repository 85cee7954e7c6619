"""The pages in a real browser, headless: what a hand does, what an eye sees."""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="the pages are tested with Playwright")
pytest.importorskip("starlette", reason="the page needs the extra web")

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from softstair.codec import Rate
from softstair.view.comparison import compare

from ..conftest import GOLDEN
from ..serving import Site, serving
from ..tiny import photograph

PATIENCE = 60_000  # milliseconds: a machine may be busy
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium (apt-get install chromium)")
QUIET = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as start:
        browser = start.chromium.launch(executable_path=BROWSER, args=[*QUIET, *root])
        yield browser
        browser.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    """An empty page; errors in it and requests that leave this machine fail the test."""
    with browser.new_context(viewport={"width": 1100, "height": 720}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        local = ("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:", "file:")
        page.on("request", lambda r: None if r.url.startswith(local) else complaints.append(r.url))
        yield page
        # A refusal is in the browser's own log, too, and no fault of the page.
        assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    Image.fromarray(photograph(150, 220)).save(folder / "photo.png")
    Image.fromarray(photograph(120, 100, seed=1)).save(folder / "second.png")
    (folder / "alone.stair").write_bytes((GOLDEN / "v1" / "plain.stair").read_bytes())
    return folder


@pytest.fixture(scope="module")
def site(folder, tiny_bundle) -> Iterator[Site]:
    names = ("photo.png", "second.png", "alone.stair")
    with serving(tiny_bundle, *(folder / name for name in names), position=140) as site:
        yield site


@pytest.fixture
def opened(page, site) -> Page:
    """The page of a photograph, all codecs done."""
    page.goto(site.address)
    settle(page)
    return page


def settle(page: Page) -> None:
    expect(page.locator("tr[data-codec]").first).to_be_visible()
    expect(page.locator(".late")).to_have_count(0)


def row(page: Page, codec: str) -> list[str]:
    return page.locator(f"tr[data-codec='{codec}'] td").all_text_contents()


def seen(page: Page) -> np.ndarray:
    """The pixels of the screen where the picture is."""
    box = page.locator(".pane img").first.bounding_box()
    assert box == {name: round(value) for name, value in box.items()}, "not on whole pixels"
    with Image.open(io.BytesIO(page.screenshot(clip=box))) as image:
        return np.asarray(image.convert("RGB"))


def stage_of(page: Page) -> Locator:
    return page.locator(".stage")


def drop(page: Page, name: str, data: bytes) -> None:
    """As if a file had been dragged here from the desktop."""
    script = """([name, text]) => {
      const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], name));
      for (const kind of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true}));
      }
    }"""
    page.evaluate(script, [name, base64.b64encode(data).decode()])


def test_the_divider_is_dragged(opened):
    divider, box = opened.get_by_role("slider", name="Divider"), stage_of(opened).bounding_box()
    assert divider.get_attribute("aria-valuenow") == "50"
    middle = box["y"] + box["height"] / 2
    opened.mouse.move(box["x"] + box["width"] / 2, middle)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] / 4, middle, steps=5)
    opened.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "25"
    assert divider.get_attribute("aria-valuetext") == "25 % Original, the rest Softstair"


def test_what_lies_left_and_right_of_the_divider(opened):
    """Left of it the original's pixels, right of it what Softstair made of them."""
    opened.get_by_role("slider", name="Divider").focus()
    original = photograph(150, 220)
    opened.keyboard.press("End")
    assert np.array_equal(seen(opened), original)
    opened.keyboard.press("Home")
    assert 1 < np.abs(seen(opened).astype(int) - original).mean() < 10


def test_the_divider_has_keys(opened):
    divider = opened.get_by_role("slider", name="Divider")
    divider.focus()
    for key, value in (
        ("ArrowLeft", "49"),
        ("Shift+ArrowRight", "59"),
        ("PageUp", "69"),
        ("Home", "0"),
        ("End", "100"),
    ):
        opened.keyboard.press(key)
        assert divider.get_attribute("aria-valuenow") == value


def test_the_difference_is_black_where_nothing_differs(opened):
    opened.get_by_text("×8").click()
    differing = seen(opened)
    opened.get_by_label("Right side").select_option("original")
    expect(opened.locator(".late")).to_have_count(0)
    equal = seen(opened)
    assert differing.mean() > 5
    assert equal.max() == 0
    expect(opened.get_by_role("slider", name="Divider")).to_be_hidden()


def test_the_slider_encodes_again(opened):
    slider = opened.get_by_label("Quality")
    before = row(opened, "softstair")
    first = opened.locator(".pane img").nth(1).get_attribute("src")
    slider.focus()
    for _ in range(3):
        opened.keyboard.press("PageDown")
    settle(opened)
    position = slider.input_value()
    assert int(position) < 140
    after = row(opened, "softstair")
    assert int("".join(filter(str.isdigit, after[0]))) < int("".join(filter(str.isdigit, before[0])))
    assert float(after[2]) < float(before[2])
    assert opened.locator(".pane img").nth(1).get_attribute("src") != first
    expect(opened.locator("#took")).to_contain_text(f"rate position {position}, encoded in")
    expect(opened.locator("#line")).to_have_text(
        f"softstair encode photo.png -q {opened.locator('#quality').text_content()}"
    )


def test_a_slider_that_is_dragged_ends_where_it_was_left(opened):
    asked: list[str] = []
    ended: list[str] = []
    waiting: list[int] = []

    def ask(request):
        if "/softstair?" in request.url:
            asked.append(request.url)
            waiting.append(len(asked) - len(ended))

    opened.on("request", ask)
    for event in ("requestfinished", "requestfailed"):
        opened.on(event, lambda request: ended.append(request.url) if "/softstair?" in request.url else None)
    box = opened.get_by_label("Quality").bounding_box()
    middle = box["y"] + box["height"] / 2
    opened.mouse.move(box["x"] + box["width"] * 0.85, middle)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.3, middle, steps=60)
    opened.mouse.up()
    settle(opened)
    position = opened.get_by_label("Quality").input_value()
    expect(opened.locator("#took")).to_contain_text(f"rate position {position},")
    assert asked[-1].endswith(f"position={position}")
    assert max(waiting) <= 3  # moves do not queue up


def test_another_codec_beside_it(opened):
    opened.get_by_role("button", name="AVIF").click()
    expect(opened.get_by_label("Right side")).to_have_value("avif-420")
    expect(opened.locator("#side-1 p")).to_contain_text("quality ")
    expect(opened.locator(".pane img").nth(1)).to_have_attribute("alt", "AVIF")


def test_zoom_and_pan(opened):
    stage, image = stage_of(opened), opened.locator(".pane img").first
    opened.get_by_text("4×", exact=True).click()
    assert image.bounding_box()["width"] == 4 * 220
    before = image.get_attribute("style")
    box = stage.bounding_box()
    opened.mouse.move(box["x"] + 100, box["y"] + 100)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 140, box["y"] + 120)
    opened.mouse.up()
    assert image.get_attribute("style") != before
    opened.mouse.wheel(0, -300)
    expect(opened.get_by_label("4×", exact=True)).not_to_be_checked()
    stage.focus()
    opened.keyboard.press("0")
    expect(opened.get_by_label("fit")).to_be_checked()
    opened.keyboard.press("+")
    assert image.bounding_box()["width"] == 1.5 * 220


def test_a_photograph_is_dropped(opened):
    buffer = io.BytesIO()
    Image.fromarray(photograph(90, 130, seed=2)).save(buffer, "PNG")
    drop(opened, "dropped <b>.png", buffer.getvalue())
    expect(opened.get_by_label("Picture", exact=True).locator("option:checked")).to_have_text(
        "dropped <b>.png"
    )
    settle(opened)
    expect(opened.locator(".facts")).to_contain_text("130 × 90")
    expect(opened.locator("#drop")).to_be_hidden()
    opened.get_by_label("Picture", exact=True).select_option("photo.png")
    expect(opened.locator(".facts")).to_contain_text("220 × 150")


def test_a_bad_file_is_a_sentence_and_the_picture_stays(opened):
    opened.get_by_label("Quality").focus()
    opened.keyboard.press("PageDown")
    drop(opened, "notes.txt", b"not a picture")
    expect(opened.locator("#message")).to_have_text(
        "notes.txt is not a picture in a format that can be read."
    )
    settle(opened)
    expect(opened.locator(".facts")).to_contain_text("220 × 150")


def test_a_stair_file_is_shown_alone(opened):
    opened.get_by_label("Picture", exact=True).select_option("alone.stair")
    expect(opened.locator(".facts")).to_contain_text("Rate position")
    expect(opened.locator(".pane img").first).to_be_visible()
    expect(opened.get_by_role("slider")).to_have_count(0)
    expect(opened.get_by_label("Quality")).to_have_count(0)


def test_without_files_it_waits_for_one(page, tiny_bundle, folder):
    with serving(tiny_bundle, position=140) as site:
        page.goto(site.address)
        expect(page.locator("#message")).to_contain_text("Drop a photograph")
        page.get_by_label("Open a photograph").set_input_files(folder / "second.png")
        settle(page)
        expect(page.locator(".facts")).to_contain_text("100 × 120")


def test_a_server_that_has_ended_is_a_sentence(page, tiny_bundle, folder):
    with serving(tiny_bundle, folder / "photo.png", position=140) as site:
        page.goto(site.address)
        settle(page)
    page.get_by_label("Quality").focus()
    page.keyboard.press("PageDown")
    expect(page.locator("#message")).to_contain_text("is it still running")


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_screen(opened, width):
    opened.set_viewport_size({"width": width, "height": 740})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_the_file_of_compare_works_from_a_disk(page, tmp_path, tiny_bundle):
    buffer = io.BytesIO()
    Image.fromarray(photograph(150, 220)).save(buffer, "PNG")
    text = compare(
        buffer.getvalue(), "photo.png", Rate(position=140), tiny_bundle, 1, lambda done, total: None
    )
    (tmp_path / "photo.html").write_text(text)
    page.goto((tmp_path / "photo.html").as_uri())
    settle(page)
    for side in (0, 1):
        assert page.locator(".pane img").nth(side).evaluate("image => image.naturalWidth") == 220
    page.get_by_role("button", name="JPEG", exact=True).click()
    expect(page.get_by_label("Right side")).to_have_value("jpeg-420")
    page.get_by_role("slider", name="Divider").focus()
    page.keyboard.press("Home")
    assert page.get_by_role("slider", name="Divider").get_attribute("aria-valuenow") == "0"
    expect(page.locator("input[type=range]")).to_have_count(0)


@pytest.fixture
def blind(page, tiny_bundle, folder) -> Iterator[Page]:
    """A blind comparison of two photographs at two rates, at its start."""
    names = (folder / "photo.png", folder / "second.png")
    with serving(tiny_bundle, *names, blind=(120, 150)) as site:
        page.goto(site.address)
        expect(page.get_by_label("The other codec")).to_have_value("avif-420")
        yield page


def test_a_blind_comparison_hides_names_until_the_tally(blind):
    blind.get_by_label("The other codec").select_option("jpeg-420")
    blind.get_by_role("button", name="Start").click()
    picks = ["A", "No difference", "B", "A"]
    for at, pick in enumerate(picks):
        expect(blind.locator("#sides p")).to_contain_text(f"{at + 1} of 4")
        button = blind.get_by_role("button", name=pick, exact=True)
        expect(button).to_be_visible()
        shown = blind.locator("body").inner_text()
        assert not [name for name in ("Softstair:", "JPEG", "bytes", "kB", "dB") if name in shown]
        assert blind.locator(".stage").get_attribute("aria-label")
        assert "aria-valuetext" not in shown
        divider = blind.get_by_role("slider", name="Divider")
        assert divider.get_attribute("aria-valuetext") == "50 % A, the rest B"
        button.click()
    tally = blind.locator("#tally").inner_text()
    softstair, jpeg, same = (int(part.rsplit(" ", 1)[1]) for part in tally.removesuffix(".").split(". "))
    assert tally.startswith("Softstair: ")
    assert "JPEG: " in tally
    assert (softstair + jpeg, same) == (3, 1)
    tables = blind.locator("table")
    expect(tables.first.locator("tbody tr")).to_have_count(3)  # two rates, and all
    rows = tables.last.locator("tbody tr")
    expect(rows).to_have_count(4)
    for at in range(4):
        _, own, other, _ = rows.nth(at).locator("th, td").all_inner_texts()
        assert 0 < int(other.replace("\u202f", "")) <= int(own.replace("\u202f", ""))
    picked = [rows.nth(at).locator("td").last.inner_text() for at in range(4)]
    assert picked.count("Softstair") == softstair
    assert picked.count("No difference") == 1


def test_a_blind_comparison_shows_the_original_beside_either(blind):
    blind.get_by_role("button", name="Start").click()
    expect(blind.get_by_role("button", name="A", exact=True)).to_be_visible()
    blind.get_by_text("A and the original", exact=True).click()
    blind.get_by_role("slider", name="Divider").focus()
    blind.keyboard.press("Home")
    expect(blind.get_by_role("slider", name="Divider")).to_have_attribute(
        "aria-valuetext", "0 % A, the rest the original"
    )
    assert any(np.array_equal(seen(blind), photograph(*size)) for size in ((150, 220), (120, 100, 1)))


def test_a_blind_comparison_says_what_it_left_out(page, tiny_bundle, folder):
    with serving(tiny_bundle, folder / "photo.png", blind=(0,)) as site:
        page.goto(site.address)
        page.get_by_label("The other codec").select_option("jpeg-420")
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#panel")).to_contain_text("Left out: photo.png. JPEG: It cannot be as small")


def test_the_report_has_the_same_viewer(page, tmp_path):
    pytest.importorskip("scipy", reason="evaluation needs the extra eval")
    from softstair.evaluate.page import report_page
    from softstair.evaluate.page_pictures import Shown, ShownPicture, View, webp_url

    from ..results_example import example_results

    views = [
        View(codec, quality, 9, 9, 1.0, None, webp_url(photograph(150, 220, seed)))
        for seed, (codec, quality) in enumerate([("original", None), ("ours", 1.0), ("jpeg", 2.0)])
    ]
    shown = Shown((ShownPicture("a.png", 220, 150, tuple(views)),), ())
    (tmp_path / "report.html").write_text(report_page(example_results(), shown))
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.locator(".pane img")).to_have_count(2)
    page.get_by_role("slider", name="Divider").focus()
    page.keyboard.press("ArrowRight")
    assert (
        page.get_by_role("slider", name="Divider").get_attribute("aria-valuetext")
        == "51 % a.png by ours, the rest a.png by jpeg"
    )
    page.get_by_text("2×", exact=True).click()
    assert page.locator(".pane img").first.bounding_box()["width"] == 2 * 220
