"""The model file (.stairs): what a stream needs beside itself to become a picture.

docs/format/bundle.md is the specification.
"""

from __future__ import annotations

from .format import (
    GRAPHS,
    SCHEMA,
    Bundle,
    Manifest,
    Staircases,
    fingerprint,
    read_bundle,
    to_json,
    write_bundle,
)
from .installed import PATH_VARIABLE, SUFFIX, find_bundle, installed, open_bundle

__all__ = [
    "GRAPHS",
    "PATH_VARIABLE",
    "SCHEMA",
    "SUFFIX",
    "Bundle",
    "Manifest",
    "Staircases",
    "find_bundle",
    "fingerprint",
    "installed",
    "open_bundle",
    "read_bundle",
    "to_json",
    "write_bundle",
]
