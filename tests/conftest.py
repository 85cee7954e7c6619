from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import softstair
from softstair.bundle import Bundle, read_bundle

from .tiny import photograph

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The shipped bundle."""
    return softstair.open_bundle()


@pytest.fixture(scope="session")
def tiny_bundle() -> Bundle:
    """A small bundle that golden streams were made with."""
    return read_bundle((GOLDEN / "v1" / "tiny.stairs").read_bytes(), "tiny.stairs")


@pytest.fixture(scope="session")
def photo() -> npt.NDArray[np.uint8]:
    """A real photograph, (384, 576, 3)."""
    with Image.open(ROOT / "examples" / "casa-mila.jpg") as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="session")
def small_photo() -> npt.NDArray[np.uint8]:
    return photograph(75, 90)


@pytest.fixture(scope="session")
def kodak() -> list[Path]:
    """The Kodak pictures, where a checkout has them beside it."""
    paths = sorted((SHARED_DATA / "kodak").glob("*.png"))
    if not paths:
        pytest.skip("the Kodak pictures are not beside this checkout (../shared/data/kodak)")
    return paths
