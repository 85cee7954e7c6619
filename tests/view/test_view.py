"""softstair view over HTTP, without a browser."""

from __future__ import annotations

import asyncio
import io
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

pytest.importorskip("starlette", reason="the page needs the extra web")
pytest.importorskip("uvicorn", reason="the page needs the extra web")

import softstair
from softstair.commands import softstair as cli
from softstair.engine.onnx_runtime import OnnxNetworks
from softstair.errors import LimitExceeded, UsageError
from softstair.view import photograph as photograph_module
from softstair.view import pictures, sources
from softstair.view.jobs import Jobs, Superseded
from softstair.view.sources import pair_up

from ..conftest import GOLDEN
from ..serving import Answer, Site, serving
from ..tiny import photograph

PEERS = {"jpeg-420", "webp", "avif-420"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_bundle) -> Path:
    """photo.png, with what became of it; alone.stair, which has another size."""
    folder = tmp_path_factory.mktemp("view")
    Image.fromarray(photograph(75, 90)).save(folder / "photo.png")
    data = softstair.encode(photograph(75, 90), rate_position=30, bundle=tiny_bundle)
    (folder / "photo.stair").write_bytes(data)
    (folder / "alone.stair").write_bytes((GOLDEN / "v1" / "plain.stair").read_bytes())
    return folder


@pytest.fixture(scope="module")
def site(folder, tiny_bundle) -> Iterator[Site]:
    with serving(tiny_bundle, folder / "photo.png", folder / "alone.stair", folder / "photo.stair") as site:
        yield site


def pixels(answer: Answer) -> np.ndarray:
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.body)) as image:
        return np.asarray(image)


def png(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


# Who may ask


def test_the_page_may_reach_nothing_but_its_own_server(site):
    page = site.ask("")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert "server" not in page.headers
    assert site.token.encode() not in page.body


@pytest.mark.parametrize(
    "path", ["/", "/favicon.ico", "/pictures/0", "/wrong/", "/wrong/pictures/0", "//", "/é/"]
)
def test_without_the_token_there_is_nothing(site, path):
    answer = site.ask(path.replace("é", "%C3%A9"))
    assert answer.status == 404
    assert b"photo" not in answer.body


def test_a_token_must_be_whole(site):
    assert site.ask(f"/{site.token}").status == 404
    assert site.ask(f"/{site.token[:-1]}/").status == 404
    assert site.ask(f"/{site.token}x/").status == 404


def test_tokens_are_long_and_never_the_same(site, tiny_bundle):
    with serving(tiny_bundle) as other:
        assert other.token != site.token
        assert len(site.token) >= 32


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1", "[::1]:{port}", ""]
)
def test_other_names_for_this_machine_are_refused(site, host):
    answer = site.ask("", headers={"Host": host.format(port=site.port)})
    assert answer.status == 421
    assert b"<script" not in answer.body


def test_both_names_of_this_machine_are_served(site):
    for name in ("127.0.0.1", "localhost"):
        headers = {"Host": f"{name}:{site.port}", "Origin": f"http://{name}:{site.port}"}
        assert site.ask("", headers=headers).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "http://localhost:1"])
def test_other_sites_cannot_send(site, origin):
    assert site.ask("pictures?name=a", "POST", b"x", {"Origin": origin}).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "../photo.png",
        "pictures/../../etc/passwd",
        "pictures/0/..%2f..%2fphoto.png",
        "pictures/%2e%2e/photo.png",
        "pictures/photo.png",
        "pictures/0/original/../../../photo.png",
        "viewer.js",
    ],
)
def test_paths_lead_to_no_file(site, path):
    answer = site.ask(path)
    assert answer.status in (404, 422)
    assert b"PNG" not in answer.body
    assert b"root:" not in answer.body


