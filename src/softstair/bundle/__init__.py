"""The model file (.stairs): what a stream needs beside itself to become a picture.

docs/format/bundle.md is the specification.
"""

from __future__ import annotations

from .format import (
    CONTEXT,
    GRAPHS,
    ICON,
    PREVIEW,
    SCHEMA,
    Bundle,
    Manifest,
    Staircases,
    fingerprint,
    packed_bundle,
    read_bundle,
    to_json,
    write_bundle,
)
from .installed import (
    PACK_SUFFIX,
    PATH_VARIABLE,
    SUFFIX,
    find_bundle,
    installed,
    installed_packs,
    open_bundle,
    open_pack,
    packs_of,
)
from .pack import Pack, PackManifest, merged, pack_entries, read_pack, write_pack

__all__ = [
    "CONTEXT",
    "GRAPHS",
    "ICON",
    "PACK_SUFFIX",
    "PATH_VARIABLE",
    "PREVIEW",
    "SCHEMA",
    "SUFFIX",
    "Bundle",
    "Manifest",
    "Pack",
    "PackManifest",
    "Staircases",
    "find_bundle",
    "fingerprint",
    "installed",
    "installed_packs",
    "merged",
    "open_bundle",
    "open_pack",
    "pack_entries",
    "packed_bundle",
    "packs_of",
    "read_bundle",
    "read_pack",
    "to_json",
    "write_bundle",
    "write_pack",
]
