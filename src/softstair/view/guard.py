"""Who may ask: a browser on this machine that was given the address with its token.

A page of another site could send requests to a local port, by its number or by a name of its own
that it lets point here (DNS rebinding). So the Host must be ours, an Origin too, and without the
token in the path there is nothing to be found.
"""

from __future__ import annotations

from dataclasses import dataclass
from secrets import compare_digest

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Guard:
    """Passes on what may be asked, its path without the token.

    port: that is listened to. token: first part of every path. policy: Content-Security-Policy.
    """

    inner: ASGIApp
    port: int
    token: str
    policy: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers["Content-Security-Policy"] = self.policy
            await send(message)

        await self._choose(scope)(scope, receive, send_guarded)

    def _choose(self, scope: Scope) -> ASGIApp:
        headers = Headers(scope=scope)
        hosts = [f"{name}:{self.port}" for name in ("127.0.0.1", "localhost")]
        if headers.getlist("host") not in [[host] for host in hosts]:
            return PlainTextResponse("This page is for this machine alone.", 421)
        if headers.get("origin", f"http://{hosts[0]}") not in [f"http://{host}" for host in hosts]:
            return PlainTextResponse("Other sites cannot use this page.", 403)
        # A path may be a lone asterisk, which has no parts.
        token, slash, rest = scope["path"].removeprefix("/").partition("/")
        if not slash or not compare_digest(token.encode(), self.token.encode()):
            return PlainTextResponse("There is nothing here; open the address that was printed.", 404)
        scope["path"] = f"/{rest}"
        return self.inner