def test_it_listens_on_loopback_alone(site):
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("needs /proc/net/tcp")
    listening = [line.split()[1] for line in table.read_text().splitlines()[1:] if line.split()[3] == "0A"]
    assert [place for place in listening if int(place.split(":")[1], 16) == site.port] == [
        f"0100007F:{site.port:04X}"
    ]


# What is shown


def test_a_photograph_with_what_became_of_it(site):
    opened = site.ask("pictures/0").json
    picture = opened["picture"]
    assert (opened["entry"], picture["width"], picture["height"]) == (
        {"number": 0, "name": "photo.png"},
        90,
        75,
    )
    codecs = [choice["codec"] for choice in picture["choices"]]
    assert codecs[:2] == ["original", "softstair"]
    assert set(codecs[2:-1]) >= PEERS
    assert codecs[-1] == "file"
    facts = dict(picture["facts"])
    assert facts["Original"].startswith("PNG, ")
    assert facts["Rate position"] == "30"


def test_the_original_is_shown_as_it_is(site, folder):
    answer = site.ask("pictures/0/original?position=60")
    assert np.array_equal(pixels(answer), photograph(75, 90))
    assert answer.figures["file_bytes"] == (folder / "photo.png").stat().st_size
    assert answer.figures["position"] is None


def test_softstair_is_what_encode_and_decode_make(site, tiny_bundle):
    for position in (60, 20):
        answer = site.ask(f"pictures/0/softstair?position={position}")
        data = softstair.encode(photograph(75, 90), rate_position=position, bundle=tiny_bundle, threads=1)
        decoded = softstair.decode(data, bundle=tiny_bundle, threads=1)
        assert np.array_equal(pixels(answer), decoded)
        figures = answer.figures
        assert (figures["position"], figures["file_bytes"]) == (position, len(data))
        assert figures["bpp"] == pytest.approx(8 * len(data) / (75 * 90))
        error = np.square(decoded.astype(float) - photograph(75, 90)).mean()
        assert figures["psnr"] == pytest.approx(10 * np.log10(255**2 / error))
        assert figures["encode_ms"] > 0
        assert figures["decode_ms"] > 0


def test_peers_are_as_large_as_they_may_be(site):
    limit = site.ask("pictures/0/softstair?position=140").figures["file_bytes"]
    for codec in PEERS:
        answer = site.ask(f"pictures/0/{codec}?position=140")
        assert answer.status == 200, answer.body
        assert 0.7 * limit < answer.figures["file_bytes"] <= limit
        assert answer.figures["knob"].startswith("quality ")
        assert pixels(answer).shape == (75, 90, 3)


def test_a_peer_that_cannot_be_as_small_says_so(site):
    answer = site.ask("pictures/0/jpeg-420?position=0")
    assert answer.status == 422
    assert answer.json["error"].startswith("JPEG: It cannot be as small as ")


def test_a_stair_file_alone(site, tiny_bundle):
    picture = site.ask("pictures/1").json["picture"]
    assert [choice["codec"] for choice in picture["choices"]] == ["file"]
    assert dict(picture["facts"])["Mode"] == "scalar"
    answer = site.ask("pictures/1/file?position=0")
    decoded = softstair.decode((GOLDEN / "v1" / "plain.stair").read_bytes(), bundle=tiny_bundle, threads=1)
    assert np.array_equal(pixels(answer), decoded)
    assert answer.figures["psnr"] is None
    assert site.ask("pictures/1/softstair?position=0").status == 422


def test_the_picture_is_shown_upright_with_its_profile(tmp_path, tiny_bundle):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(photograph(40, 60)).save(tmp_path / "turned.png", exif=exif, icc_profile=profile)
    with serving(tiny_bundle, tmp_path / "turned.png") as site:
        picture = site.ask("pictures/0").json["picture"]
        assert (picture["width"], picture["height"]) == (40, 60)
        for codec in ("original", "softstair", "webp"):
            answer = site.ask(f"pictures/0/{codec}?position=140")
            assert pixels(answer).shape == (60, 40, 3)
            with Image.open(io.BytesIO(answer.body)) as image:
                assert image.info["icc_profile"] == profile
                assert not image.getexif()
        assert np.array_equal(
            pixels(site.ask("pictures/0/original?position=0")), np.rot90(photograph(40, 60), -1)
        )


