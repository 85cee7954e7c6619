"""Crops whose latents are means alone from some phase on, as in a file that ends early."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.errors import UsageError  # noqa: E402
from softstair.learn.checkpoint import load_checkpoint, load_codec  # noqa: E402
from softstair.learn.data import Crops, load_pictures  # noqa: E402
from softstair.learn.layers.rates import hat_weights  # noqa: E402
from softstair.learn.recipe import change_finetune, read_recipe  # noqa: E402
from softstair.learn.stages.finetune import finetune  # noqa: E402
from softstair.learn.stages.quantized import Quantized  # noqa: E402
from softstair.quantize.phases import phase_map  # noqa: E402


@pytest.fixture
def recipe(trained):
    return read_recipe(trained / "tiny.toml")


@pytest.fixture
def quantized(trained, recipe):
    """A batch of a recipe whose stage is set otherwise."""
    codec = load_codec(recipe, trained / "run" / "snapshot.safetensors")
    crops = Crops(load_pictures([trained / "train"]), 7)

    def made(**changes):
        settings = msgspec.structs.replace(recipe.finetune, **changes)
        changed = msgspec.structs.replace(recipe, finetune=settings)
        return codec, Quantized(changed, codec, crops)

    return made


def test_cut_crops_are_means_alone_from_a_phase_on_and_others_stay(quantized):
    codec, cutting = quantized(cut=0.5, count=12)
    _, keeping = quantized(count=12)
    cut, whole = cutting.batch(0), keeping.batch(0)
    assert whole.whole.all()
    assert 0 < cut.whole.sum() < 12
    phases = torch.from_numpy(phase_map(*cut.symbols.shape[1:]))
    for one, other, kept, is_whole in zip(cut.symbols, whole.symbols, cut.kept, cut.whole, strict=True):
        known = int((phases.flatten()[kept.flatten() > 0].max() + 1) if kept.any() else 0)
        assert torch.equal(kept > 0, phases < known)
        assert torch.equal(one, other * kept)
        assert (known == 4) == bool(is_whole)
    assert torch.equal(cut.decoded[cut.whole], whole.decoded[cut.whole])
    hat = hat_weights(cut.position, codec.shape.rate_points)
    with torch.no_grad():
        walk = codec.reconstruct(cut.symbols, cut.values, cut.z_hat, cut.octaves, hat)
    torch.testing.assert_close(walk.decoded, cut.decoded, rtol=1e-4, atol=1e-4)


def test_stages_with_cut_crops_end_alike_when_interrupted(trained, recipe, tmp_path):
    settings = change_finetune(recipe, {"cut": 0.5, "steps": 3, "parts": ["synthesis", "mean", "scale"]})
    snapshot = trained / "run" / "snapshot.safetensors"
    finetune(settings, snapshot, trained, tmp_path / "whole")
    for _ in range(2):
        finetune(settings, snapshot, trained, tmp_path / "parts", time_budget=1e-9)
    finetune(settings, snapshot, trained, tmp_path / "parts")
    whole, parts = (
        load_checkpoint(tmp_path / run / "checkpoint.json")["parts"] for run in ("whole", "parts")
    )
    before = load_codec(settings, snapshot).state_dict()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert not torch.equal(whole["mean.head.layer.weight"], before["mean_network.head.layer.weight"])


def test_not_all_crops_can_be_cut(recipe):
    assert change_finetune(recipe, {"cut": 0.25}).finetune.cut == 0.25
    for share in (1.0, -0.1):
        with pytest.raises(UsageError, match="cut"):
            change_finetune(recipe, {"cut": share})


def test_a_share_of_zero_changes_no_batch(quantized):
    batches = [quantized(cut=share)[1].batch(3) for share in (0.0, 1e-12)]
    for name in ("picture", "position", "symbols", "decoded", "kept"):
        assert np.array_equal(getattr(batches[0], name), getattr(batches[1], name)), name
