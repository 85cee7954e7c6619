"""What the tests of the C library share."""

from __future__ import annotations

import pytest

from ..c_library import Library
from ..format.test_golden import FOLDER


@pytest.fixture(scope="module")
def library():
    return Library.load()


@pytest.fixture(scope="module")
def tiny(library):
    bundle = library.open_bundle((FOLDER / "tiny.stairs").read_bytes())
    yield bundle
    library.free_bundle(bundle)
