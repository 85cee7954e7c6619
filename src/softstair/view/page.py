"""The page as HTML: one text with its style, its script and its data in it, and no request to anywhere."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from importlib import resources

import msgspec

from .pictures import Entry
from .views import Description, Figures

_STYLES = ("viewer.css", "page.css")
_SHARED = ("viewer.js", "served.js")
# What inline style and script are allowed by, so that no other can run.
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src blob: data:; {sources}"


class Live(msgspec.Struct, frozen=True):
    """What a served page starts from. position, last_position: of rates. max_bytes: of an upload."""

    pictures: tuple[Entry, ...]
    position: int
    last_position: int
    max_bytes: int


class Blind(msgspec.Struct, frozen=True):
    """What a page of comparisons with hidden names starts from. positions: rates to compare at."""

    pictures: tuple[Entry, ...]
    positions: tuple[int, ...]
    last_position: int


class Shown(msgspec.Struct, frozen=True):
    """A view that lies in the page. problem: why there is none. url: its pixels."""

    codec: str
    figures: Figures | None = None
    url: str = ""
    problem: str = ""


class Still(msgspec.Struct, frozen=True):
    """What a page holds that is not served."""

    picture: Description
    position: int
    last_position: int
    views: tuple[Shown, ...]


@dataclass(frozen=True)
class Page:
    """text: the HTML. policy: its Content-Security-Policy as a header, where there is a server."""

    text: str
    policy: str


def page_of(content: Live | Blind | Still) -> Page:
    """The page that shows something."""
    style = "\n".join(asset(name) for name in _STYLES)
    own = "blind.js" if isinstance(content, Blind) else "page.js"
    script = "\n".join(asset(name) for name in (*_SHARED, own))
    policy = _POLICY.format(sources=f"style-src {_hash(style)}; script-src {_hash(script)}")
    if not isinstance(content, Still):
        policy += "; connect-src 'self'"
    # No "<" is left in the data, so that nothing in it can end its element or open another.
    data = msgspec.json.encode(content).decode().replace("<", "\\u003c")
    text = asset("page.html")
    for place, part in (("POLICY", policy), ("STYLE", style), ("SCRIPT", script), ("DATA", data)):
        text = text.replace(f"__{place}__", part, 1)
    return Page(text, f"{policy}; frame-ancestors 'none'")


def asset(name: str) -> str:
    """A file of this package, as text."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
