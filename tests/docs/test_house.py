"""The house's own rules: who may use whose names, and what the package offers."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import softstair

from ..conftest import ROOT

PACKAGE = ROOT / "src" / "softstair"
USERS = ("src/softstair", "benchmarks", "experiments", "docs/build", "tests")
ROOMS = ("softstair", "softstair.bundle", "softstair.codec", "softstair.evaluate", "softstair.peers")
PUBLIC = {
    "Bundle",
    "BundleError",
    "Latents",
    "PartialPicture",
    "PictureChanged",
    "Reader",
    "SoftstairError",
    "StreamError",
    "StreamInfo",
    "UsageError",
    "__version__",
    "decode",
    "encode",
    "info",
    "latents",
    "open_bundle",
    "truncate",
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def files(folder: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in path.parts)


def defined(tree: ast.AST) -> set[str]:
    """Private names that a module defines, anywhere."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return {name for name in names if is_private(name)}


def used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Private names that a module takes from others: imported, or attributes of what is not its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or str(node.module).startswith("softstair")):
            yield from ((node.lineno, name.name) for name in node.names if is_private(name.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.lineno, node.attr


def test_no_private_name_is_used_outside_its_module():
    private = {path: defined(ast.parse(path.read_text())) for path in files("src/softstair")}
    everywhere = set().union(*private.values()) - {"_core"}
    faults = []
    for folder in USERS:
        for path in files(folder):
            tree = ast.parse(path.read_text())
            own = private.get(path) or defined(tree)
            faults += [
                f"{path.relative_to(ROOT)}:{line} uses {name}"
                for line, name in used(tree)
                if name in everywhere and name not in own
            ]
    assert not faults


def test_the_package_offers_what_it_says():
    """A new public name is a promise: it is added here, too."""
    assert set(softstair.__all__) == PUBLIC
    described = (ROOT / "docs" / "python.md").read_text()
    for name in ("encode", "decode", "info", "open_bundle"):
        assert name in described


@pytest.mark.parametrize("room", ROOMS)
def test_every_exported_name_exists_once(room):
    try:
        module = importlib.import_module(room)
    except (ImportError, softstair.SoftstairError) as error:
        pytest.skip(str(error))
    exported = list(getattr(module, "__all__", []))
    assert all(hasattr(module, name) for name in exported)
    assert len(set(exported)) == len(exported)
