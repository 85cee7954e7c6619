from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import softstair
from softstair.bundle import Bundle, read_bundle

from .tiny import photograph, write_data, write_recipe

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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, the recipe tiny.toml and a run of it in run/; nobody writes into it."""
    torch = pytest.importorskip("torch", reason="the extra learn is not installed")
    from softstair.learn.recipe import read_recipe
    from softstair.learn.stages.pretrain import pretrain

    root = tmp_path_factory.mktemp("trained")
    write_data(root)
    pretrain(read_recipe(write_recipe(root / "tiny.toml")), root, root / "run", torch.device("cpu"))
    return root
