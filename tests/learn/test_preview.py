from __future__ import annotations

import math

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

import softstair  # noqa: E402
from softstair.commands import preview  # noqa: E402
from softstair.learn.data import load_pictures  # noqa: E402

from ..conftest import GOLDEN  # noqa: E402


def test_a_bundle_learns_to_make_small_pictures(trained, tmp_path):
    made = tmp_path / "made.stairs"
    arguments = [
        GOLDEN / "v1" / "tiny.stairs",
        trained / "train",
        "-o",
        made,
        "--crops",
        "32",
        "--steps",
        "60",
    ]
    result = CliRunner().invoke(preview.command, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0
    before, after = (softstair.open_bundle(path) for path in (arguments[0], made))
    assert after.previews
    assert after.icons
    assert after.fingerprint == before.fingerprint
    pixels = load_pictures([trained / "train"])[0]
    data = softstair.encode(pixels, 80, bundle=before)
    small = softstair.decode(data, scale=1 / 8, bundle=after).astype(float)
    mean = softstair.decode(data, scale=1 / 8, bundle=before)
    grey = np.square(mean - mean.mean((0, 1))).mean()
    assert np.square(small - mean).mean() < grey / 2, math.sqrt(grey)
    icon, mean = (softstair.decode(data, scale=1 / 32, bundle=one).astype(float) for one in (after, before))
    grey = np.square(mean - mean.mean((0, 1))).mean()
    assert np.square(icon - mean).mean() < grey / 2, math.sqrt(grey)
