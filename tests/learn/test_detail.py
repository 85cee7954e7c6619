"""Latents that go past the deepest resolution: from components, trained, in files, added and left out."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

import softstair  # noqa: E402
from softstair.errors import UsageError  # noqa: E402
from softstair.learn.checkpoint import load_codec, save_snapshot  # noqa: E402
from softstair.learn.codec import Codec  # noqa: E402
from softstair.learn.data import Crops, load_pictures  # noqa: E402
from softstair.learn.export.bundle import export_bundle  # noqa: E402
from softstair.learn.layers.rates import hat_weights  # noqa: E402
from softstair.learn.networks import with_detail  # noqa: E402
from softstair.learn.recipe import Quantizer, read_recipe  # noqa: E402
from softstair.learn.resize.narrow import with_narrower_blocks  # noqa: E402
from softstair.learn.shape import Shape  # noqa: E402
from softstair.learn.stages.pretrain import pretrain  # noqa: E402
from softstair.learn.start import start_from_components  # noqa: E402
from softstair.mode import Mode  # noqa: E402

from ..tiny import photograph, write_data, write_recipe  # noqa: E402

TOP = 160


@pytest.fixture
def project(tmp_path):
    """A root with data, the recipe of a network without detail and of one with it."""
    write_data(tmp_path)
    narrow = write_recipe(tmp_path / "narrow.toml")
    wide = tmp_path / "wide.toml"
    wide.write_text(narrow.read_text().replace("latents = 64", "latents = 128\ndetail = 64", 1))
    return tmp_path, narrow, wide


def error(codec: Codec, pictures: torch.Tensor) -> float:
    """Mean squared error of pictures whose latents are not rounded."""
    hat = hat_weights(torch.tensor([TOP]), codec.shape.rate_points)
    with torch.no_grad():
        return float((codec.synthesis(codec.analysis(pictures), hat) - pictures).square().mean())


def crops_of(root) -> torch.Tensor:
    return torch.from_numpy(Crops(load_pictures([root / "train"]), 1).batch(0, 8, 128)).float() / 255


def test_every_group_of_a_phase_has_its_share():
    core, detail = torch.arange(8)[None, :, None, None], torch.arange(100, 104)[None, :, None, None]
    assert with_detail(core, detail).flatten().tolist() == [0, 1, 100, 2, 3, 101, 4, 5, 102, 6, 7, 103]


@pytest.mark.parametrize("detail", [2, 64, -4])
def test_a_shape_without_a_core_is_refused(detail):
    with pytest.raises(ValueError, match="detail must be a multiple of four below latents"):
        Shape(latents=64, detail=detail)


def test_components_that_the_core_leaves_out_come_as_detail(project):
    root, narrow, wide = project
    pictures = crops_of(root)
    errors = []
    for path in (narrow, wide):
        recipe = read_recipe(path)
        torch.manual_seed(0)
        codec = Codec(recipe.shape)
        start_from_components(codec, pictures, recipe.rates.base)
        errors.append(error(codec, pictures))
    assert errors[1] < 0.8 * errors[0]


def test_a_network_with_detail_makes_files(project):
    root, _, wide = project
    codec = pretrain(read_recipe(wide), root, root / "run", torch.device("cpu"))
    crops = Crops(load_pictures([root / "train"]), 0).batch(0, 3, 128)
    bundle = export_bundle(
        codec,
        crops,
        root / "wide.stairs",
        name="wide",
        description="For a test.",
        licence="Apache-2.0",
        provenance={},
        quantizers={Mode.TCQ8: Quantizer(6, 0, 0.04)},
        mode=Mode.TCQ8,
    )
    pixels = photograph(75, 90)
    worse, better = (
        np.square(
            softstair.decode(softstair.encode(pixels, rate_position=at, bundle=bundle), bundle=bundle)
            - pixels.astype(float)
        ).mean()
        for at in (20, 140)
    )
    assert better < worse


def test_blocks_are_narrowed_without_loss_where_half_of_them_says_nothing_new():
    torch.manual_seed(0)
    shape = Shape(
        16, 16, 16, (16,) * 3, (8, 16, 8), gated=True, latents=64, hyper=16, context=16, scale_hyper=16
    )
    codec = Codec(shape)
    with torch.no_grad():
        for name, value in codec.named_parameters():
            if name.startswith("synthesis.") and (".a." in name or ".b." in name):
                value.copy_(value[: len(value) // 2].repeat_interleave(2, 0))
    pictures = torch.rand(2, 3, 64, 64)
    narrow = Codec(msgspec.structs.replace(shape, synthesis_inner=(4, 8, 4)))
    narrow.load_state_dict(with_narrower_blocks(codec, (4, 8, 4), pictures))
    hat, latents = hat_weights(torch.tensor([TOP]), shape.rate_points), torch.randn(1, 64, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(
            narrow.synthesis(latents, hat), codec.synthesis(latents, hat), rtol=1e-3, atol=1e-4
        )
    with pytest.raises(UsageError, match="only to smaller inner widths"):
        with_narrower_blocks(narrow, (8, 8, 4), pictures)


@pytest.mark.long
def test_detail_is_added_to_a_network_and_left_out_again(project):
    root, narrow, wide = project
    recipe = read_recipe(narrow)
    old = pretrain(recipe, root, root / "run", torch.device("cpu"))
    save_snapshot(root / "old.safetensors", recipe.shape, old.state_dict())
    resize(root, narrow, root / "old.safetensors", wide, "wide.safetensors")
    new = load_codec(read_recipe(wide), root / "wide.safetensors")
    old, pictures = load_codec(recipe, root / "old.safetensors"), crops_of(root)
    with torch.no_grad():
        latents, core = new.analysis(pictures), old.analysis(pictures)
    groups = latents.unflatten(1, (4, -1))
    torch.testing.assert_close(groups[:, :, :16].flatten(1, 2), core, rtol=1e-3, atol=1e-4)
    assert error(new, pictures) < error(old, pictures)

    resize(root, wide, root / "wide.safetensors", narrow, "again.safetensors")
    again = load_codec(recipe, root / "again.safetensors").state_dict()
    for name, value in old.state_dict().items():
        torch.testing.assert_close(again[name], value, rtol=2e-3, atol=1e-4, msg=name)

    gated = root / "gated.toml"
    gated.write_text(wide.read_text().replace("blocks = ", "gated = true\nblocks = ", 1))
    resize(root, wide, root / "wide.safetensors", gated, "gated.safetensors")
    other = load_codec(read_recipe(gated), root / "gated.safetensors")
    begun = {name for name in other.state_dict() if name.startswith("synthesis.") and "_blocks." in name}
    assert len(begun) == 3 * 10
    for name, value in other.state_dict().items():
        if name not in begun:
            torch.testing.assert_close(value, new.state_dict()[name], rtol=2e-3, atol=1e-4, msg=name)


def resize(root, *arguments) -> None:
    *inputs, output = arguments
    command = [sys.executable, "-m", "softstair.learn.resize", *inputs]
    subprocess.run([*command, "--data-root", root, "-o", root / output], check=True, capture_output=True)