def test_grey_and_transparent_pictures(tmp_path, tiny_bundle):
    colour, alpha = photograph(100, 120), np.full((100, 120), 255, np.uint8)
    alpha[:, :20] = 0
    Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / "alpha.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "grey.png")
    with serving(tiny_bundle, tmp_path / "alpha.png", tmp_path / "grey.png") as site:
        for codec in ("original", "softstair", "avif-420"):
            shown = pixels(site.ask(f"pictures/0/{codec}?position=140"))
            assert np.array_equal(shown[..., 3], alpha)
            assert site.ask(f"pictures/1/{codec}?position=140").status == 200


# What is dropped


def test_a_photograph_can_be_dropped(site):
    answer = site.ask("pictures?name=dropped.png", "POST", png(photograph(50, 40)))
    assert answer.status == 200
    number = answer.json["entry"]["number"]
    assert answer.json["picture"]["name"] == "dropped.png"
    assert np.array_equal(pixels(site.ask(f"pictures/{number}/original?position=0")), photograph(50, 40))


def test_a_stair_file_can_be_dropped(site, folder):
    answer = site.ask("pictures?name=x.stair", "POST", (folder / "photo.stair").read_bytes())
    assert [choice["codec"] for choice in answer.json["picture"]["choices"]] == ["file"]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not a picture"),
        (b"not a picture", "is not a picture"),
        (EPS, "is not a picture"),
        (png(photograph(50, 40))[:900], "cannot be decoded"),
        (b"\xa5STR\x01", "the file is not complete"),
    ],
    ids=["empty", "text", "a format that runs programs", "cut", "a cut stream"],
)
def test_bad_files_are_a_sentence(site, data, says):
    answer = site.ask("pictures?name=bad.jpg", "POST", data)
    assert answer.status == 422
    assert says in answer.json["error"]
    assert answer.json["error"].endswith(".")
    assert b"Traceback" not in answer.body


def test_large_files_are_refused_before_they_are_read(site, monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 5000)
    declared = site.ask("pictures?name=big.png", "POST", headers={"Content-Length": "5001"})
    assert declared.status == 413
    assert declared.json["error"].startswith("big.png is larger than")
    streamed = site.ask("pictures?name=big.png", "POST", iter([bytes(3000), bytes(3000)]))
    assert streamed.status == 413


def test_many_pixels_are_refused_before_they_are_decoded(site, monkeypatch, folder, tiny_bundle):
    bomb = png(np.zeros((8000, 8000), np.uint8))
    assert len(bomb) < 100_000
    start = time.perf_counter()
    answer = site.ask("pictures?name=bomb.png", "POST", bomb)
    assert (answer.status, time.perf_counter() - start < 30) == (413, True)
    assert answer.json["error"].startswith("bomb.png has 8000x8000 pixels, more than the 50 million")
    worse = site.ask("pictures?name=worse.png", "POST", png(np.zeros((10000, 10000), np.uint8)))
    assert worse.status == 413
    monkeypatch.setattr(sources, "MAX_PIXELS", 100)
    assert site.ask("pictures?name=a.stair", "POST", (folder / "photo.stair").read_bytes()).status == 413


def test_of_dropped_pictures_the_latest_are_kept(tiny_bundle):
    with serving(tiny_bundle) as site:
        data = png(photograph(20, 20))
        numbers = [
            site.ask(f"pictures?name={name}", "POST", data).json["entry"]["number"] for name in "abcdef"
        ]
        kept = [number for number in numbers if site.ask(f"pictures/{number}").status == 200]
        assert kept == numbers[-pictures.DROPPED :]
        assert "drop it again" in site.ask(f"pictures/{numbers[0]}").json["error"]


