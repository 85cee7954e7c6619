"""Results as one HTML file that needs nothing else: plots, tables, a side-by-side viewer.

The file makes no request to anywhere, and opens from a disk. All that it shows lies in it as one
JSON element, which a short script in ``page.html`` turns into the page.
"""

from __future__ import annotations

from importlib import resources

import msgspec

from softstair.view.page import asset

from .page_data import Figures, figures
from .page_pictures import Shown
from .results import Results

_PLACE = "__DATA__"


class _Page(msgspec.Struct, frozen=True):
    """The JSON element."""

    figures: Figures
    shown: Shown


def report_page(results: Results, shown: Shown) -> str:
    """The page as HTML.

    Args:
        shown: pictures for the viewer, from ``show_pictures``.
    """
    # No "<" is left in the element, so that nothing in it can end it or open another.
    data = msgspec.json.encode(_Page(figures(results), shown)).decode().replace("<", "\\u003c")
    text = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    for place, part in (("__VIEWER_CSS__", asset("viewer.css")), ("__VIEWER_JS__", asset("viewer.js"))):
        text = text.replace(place, part, 1)
    return text.replace(_PLACE, data, 1)
