"""The picture of docs/view.md: the page with AVIF on its left and Softstair on its right.

python docs/build/screenshot.py PHOTO OUT.png [--quality 20] [--width 1280] [--height 800] [--dark]
"""

from __future__ import annotations

import argparse
import io
import shutil
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from softstair.bundle import open_bundle
from softstair.codec import position_of_quality, usable_cores
from softstair.view.server import LocalServer, ServerSettings
from softstair.view.sources import pair_up

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PATIENCE = 300_000  # milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quality", type=float, default=20)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    bundle = open_bundle()
    position = position_of_quality(arguments.quality, bundle.last_position)
    server = LocalServer(ServerSettings(pair_up([arguments.photo]), bundle, position, usable_cores()))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with sync_playwright() as start:
            browser = start.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            size = {"width": arguments.width, "height": arguments.height}
            page = browser.new_page(viewport=size, color_scheme="dark" if arguments.dark else "light")
            page.goto(server.address)
            shot = arrange(page)
    finally:
        server.stop()
        thread.join()
    # As a palette it has a third of the bytes.
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(arguments.out, optimize=True)


def arrange(page: Page) -> bytes:
    """Look at a detail; a second round of everything, as the first one loads networks and libraries."""
    expect.set_options(timeout=PATIENCE)
    expect(page.locator("tr[data-codec]").first).to_be_visible()
    expect(page.locator(".late")).to_have_count(0)
    page.get_by_label("Quality").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".late")).to_have_count(0)
    page.keyboard.press("ArrowLeft")
    page.get_by_label("Left side").select_option("avif-420")
    page.get_by_text("2×", exact=True).click()
    expect(page.locator(".late")).to_have_count(0)
    page.wait_for_timeout(500)
    return page.screenshot()


if __name__ == "__main__":
    main()
