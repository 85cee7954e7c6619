"""Bundles by path, name and fingerprint: those that are shipped and those in folders of one's own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from pathlib import Path

from softstair.bundle.format import Bundle, read_bundle
from softstair.errors import BundleError, BundleNotFound

SUFFIX = ".stairs"
_DEFAULT = "photo.stairs"  # of the shipped bundles
PATH_VARIABLE = "SOFTSTAIR_MODELS"


def open_bundle(source: str | os.PathLike[str] | None = None) -> Bundle:
    """Open a bundle: a path, the name of an installed one, or None for the default.

    Raises:
        BundleNotFound: no such file or name.
        InvalidBundle: damaged, or not a bundle.
    """
    if source is None:
        return _shipped(_DEFAULT)
    path = Path(source)
    if path.suffix == SUFFIX or path.exists():
        return _open_file(path)
    for bundle in installed():
        if bundle.name == str(source):
            return bundle
    names = ", ".join(bundle.name for bundle in installed())
    raise BundleNotFound(f"No bundle is called {str(source)!r}; installed are: {names}.")


def find_bundle(wanted: bytes) -> Bundle:
    """The installed bundle with a fingerprint.

    Raises:
        BundleNotFound: none has it; the message says how to point to one.
    """
    for bundle in installed():
        if bundle.fingerprint == wanted:
            return bundle
    raise BundleNotFound(
        f"The stream was made with bundle {wanted.hex()}, which is not installed; pass --model FILE or "
        f"put the {SUFFIX} file into a folder named by {PATH_VARIABLE}."
    )


def installed() -> Iterator[Bundle]:
    """Shipped bundles, then those in the folders of SOFTSTAIR_MODELS.

    Warns:
        UserWarning: of files there that are no bundles; they are passed over.
    """
    yield from map(_shipped, _shipped_names())
    for folder in filter(None, os.environ.get(PATH_VARIABLE, "").split(os.pathsep)):
        for path in sorted(Path(folder).glob(f"*{SUFFIX}")):
            try:
                yield _open_file(path)
            except BundleError as error:
                warnings.warn(f"{error} It is passed over.", stacklevel=2)


def _shipped_names() -> list[str]:
    """Names of the shipped files, the default first."""
    names = [entry.name for entry in resources.files("softstair.models").iterdir()]
    return sorted(
        (name for name in names if name.endswith(SUFFIX)), key=lambda name: (name != _DEFAULT, name)
    )


@lru_cache
def _shipped(name: str) -> Bundle:
    try:
        return read_bundle((resources.files("softstair.models") / name).read_bytes(), name, is_own=True)
    except FileNotFoundError as error:
        raise BundleNotFound(
            f"The bundle {name} is missing from this installation; reinstall softstair."
        ) from error


def _open_file(path: Path) -> Bundle:
    try:
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise BundleNotFound(f"Bundle {path} cannot be read: {error.strerror}.") from error
    return _cached_file(path, modified)


@lru_cache(maxsize=8)
def _cached_file(path: Path, _modified: int) -> Bundle:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleNotFound(f"Bundle {path} cannot be read: {error.strerror}.") from error
    return read_bundle(data, str(path))
