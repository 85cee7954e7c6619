"""What training computes in bfloat16 and what it must not.

Beyond 128 numbers of bfloat16 are a whole step apart: latents, means, residuals and what prices them
would be off by more than a quantizer is.
"""

from __future__ import annotations

import json
from collections import defaultdict

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.learn import codec as codec_module  # noqa: E402
from softstair.learn import precision  # noqa: E402
from softstair.learn.codec import Codec  # noqa: E402
from softstair.learn.layers import densities  # noqa: E402
from softstair.learn.layers.rates import hat_weights, interpolate_fixed  # noqa: E402
from softstair.learn.noise import draw_noise  # noqa: E402
from softstair.learn.precision import Choice, choose_precision  # noqa: E402
from softstair.learn.processes import Processes  # noqa: E402
from softstair.learn.recipe import read_recipe  # noqa: E402
from softstair.learn.stages import pretrain as stage  # noqa: E402

from ..tiny import write_data, write_recipe  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def codec(tmp_path):
    """With random weights, rate tables and means of z that bfloat16 cannot hold."""
    torch.manual_seed(4)
    codec = Codec(read_recipe(write_recipe(tmp_path / "tiny.toml")).shape)
    with torch.no_grad():
        codec.gains.offset.normal_()
        codec.z_density.mean.normal_(0, 9)
    return codec


def passage(codec, compute):
    """What ``compute``, the codec in some form, makes of two pictures under autocast."""
    position = torch.tensor([37, 90])
    noise = draw_noise(codec.shape, 1, 0, 2, range(2), 64, CPU)
    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        return compute(picture, position, noise)


@pytest.mark.parametrize("fixed", [False, True])
def test_latents_and_likelihoods_stay_in_float32(codec, monkeypatch, fixed):
    seen: dict[str, set[torch.dtype]] = defaultdict(set)

    def note(name, *values):
        tensors = [value for value in values if isinstance(value, torch.Tensor)]
        seen[name] |= {tensor.dtype for tensor in tensors if tensor.is_floating_point()}

    def watch(name, module):
        module.register_forward_hook(lambda module, given, result: note(name, *given, result))

    def spy(owner, name):
        original = getattr(owner, name)

        def run(*given):
            result = original(*given)
            note(name, *given, result)
            return result

        monkeypatch.setattr(owner, name, run)

    watch("inside the analysis", codec.analysis.middle_blocks[0].second)
    watch("last layer of the analysis", codec.analysis.head.layer)
    watch("last layer of the hyper analysis", codec.hyper_analysis.head.layer)
    watch("head of the means", codec.mean_network.head.layer)
    watch("first layer of the synthesis", codec.synthesis.head.layer)
    network = codec.scale_network
    for head in (network.log_scale_head, network.correction_head):
        head.register_forward_hook(lambda module, given, result: note("log-scales", result))
    spy(codec_module, "gaussian_bits")
    spy(densities, "interpolate")
    spy(codec.z_density, "bits")
    spy(codec.gains, "log2")
    codec.set_fixed(fixed)
    result = passage(codec, codec)
    note("the passage", result.picture, result.y_bits, result.z_bits)
    assert torch.bfloat16 in seen.pop("inside the analysis")  # it is on at all
    assert len(seen) == 10
    for name, types in seen.items():
        assert types == {torch.float32}, name


def test_rates_are_interpolated_alike_with_and_without_bfloat16(codec):
    hat = hat_weights(torch.tensor([37]), codec.shape.rate_points)
    z = torch.arange(-32.0, 32).view(1, 16, 2, 2)
    for compute in (
        lambda: codec.gains.log2(torch.tensor([37]), hat),
        lambda: codec.z_density.bits(z, hat),
        lambda: interpolate_fixed(hat, codec.gains.offset, 9),
    ):
        with torch.autocast("cpu", torch.bfloat16):
            found = compute()
        assert torch.equal(found, compute())


def test_a_run_computes_in_what_the_recipe_says_or_in_what_is_faster(tmp_path, monkeypatch):
    recipe = read_recipe(write_recipe(tmp_path / "tiny.toml"))
    processes = Processes(CPU)
    assert choose_precision(recipe, processes) == Choice("float32")
    auto = msgspec.structs.replace(recipe, precision="auto")
    choice = choose_precision(auto, processes)
    assert choice.seconds is not None
    assert choice.precision == min(choice.seconds, key=choice.seconds.__getitem__)
    monkeypatch.setattr(precision, "_measure", lambda *_: {"float32": 2.0, "bfloat16": 1.0})
    assert choose_precision(auto, processes).precision == "bfloat16"


def test_the_log_says_what_a_run_computes_in(tmp_path):
    write_data(tmp_path)
    recipe = read_recipe(write_recipe(tmp_path / "tiny.toml", steps=5))
    stage.pretrain(recipe, tmp_path, tmp_path / "run", CPU)
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (found,) = [event for event in events if event["event"] == "precision"]
    assert found["precision"] == "float32"
