"""Chromium and Firefox decode what the Python package does; the page of an album makes no request."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import softstair
from softstair.share import album, service_worker

from ..browsers import CHROMIUM, FIREFOX, Site, opened
from ..codec.test_exact_in_c import exact_stream
from ..format.test_golden import CASES, FOLDER, SHIPPED, V2, V2_CASES
from ..tiny import photograph
from .test_js import PACKAGE, as_rgba

MODELS = Path(softstair.__file__).parent / "models"
BROWSERS = [
    pytest.param(
        browser,
        id=name,
        marks=pytest.mark.skipif(browser is None, reason=f"needs {name} (apt-get install {name})"),
    )
    for name, browser in (("chromium", CHROMIUM), ("firefox-esr", FIREFOX))
]
STRICT = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; object-src 'none'"
SCRIPT = """
import { decode, decodeToPng, symbolHash, info, close } from "/js/index.js";
const post = (path, body) => fetch(path, { method: "POST", body });
const found = {};
try {
  const jobs = await (await fetch("/jobs.json")).json();
  for (const [name, bundle] of jobs) {
    const bytes = await (await fetch(name)).arrayBuffer();
    const options = { bundleUrl: bundle };
    const symbols = await symbolHash(bytes, options);
    const { width, height, data } = await decode(bytes, options);
    found[name] = { symbols, width, height };
    await post("/pixels" + name, data);
  }
  const [first, bundleUrl] = jobs[0];
  const cut = new Uint8Array(await (await fetch(first)).arrayBuffer()).subarray(0, 60);
  found.cut = await decode(cut, { bundleUrl }).catch(({ code, message }) => ({ code, message }));
  const controller = new AbortController();
  const whole = await (await fetch(first)).arrayBuffer();
  const aborted = decode(whole, { bundleUrl, signal: controller.signal });
  controller.abort();
  found.aborted = await aborted.then(() => "decoded", (error) => error.name);
} catch (error) {
  found.error = String(error.stack ?? error);
}
await post("/done", JSON.stringify(found));
"""
# Browsers have no package imports; a bundler resolves this one.
PAGE = '<!doctype html><script type="module" src="/run.js"></script>'


@pytest.mark.parametrize("browser", BROWSERS)
def test_golden_streams_in_browsers_under_a_strict_policy(browser, tmp_path):
    pixels = photograph(70, 90, 2)
    (tmp_path / "exact.stair").write_bytes(exact_stream(pixels))
    cases = {f"/v1/{name}.stair": FOLDER for name in CASES} | {f"/v2/{name}.stair": V2 for name in V2_CASES}
    made = {"/made/exact.stair": "/v1/tiny.stairs", "/shipped/photo.stair": "/models/photo.stairs"}
    index = (PACKAGE / "index.js").read_text().replace('"#platform"', '"./platform-browser.js"')
    jobs = json.dumps([*((name, "/v1/tiny.stairs") for name in cases), *made.items()])
    texts = {"/": PAGE, "/run.js": SCRIPT, "/jobs.json": jobs, "/js/index.js": index}
    models = Path(softstair.__file__).parent / "models"
    folders = {"v1": FOLDER, "v2": V2, "shipped": SHIPPED, "models": models}
    site = Site({"js": PACKAGE, "made": tmp_path, **folders}, texts, {"Content-Security-Policy": STRICT})
    with opened(browser, site.address + "/"):
        assert site.done.wait(120), f"asked for {site.asked}"
    site.close()
    found = json.loads(site.posted["/done"])
    assert "error" not in found, found["error"]
    for name, folder in cases.items():
        expected = json.loads((folder / "expected.json").read_text())[Path(name).stem]
        if not expected.get("exact"):  # without what is learned a stream has no symbols
            assert found[name]["symbols"] == expected["symbols"]
        with np.load(folder / expected["pixels"]) as stored:
            reference = as_rgba(stored["arr_0"]).astype(int)
        raw = np.frombuffer(site.posted[f"/pixels{name}"], np.uint8)
        assert np.abs(raw.reshape(reference.shape) - reference).max() <= 1
    shipped = json.loads((SHIPPED / "expected.json").read_text())["photo"]
    assert found["/shipped/photo.stair"]["symbols"] == shipped["symbols"]
    exact = np.frombuffer(site.posted["/pixels/made/exact.stair"], np.uint8).reshape(70, 90, 4)
    assert np.array_equal(exact, as_rgba(pixels))
    assert found["cut"]["code"] == "truncated"
    assert found["cut"]["message"].endswith(".")
    assert found["aborted"] == "AbortError"


IMAGE_PAGE = """<!doctype html><body><script>
(async () => {
  const post = (path, body) => fetch(path, { method: "POST", body });
  try {
    await navigator.serviceWorker.register("/stair-service-worker.js?files=/files/");
    await navigator.serviceWorker.ready;
    if (!navigator.serviceWorker.controller)
      await new Promise((done) => navigator.serviceWorker.addEventListener("controllerchange", done));
    const image = new Image();
    image.src = "/shipped/photo.stair";
    document.body.append(image);
    await image.decode();
    await post("/done", JSON.stringify({ width: image.naturalWidth, height: image.naturalHeight }));
  } catch (error) { await post("/done", JSON.stringify({ error: String(error) })); }
})();
</script>"""


@pytest.mark.parametrize("browser", BROWSERS)
def test_an_image_element_shows_a_stair_file_by_the_service_worker(browser, tmp_path):
    bundle = softstair.open_bundle()
    for file in ("softstair.wasm", "softstair-relaxed.wasm"):
        (tmp_path / file).write_bytes((PACKAGE / file).read_bytes())
    data = (SHIPPED / "photo.stair").read_bytes()
    fingerprint = softstair.info(data).fingerprint
    fingerprint = fingerprint if isinstance(fingerprint, str) else fingerprint.hex()
    assert bundle.fingerprint.hex() == fingerprint
    (tmp_path / f"{fingerprint}.stairs").write_bytes((MODELS / "photo.stairs").read_bytes())
    texts = {"/": IMAGE_PAGE, "/stair-service-worker.js": service_worker()}
    site = Site({"files": tmp_path, "shipped": SHIPPED}, texts)
    with opened(browser, site.address + "/"):
        assert site.done.wait(120), f"asked for {site.asked}"
    site.close()
    assert json.loads(site.posted["/done"]) == {"width": 576, "height": 384}


@pytest.mark.parametrize("browser", BROWSERS)
def test_an_album_shows_its_pictures_and_makes_no_request(browser):
    data = (SHIPPED / "photo.stair").read_bytes()
    pixels = photograph(60, 80, 6)
    pictures = {"photo.stair": data, "exact.stair": exact_stream(pixels), "cut.stair": data[: len(data) // 2]}
    page = album("Holidays", pictures)
    # The page tells nobody anything; this one is made to, for the test.
    spy = """<script>
    new MutationObserver(async () => {
      if (!document.body.dataset.ready) return;
      const images = [...document.querySelectorAll("figure img")];
      await Promise.all(images.map((image) => image.decode()));
      const text = [...document.querySelectorAll("figcaption, .failed, #status")].map((e) => e.textContent);
      const sizes = images.map((image) => [image.naturalWidth, image.naturalHeight]);
      fetch("/done", { method: "POST", body: JSON.stringify({ sizes, text }) });
    }).observe(document.body, { attributes: true });
    </script></body>"""
    open_to_us = page.replace("default-src 'none'", "default-src 'none'; connect-src 'self'")
    site = Site({}, {"/album.html": open_to_us.replace("</body>", spy)})
    with opened(browser, site.address + "/album.html"):
        assert site.done.wait(120), f"asked for {site.asked}"
    site.close()
    found = json.loads(site.posted["/done"])
    assert found["sizes"] == [[576, 384], [80, 60], [576, 384]], found["text"]
    told = "The picture is not complete: the file ends early and is shown as far as its bytes reach."
    assert [told in text for text in found["text"]].count(True) == 1
    assert [path for path in site.asked if path not in ("/album.html", "/favicon.ico")] == []


def test_the_page_of_an_album_is_the_same_every_time():
    data = {"a.stair": exact_stream(photograph(20, 30))}
    first, second = album("A", data), album("A", data)
    assert hashlib.sha256(first.encode()).digest() == hashlib.sha256(second.encode()).digest()
    assert "connect-src" not in first
