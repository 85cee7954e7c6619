"""Bundles and packs by path, name and fingerprint: shipped ones and those in folders of one's own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from softstair.bundle.format import Bundle, read_bundle
from softstair.bundle.pack import Pack, PackManifest, merged, read_manifest, read_pack
from softstair.errors import BundleError, BundleNotFound

SUFFIX = ".stairs"
PACK_SUFFIX = ".pack"
_DEFAULT = "photo.stairs"  # of the shipped bundles
PATH_VARIABLE = "SOFTSTAIR_MODELS"
# Shipped once, by fingerprint.
_OLDER = "tests/golden/older"
_EARLIER = {
    "f944d4d667f25d82": "small",
    "9fb62cbefb0d89dd": "small",
    "56d89959ce8c243b": "photo-s",
    "2537f7ec0b53ca4b": "photo-s",
    "964fbc18c006d743": "photo",
    "087020fa78318de7": "photo",
    "fc0bb70438395f80": "photo",
    "33b385c13b74605d": "photo",
    "671fa2aa956f4b89": "photo",
    "bb1da3813cd9f114": "photo-psnr",
    "99783fbd59ec4504": "photo-psnr",
    "a0bfaffc9a98ce67": "photo-psnr",
    "57a7c794808fc616": "photo-psnr",
    "4b2acc5bcf891dd0": "photo-psnr",
    "898a8bc2718bf116": "photo-psnr",
}


def open_bundle(
    source: str | os.PathLike[str] | None = None, *, pack: str | os.PathLike[str] | None = None
) -> Bundle:
    """Open a bundle: a path, the name of an installed one, or None for the default.

    pack: what adapts it, a path or the name of an installed one; without ``source`` the bundle is the
        one that the pack changes.

    Raises:
        BundleNotFound: no such file or name.
        InvalidBundle: damaged, or not a bundle or a pack.
        UsageError: the pack is for another bundle.
    """
    if pack is not None:
        found = open_pack(pack, *_folder_of(source))
        bundle = find_bundle(found.bundle) if source is None else open_bundle(source)
        return merged(bundle, found)
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


def open_pack(source: str | os.PathLike[str], *folders: Path) -> Pack:
    """Open a pack: a path, or the name of one that is installed or lies in ``folders``.

    Raises:
        BundleNotFound: no such file or name.
        InvalidBundle: damaged, or not a pack.
    """
    path = Path(source)
    if path.suffix == PACK_SUFFIX or path.is_file():
        return _open_pack_file(path)
    known = list(installed_packs(*folders))
    bundles = {bundle.fingerprint for bundle in installed()}
    named = [one for one in known if one[1].name == str(source)]
    # Packs of one name may be for several bundles: one whose bundle is there comes first.
    for at, _ in sorted(named, key=lambda one: bytes.fromhex(one[1].bundle) not in bundles):
        return _open_pack_file(at)
    names = ", ".join(sorted({manifest.name for _, manifest in known})) or "none"
    raise BundleNotFound(f"No pack is called {str(source)!r}; installed are: {names}.")


def find_bundle(wanted: bytes, pack: bytes | None = None, near: Bundle | None = None) -> Bundle:
    """The installed bundle with a fingerprint, or what an installed pack makes of one.

    A bundle whose fingerprint is the pack's is one that the pack was merged into for good.

    Args:
        wanted: fingerprint of the bundle.
        pack: fingerprint of the pack that changes it.
        near: a bundle to be taken into account as if it were installed, and packs beside its file.

    Raises:
        BundleNotFound: none has it; the message says how to point to one.
    """
    last = wanted if pack is None else pack
    given = () if near is None else (near,)
    for bundle in chain(given, installed()):
        if bundle.fingerprint == last:
            return bundle
    for path, manifest in installed_packs(*(() if near is None else _folder_of(near.origin))):
        if manifest.fingerprint == last.hex():
            for bundle in chain(given, installed()):
                if bundle.fingerprint.hex() == manifest.bundle:
                    return merged(bundle, _open_pack_file(path))
    if pack is not None:
        raise BundleNotFound(
            f"The stream was made with pack {pack.hex()} of bundle {_called(wanted)}, which is not "
            f"installed; pass --pack FILE or put the {PACK_SUFFIX} file into a folder named by "
            f"{PATH_VARIABLE}."
        )
    raise BundleNotFound(
        f"The stream was made with bundle {_told(wanted.hex())}, which is not installed; pass --model FILE "
        f"or put the {SUFFIX} file into a folder named by {PATH_VARIABLE}."
    )


def _told(fingerprint: str) -> str:
    """A fingerprint, and of a bundle that was shipped once where it is to be had."""
    name = _EARLIER.get(fingerprint)
    where = f"{_OLDER}/{fingerprint}{SUFFIX} in the sources of Softstair"
    return fingerprint if name is None else f"{fingerprint} ({name} of an earlier release, {where})"


def _called(fingerprint: bytes) -> str:
    names = (f"{one.name} ({fingerprint.hex()})" for one in installed() if one.fingerprint == fingerprint)
    return next(names, fingerprint.hex())


def installed_packs(*folders: Path) -> Iterator[tuple[Path, PackManifest]]:
    """Where packs lie and what they say: shipped ones, those in the folders of SOFTSTAIR_MODELS, and more.

    Warns:
        UserWarning: of files there that are no packs; they are passed over.
    """
    with resources.as_file(resources.files("softstair.models")) as shipped:
        own = os.environ.get(PATH_VARIABLE, "").split(os.pathsep)
        for folder in dict.fromkeys([shipped, *(Path(name) for name in own if name), *folders]):
            for path in sorted(folder.glob(f"*{PACK_SUFFIX}")):
                try:
                    yield path, read_manifest(path)
                except (BundleError, OSError) as error:
                    warnings.warn(f"{error} It is passed over.", stacklevel=2)


def packs_of(bundle: Bundle) -> Iterator[Pack]:
    """Installed packs that change a bundle, and those beside its file.

    Warns:
        UserWarning: as ``installed_packs``, and of damaged ones.
    """
    for path, manifest in installed_packs(*_folder_of(bundle.origin)):
        if manifest.bundle == bundle.fingerprint.hex():
            try:
                yield _open_pack_file(path)
            except BundleError as error:
                warnings.warn(f"{error} It is passed over.", stacklevel=2)


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
    bundle: Bundle = _opened("Bundle", path, read_bundle)
    return bundle


def _folder_of(source: str | os.PathLike[str] | None) -> tuple[Path, ...]:
    """The folder of a bundle that is named by a path: packs may lie there."""
    path = Path(source or "")
    return (path.parent,) if path.is_file() else ()


def _open_pack_file(path: Path) -> Pack:
    pack: Pack = _opened("Pack", path, read_pack)
    return pack


def _opened(what: str, path: Path, read: Callable[[bytes, str], Any]) -> Any:
    """What a file holds, read again where it has changed."""
    try:
        return _cached(path, path.stat().st_mtime_ns, read)
    except OSError as error:
        raise BundleNotFound(f"{what} {path} cannot be read: {error.strerror}.") from error


@lru_cache(maxsize=16)
def _cached(path: Path, _modified: int, read: Callable[[bytes, str], Any]) -> Any:
    return read(path.read_bytes(), str(path))
