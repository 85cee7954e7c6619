"""How a browser is told the address: by a file that only its owner reads.

All users of a machine can see the command line of a browser, in which the address with its token
would stand.
"""

from __future__ import annotations

import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={address}">
<title>Softstair</title>
<p><a href="{address}">Open the page</a>
"""


@contextmanager
def opened(address: str) -> Iterator[None]:
    """Start a browser on an address; what it was told by is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="softstair-", ignore_cleanup_errors=True) as folder:
        door = Path(folder) / "page.html"  # in a folder that is its owner's alone
        door.write_text(_PAGE.format(address=escape(address)))
        # A browser in the terminal would keep the server from starting.
        threading.Thread(target=webbrowser.open, args=[door.as_uri()], daemon=True).start()
        yield
