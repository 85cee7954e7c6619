"""Serves the page on this machine to whoever has its secret address."""

from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import dataclass
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from softstair.bundle import Bundle
from softstair.errors import LimitExceeded, SoftstairError, UsageError

from .display import as_png
from .guard import Guard
from .jobs import Jobs, Superseded
from .page import Blind, Live, page_of
from .pictures import Entry, Pictures
from .sources import MAX_BYTES, Named, check_bytes
from .views import Check, Description

_CONNECTIONS = 64
_SILENCE = 10.0  # seconds
_NAME = 120  # characters of a file's name that are shown


class Opened(msgspec.Struct, frozen=True):
    """Answer to a picture that was asked for or dropped."""

    entry: Entry
    picture: Description


@dataclass(frozen=True)
class ServerSettings:
    """named: pictures to start with. position: rate position to start at. threads: of networks.

    blind: rate positions to compare at with hidden names; none for the page that shows them.
    """

    named: tuple[Named, ...]
    bundle: Bundle
    position: int
    threads: int
    blind: tuple[int, ...] = ()


class _Patience(H11Protocol):
    """A connection of which there are not too many, and that asks for something in time.

    A browser needs a handful; others, which need no token to connect, could use up all there are.
    """

    _heard = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS:
            transport.abort()
        else:
            self.loop.call_later(_SILENCE, self._leave)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)

    def _leave(self) -> None:
        if not self._heard and not self.transport.is_closing():
            self.transport.abort()


class LocalServer:
    """Listens on a free port of this machine's loopback address alone.

    address: of the page, with the token that it is not found without.
    """

    def __init__(self, settings: ServerSettings) -> None:
        token = secrets.token_urlsafe(24)
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()  # so that a browser may come before the server is up
        port = self.listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/{token}/"
        self._jobs = Jobs()
        config = uvicorn.Config(
            application(settings, self._jobs, port, token),
            http=_Patience,
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="error",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until interrupted or stopped."""
        with self.listener:
            try:
                self._server.run(sockets=[self.listener])
            except KeyboardInterrupt:
                pass  # the way to end it
            finally:
                self._jobs.close()

    def stop(self) -> None:
        """Make ``run`` return; may be called from another thread."""
        self._server.should_exit = True


def application(settings: ServerSettings, jobs: Jobs, port: int, token: str) -> ASGIApp:
    """The server's side as an ASGI application; listens on ``port`` of this machine."""
    pictures = Pictures(settings.named, settings.bundle, settings.threads)
    last = settings.bundle.last_position
    content = (
        Blind(pictures.entries, settings.blind, last)
        if settings.blind
        else Live(pictures.entries, settings.position, last, MAX_BYTES)
    )
    page = page_of(content)

    async def show(_request: Request) -> Response:
        return HTMLResponse(page.text)

    async def describe(request: Request) -> Response:
        number = request.path_params["number"]

        def work(_check: Check) -> Opened:
            description = pictures.open(number).description
            return Opened(Entry(number, description.name), description)

        return _json(await jobs.do(_page(request), work))

    async def upload(request: Request) -> Response:
        name = request.query_params.get("name", "")[:_NAME].strip() or "photograph"
        data = await _body(request, name)

        def work(_check: Check) -> Opened:
            entry = pictures.add(data, name)
            return Opened(entry, pictures.open(entry.number).description)

        return _json(await jobs.do(_page(request), work))

    async def view(request: Request) -> Response:
        number, codec = request.path_params["number"], request.path_params["codec"]
        asked = request.query_params.get("position", "")
        if not asked.isdecimal() or len(asked) > 3:
            raise UsageError("A view needs a rate position, which is a whole number.")

        def work(check: Check) -> tuple[bytes, bytes]:
            found = pictures.open(number).view(codec, int(asked), check)
            check()
            return as_png(found.picture), msgspec.json.encode(found.figures)

        png, figures = await jobs.do(_page(request), work)
        return Response(png, media_type="image/png", headers={"Softstair-Figures": figures.decode()})

    inner = Starlette(
        routes=[
            Route("/", show),
            Route("/pictures", upload, methods=["POST"]),
            Route("/pictures/{number:int}", describe),
            Route("/pictures/{number:int}/{codec}", view),
        ],
        exception_handlers={
            SoftstairError: _refused,
            Superseded: _superseded,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )
    return Guard(inner, port, token, page.policy)


def _page(request: Request) -> str:
    """Which of several open pages asks."""
    return request.headers.get("softstair-page", "")[:64]


async def _body(request: Request, name: str) -> bytes:
    check_bytes(int(request.headers.get("content-length", 0)), name)
    body = bytearray()
    async for part in request.stream():
        body += part
        check_bytes(len(body), name)
    return bytes(body)


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _refused(_request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 413 if isinstance(error, LimitExceeded) else 422)


def _superseded(_request: Request, _error: Exception) -> Response:
    return _json({"error": "Something else was asked for since."}, 409)


def _gone(_request: Request, _error: Exception) -> Response:
    """Whoever sent something broke it off; nobody reads the answer."""
    return Response(status_code=400)


def _failed(_request: Request, _error: Exception) -> Response:
    return _json({"error": "Softstair failed; the terminal it runs in says more."}, 500)
