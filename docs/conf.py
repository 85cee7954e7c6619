"""The documentation site: make docs, or sphinx-build -W -E docs build/docs."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

import softstair

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "build"))

project = "Softstair"
author = "The Softstair authors"
copyright = author  # the name that Sphinx reads
release = softstair.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
nitpicky = True  # a name that leads nowhere is an error

myst_heading_anchors = 3
html_theme = "furo"
html_title = f"Softstair {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures stay short; docstrings say what arguments are
autodoc_mock_imports = [] if importlib.util.find_spec("torch") else ["torch"]


def write_results(app: Sphinx, config: Config) -> None:
    """Pages of everything in results/, into docs/results/, which git ignores."""
    from results_pages import write_pages

    write_pages(HERE / "results")


def adapt(app: Sphinx, name: str, source: list[str]) -> None:
    """Links to tables of results/ lead to their pages here; index.md gets the guides it does not name."""
    folder = (HERE / name).parent

    def link(match: re.Match[str]) -> str:
        place = (folder / match[2]).resolve()
        if place.is_relative_to(HERE):
            return match[0]
        page = HERE / "results" / place.name
        if place.parent.name == "results" and page.is_file():
            return f"[{match[1]}]({os.path.relpath(page, folder)})"
        return match[1]  # not a part of the site; tests/docs/test_readme.py looks whether it is there

    text = re.sub(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#]+)\)", link, source[0])
    if name == "index":
        named = set(re.findall(r"^(?:.* <)?([\w-]+)>?$", text, re.MULTILINE))
        new = sorted(page for page in app.project.docnames if "/" not in page and page not in {*named, name})
        text = text.replace("% new guides\n", "".join(f"{page}\n" for page in new))
    source[0] = text


def translate(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings are written for people: indented blocks are code, and pages are named by their files."""
    for number in range(len(lines) - 2, 0, -1):
        before, blank, after = lines[number - 1 : number + 2]
        if not blank and after.startswith("    ") and before and not before.startswith(" "):
            lines[number:number] = ["", ".. code-block:: text"]
    lines[:] = [re.sub(r"\bdocs/([\w/-]+)\.md\b", r":doc:`/\1`", line) for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("config-inited", write_results)
    app.connect("source-read", adapt)
    app.connect("autodoc-process-docstring", translate, priority=400)  # before napoleon
