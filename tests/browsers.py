"""Browsers without a driver: a page is opened headless and tells a local server what it found."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".html": "text/html",
}
_TYPES |= {".stair": "image/x-stair", ".png": "image/png"}
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Site:
    """Serves folders and texts on localhost; keeps what pages post, by path.

    roots: folder by the first part of a path. texts: bodies by path. headers: sent with everything.
    """

    def __init__(
        self, roots: Mapping[str, Path], texts: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> None:
        self.posted: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.done = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                site.asked.append(self.path)
                first, _, rest = path[1:].partition("/")
                body = texts[path].encode() if path in texts else None
                if body is None and first in roots and (roots[first] / rest).is_file():
                    body = (roots[first] / rest).read_bytes()
                self.send_response(200 if body is not None else 404)
                kind = (
                    "text/html" if path == "/" else _TYPES.get(Path(path).suffix, "application/octet-stream")
                )
                self.send_header("Content-Type", kind)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body or b"")

            def do_POST(self) -> None:
                site.posted[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()
                if self.path == "/done":
                    site.done.set()

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def opened(browser: str, address: str) -> Iterator[None]:
    """A headless browser with a page, and a profile that is thrown away."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        if "firefox" in browser:
            command = [browser, "--headless", "--no-remote", "--profile", profile, address]
        else:
            command = [browser, *_QUIET, f"--user-data-dir={profile}", "--remote-debugging-port=0", address]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)
