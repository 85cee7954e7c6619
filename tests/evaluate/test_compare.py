"""softstair compare: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import softstair
from softstair.commands import softstair as cli
from softstair.errors import OutputExists, TargetOutOfReach, UnreadablePicture
from softstair.view.page import Still, page_of
from softstair.view.views import Choice, Description

from ..tiny import photograph

HOSTILE = "</script><script>alert(1)</script><!--.jpg"


def elements(text: str, name: str) -> list[str]:
    return re.findall(rf"<{name}\b[^>]*>(.*?)</{name}>", text, re.DOTALL)


def content(text: str) -> Any:
    return json.loads(elements(text, "script")[0])


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "photo.png"
    Image.fromarray(photograph(120, 160)).save(path)
    return path


def compare(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["compare", "-j", "1", *map(str, arguments)])


@pytest.fixture(scope="module")
def page(photo: Path) -> str:
    done = compare(photo)
    assert done.exit_code == 0, done.output
    return photo.with_suffix(".html").read_text()


def test_the_file_asks_nobody(page):
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert not re.search(r"<link(?! rel=\"icon\" href=\"data:,\")|<(?:img|iframe)\b|@import|url\((?!#)", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "unsafe" not in policy


def test_its_own_style_and_script_are_allowed_and_no_others(page):
    _, script = elements(page, "script")
    (style,) = elements(page, "style")
    for kind, text in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in page


def test_every_codec_is_there_at_the_same_size(page, bundle):
    data, original = content(page), photograph(120, 160)
    views = {view["codec"]: view for view in data["views"]}
    assert list(views) == [choice["codec"] for choice in data["picture"]["choices"]]
    assert list(views)[:5] == ["original", "softstair", "jpeg-420", "webp", "avif-420"]
    assert data["position"] == round(0.75 * bundle.last_position)
    encoded = softstair.encode(original, rate_position=data["position"], threads=1)
    assert views["softstair"]["figures"]["file_bytes"] == len(encoded)
    for codec, view in views.items():
        kind, _, body = view["url"].partition(",")
        assert kind == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(body))) as image:
            shown = np.asarray(image)
        if codec == "original":
            assert np.array_equal(shown, original)
            continue
        assert view["figures"]["file_bytes"] <= len(encoded)
        error = np.square(shown.astype(float) - original).mean()
        assert view["figures"]["psnr"] == pytest.approx(10 * np.log10(255**2 / error))


def test_a_size_is_met_and_not_exceeded(photo, tmp_path):
    done = compare(photo, "--target-size", 3000, "-o", tmp_path / "small.html")
    assert done.exit_code == 0, done.output
    views = content((tmp_path / "small.html").read_text())["views"]
    sizes = [view["figures"]["file_bytes"] for view in views[1:] if view["figures"]]
    assert max(sizes) == sizes[0]
    assert 2800 < sizes[0] <= 3000


def test_a_codec_that_cannot_be_as_small_says_so(photo, tmp_path):
    done = compare(photo, "-q", 0, "-o", tmp_path / "least.html")
    assert done.exit_code == 0, done.output
    views = {view["codec"]: view for view in content((tmp_path / "least.html").read_text())["views"]}
    assert views["jpeg-420"]["problem"].startswith("JPEG: It cannot be as small as ")
    assert views["jpeg-420"]["figures"] is None


def test_what_cannot_be_done_is_one_error_and_no_file(photo, tmp_path, page):
    assert isinstance(compare(photo).exception, OutputExists)
    target = tmp_path / "none.html"
    assert isinstance(compare(photo, "--target-size", 20, "-o", target).exception, TargetOutOfReach)
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    assert isinstance(compare(tmp_path / "bad.jpg", "-o", target).exception, UnreadablePicture)
    assert not target.exists()


def test_a_hostile_name_stays_text():
    description = Description(HOSTILE, 1, 1, (("With", HOSTILE),), (Choice("original", HOSTILE),))
    text = page_of(Still(description, 0, 1, ())).text
    assert len(elements(text, "script")) == 2
    assert content(text)["picture"]["name"] == HOSTILE