@pytest.mark.parametrize(
    "query", ["", "position=", "position=-1", "position=1e2", "position=999", "position=99999"]
)
def test_positions_are_checked(site, query):
    answer = site.ask(f"pictures/0/softstair?{query}")
    assert answer.status == 422
    assert "position" in answer.json["error"]


def test_other_requests_are_refused(site):
    assert site.ask("pictures/7").status == 422
    assert site.ask("pictures/0/bmp?position=3").json["error"] == "photo.png cannot be shown as bmp."
    assert site.ask("pictures/0", "POST").status == 405
    assert site.ask("", "DELETE").status == 405


def test_a_failure_of_ours_is_a_sentence_too(site, monkeypatch, caplog):
    monkeypatch.setattr(photograph_module, "decode_picture", lambda *_, **__: 1 / 0)
    answer = site.ask("pictures/0/softstair?position=77")
    assert answer.status == 500
    assert answer.json["error"] == "Softstair failed; the terminal it runs in says more."


# The latest wins


def test_a_picture_is_analysed_once(folder, tiny_bundle, monkeypatch):
    counted, analysis = [], OnnxNetworks.analysis
    monkeypatch.setattr(OnnxNetworks, "analysis", lambda self, x: counted.append(1) or analysis(self, x))
    with serving(tiny_bundle, folder / "photo.png") as site:
        for position in range(0, 100, 20):
            assert site.ask(f"pictures/0/softstair?position={position}").status == 200
    assert len(counted) == 1


def test_moves_of_a_slider_do_not_queue_up(folder, tiny_bundle, monkeypatch):
    coded, encode = [], photograph_module.PictureEncoder.encode

    def encode_slowly(self, position):
        coded.append(position)
        time.sleep(0.3)
        return encode(self, position)

    monkeypatch.setattr(photograph_module.PictureEncoder, "encode", encode_slowly)
    with serving(tiny_bundle, folder / "photo.png") as site, ThreadPoolExecutor(8) as pool:
        assert site.ask("pictures/0").status == 200

        def move(position: int) -> int:
            time.sleep(position / 400)
            path = f"pictures/0/softstair?position={position}"
            return site.ask(path, headers={"Softstair-Page": "one"}).status

        statuses = list(pool.map(move, range(1, 80, 10)))
    assert statuses[-1] == 200
    assert statuses.count(409) >= 4
    assert coded[-1] == 71
    assert len(coded) < 5


def test_pages_do_not_supersede_each_other():
    async def both() -> list[str]:
        jobs = Jobs()
        work = [jobs.do(page, lambda check, page=page: check() or page) for page in ("one", "other")]
        return list(await asyncio.gather(*work))

    assert asyncio.run(both()) == ["one", "other"]


def test_work_that_has_begun_is_told_to_stop():
    begun = threading.Event()

    def search(check):
        begun.set()
        for _ in range(1000):
            check()
            time.sleep(0.01)
        return "found"

    async def ask_twice() -> str:
        jobs = Jobs()
        first = asyncio.create_task(jobs.do("page", search))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        second = await jobs.do("page", lambda _check: "moved")
        with pytest.raises(Superseded):
            await first
        return second

    assert asyncio.run(ask_twice()) == "moved"


# Files that are named


def test_files_are_paired_by_their_names(folder, tmp_path):
    for name in ("a.jpg", "a.stair", "b.stair", "c.png", "c.jpg", "c.stair"):
        (tmp_path / name).write_bytes(b"")
    paths = [tmp_path / name for name in ("a.stair", "a.jpg", "b.stair", "c.png", "c.jpg", "c.stair")]
    found = [(one.name, one.photo and one.photo.name, one.stair and one.stair.name) for one in pair_up(paths)]
    assert found == [
        ("a.jpg", "a.jpg", "a.stair"),
        ("b.stair", None, "b.stair"),
        ("c.png", "c.png", None),
        ("c.jpg", "c.jpg", None),
        ("c.stair", None, "c.stair"),
    ]
    with pytest.raises(UsageError, match="does not exist"):
        pair_up([tmp_path / "missing.jpg"])
    with pytest.raises(UsageError, match="is not a file"):
        pair_up([tmp_path])


