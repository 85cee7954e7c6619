"""Every recipe can be read, and its network costs what its description says."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.errors import UsageError  # noqa: E402
from softstair.learn.codec import Codec  # noqa: E402
from softstair.learn.layers.rates import hat_weights  # noqa: E402
from softstair.learn.networks import STRIDE  # noqa: E402
from softstair.learn.recipe import read_recipe  # noqa: E402

from ..conftest import ROOT  # noqa: E402
from ..tiny import write_recipe  # noqa: E402

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
SIDE = 4  # of the latents


@torch.no_grad()
def decoder_kmac(codec: Codec) -> float:
    """Products of weights a pixel, in thousands, of four phases and the synthesis."""
    products = 0

    def count(module, given, result):
        nonlocal products
        products += module.weight[0].numel() * result.numel()

    for module in codec.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    hat = hat_weights(torch.tensor([80]), codec.shape.rate_points)
    y = torch.zeros(1, codec.shape.latents, SIDE, SIDE)
    z = torch.zeros(1, codec.shape.hyper_latents, SIDE // 2, SIDE // 2)
    decoded, _, _ = codec.quantize(y, z, torch.zeros(1, codec.shape.latents, 1, 1), hat)
    codec.synthesis(decoded, hat)
    return products / (SIDE * STRIDE) ** 2 / 1000


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_as_large_as_it_says(path):
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    said = re.search(r"decoder of ([\d.]+) kMAC a pixel", recipe.about.description)
    assert said is not None
    # Counted without the integer network's shortcuts: a first phase without symbols, quarters of heads.
    assert decoder_kmac(Codec(recipe.shape)) == pytest.approx(float(said[1]), rel=0.06)


@pytest.mark.parametrize(
    ("name", "unit", "width"),
    [("latents", 64, 160), ("hyper_latents", 2, 15), ("scale_hyper", 16, 24), ("scale", 16, 8)],
)
def test_a_network_that_the_core_cannot_code_is_refused_before_it_is_trained(tmp_path, name, unit, width):
    path = write_recipe(tmp_path / "tiny.toml")
    path.write_text(re.sub(rf"(?m)^{name} = .*", f"{name} = {width}", path.read_text()))
    with pytest.raises(UsageError) as refused:
        read_recipe(path)
    said = f"shape.{name} must be a multiple of {unit} to be coded, not {width}"
    assert str(refused.value) == f"Recipe {path} is not valid: {said}."


def test_a_smoothing_without_one_threshold_a_rate_point_is_refused_before_training(tmp_path):
    path = write_recipe(tmp_path / "tiny.toml")
    text = path.read_text()
    assert "[export]\n" in text
    path.write_text(text.replace("[export]\n", "[export]\nsmoothing = [8, 8]\n"))
    with pytest.raises(UsageError, match="export.smoothing needs a threshold for each of the"):
        read_recipe(path)
