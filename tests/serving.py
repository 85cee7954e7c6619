"""A local page in a thread of this process, and plain HTTP to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from softstair.bundle import Bundle
from softstair.view.server import LocalServer, ServerSettings
from softstair.view.sources import pair_up


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def figures(self) -> Any:
        return json.loads(self.headers["softstair-figures"])


@dataclass(frozen=True)
class Site:
    """A page that is served. address: with its token."""

    address: str

    @property
    def port(self) -> int:
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def token(self) -> str:
        return urlsplit(self.address).path.strip("/")

    def ask(
        self, path: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """A request as it is written, below the token unless the path starts with a slash."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            target = path if path.startswith("/") else f"/{self.token}/{path}"
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read())
        finally:
            connection.close()


@contextmanager
def serving(bundle: Bundle, *paths: Path, position: int = 60, blind: tuple[int, ...] = ()) -> Iterator[Site]:
    """A page with some files."""
    server = LocalServer(ServerSettings(pair_up(paths), bundle, position, threads=1, blind=blind))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Site(server.address)
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()