def test_named_files_have_limits_too(folder, monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    with pytest.raises(LimitExceeded, match="photo.png is larger than"):
        pair_up([folder / "photo.png"])[0].read()


def test_a_pair_of_other_sizes_is_a_sentence(folder, tmp_path, tiny_bundle):
    Image.fromarray(photograph(20, 20)).save(tmp_path / "photo.png")
    with serving(tiny_bundle, tmp_path / "photo.png", folder / "photo.stair") as site:
        error = site.ask("pictures/0").json["error"]
    assert error == "The .stair file of photo.png has another size; look at the pictures one at a time."


# The command


def test_the_command_prints_the_address_and_ends_at_ctrl_c(folder):
    script = "from softstair.commands import main; main()"
    command = [sys.executable, "-c", script, "view", "--no-open", "-j", "1", str(folder / "photo.png")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        site = Site(process.stderr.readline().strip())
        assert site.ask("").status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()


def test_a_browser_is_told_the_address_by_a_file_that_others_cannot_read(monkeypatch, bundle):
    from click.testing import CliRunner

    from softstair.view import server

    opened: list[tuple[Path, str, int]] = []

    def browse(url: str) -> None:
        path = Path(url.removeprefix("file://"))
        opened.append((path, path.read_text(), path.parent.stat().st_mode & 0o777))

    def serve(self: server.LocalServer) -> None:
        self.listener.close()
        patience = time.monotonic() + (30 if opening else 0)
        while not opened and time.monotonic() < patience:
            time.sleep(0.01)

    opening = False
    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.setattr(server.LocalServer, "run", serve)
    assert CliRunner().invoke(cli, ["view", "--no-open"]).exit_code == 0
    assert opened == []
    opening = True
    address = CliRunner().invoke(cli, ["view"]).output.splitlines()[0]
    ((path, text, mode),) = opened
    assert (f'href="{address}"' in text, mode, path.exists()) == (True, 0o700, False)


def test_a_blind_comparison_needs_photographs(monkeypatch, folder):
    from click.testing import CliRunner

    for files in ([], [folder / "photo.png", folder / "alone.stair"]):
        done = CliRunner().invoke(cli, ["view", "--blind", "--no-open", *map(str, files)])
        assert isinstance(done.exception, UsageError)
        assert "needs photographs" in str(done.exception)


def test_without_the_extra_the_command_says_what_to_install(monkeypatch):
    from click.testing import CliRunner

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "softstair.view.server", raising=False)
    done = CliRunner().invoke(cli, ["view", "--no-open"])
    assert isinstance(done.exception, UsageError)
    assert "pip install 'softstair[web]'" in str(done.exception)


# Who connects without asking


def raw(site: Site, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize("target", ["*", "/*", "//", "/"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_odd_targets_find_nothing(site, method, target):
    answer = raw(site, f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))


def test_silent_connections_block_nobody(site, monkeypatch):
    from softstair.view import server

    monkeypatch.setattr(server, "_SILENCE", 0.5)
    silent = [socket.create_connection(("127.0.0.1", site.port), timeout=20) for _ in range(100)]
    try:
        assert [one.recv(1) for one in silent] == [b""] * 100  # closed: too many, or too long silent
        assert site.ask("").status == 200
    finally:
        for one in silent:
            one.close()


def test_an_upload_that_is_broken_off_is_nobodys_fault(site, capfd):
    head = f"POST /{site.token}/pictures?name=a HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n"
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode() + bytes(1000))
    assert site.ask("").status == 200
    assert "Traceback" not in capfd.readouterr().err
