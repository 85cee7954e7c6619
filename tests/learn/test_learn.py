from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import ClassVar

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair import _core  # noqa: E402
from softstair.engine.onnx_runtime import OnnxNetworks  # noqa: E402
from softstair.errors import InvalidBundle, UsageError  # noqa: E402
from softstair.learn.checkpoint import load_checkpoint, load_snapshot  # noqa: E402
from softstair.learn.codec import Codec  # noqa: E402
from softstair.learn.data import Crops, load_pictures  # noqa: E402
from softstair.learn.distortion import distortion  # noqa: E402
from softstair.learn.export.graphs import export_graphs  # noqa: E402
from softstair.learn.integer.weights import integer_gains, integer_weights  # noqa: E402
from softstair.learn.layers.densities import gaussian_bits  # noqa: E402
from softstair.learn.layers.rates import hat_weights  # noqa: E402
from softstair.learn.networks import magnitude  # noqa: E402
from softstair.learn.optimiser import Optimiser  # noqa: E402
from softstair.learn.recipe import change_finetune, read_recipe  # noqa: E402
from softstair.learn.stages import pretrain as stage  # noqa: E402
from softstair.learn.stages.finetune import finetune  # noqa: E402
from softstair.learn.stages.quantized import Quantized  # noqa: E402
from softstair.quantize.phases import phase_map  # noqa: E402
from softstair.quantize.rates import interpolate  # noqa: E402
from softstair.quantize.tables import RowRule, gaussian_tables, join  # noqa: E402

from ..tiny import photograph, write_data, write_recipe  # noqa: E402

CPU = torch.device("cpu")
INT32_MAX = 2**31 - 1


@pytest.fixture
def project(tmp_path):
    write_data(tmp_path)
    return tmp_path, read_recipe(write_recipe(tmp_path / "tiny.toml"))


def losses(run) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained_codec(trained):
    """With averaged weights, as ``pretrain`` returned it."""
    recipe = read_recipe(trained / "tiny.toml")
    codec = Codec(recipe.shape)
    codec.load_state_dict(load_checkpoint(trained / "run" / "checkpoint.json")["average"])
    codec.set_fixed(True)
    return codec.eval()


@pytest.fixture
def codec(trained_codec):
    return deepcopy(trained_codec)


@pytest.fixture
def snapshot(trained):
    return trained / "run" / "snapshot.safetensors"


def test_an_interrupted_run_ends_like_an_uninterrupted_one(project):
    root, recipe = project
    whole = stage.pretrain(recipe, root, root / "whole", CPU).state_dict()
    stage.pretrain(recipe, root, root / "parts", CPU, time_budget=1e-9)
    log = losses(root / "parts")
    assert log[0]["event"] == "start"
    assert load_checkpoint(root / "parts" / "checkpoint.json")["step"] == 2
    stage.pretrain(recipe, root, root / "parts", CPU, time_budget=1e-9)  # over a change of batches
    parts = stage.pretrain(recipe, root, root / "parts", CPU).state_dict()
    assert [entry["step"] for entry in losses(root / "parts") if entry["event"] == "resume"] == [
        2,
        4,
    ]
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


class Watched(Codec):
    """Notes what its passes cost, in ``seen``."""

    seen: ClassVar[list[float]] = []

    def forward(self, *given):
        passage = super().forward(*given)
        self.seen.append(passage.y_bits.sum().item())
        return passage


def test_passes_cost_the_same_after_resuming(project):
    root, recipe = project
    design = stage.Design(codec=Watched)
    Watched.seen.clear()
    stage.pretrain(recipe, root, root / "whole", CPU, design=design)
    whole = list(Watched.seen)
    Watched.seen.clear()
    stage.pretrain(recipe, root, root / "parts", CPU, time_budget=1e-9, design=design)
    stage.pretrain(recipe, root, root / "parts", CPU, design=design)
    assert Watched.seen == whole


@pytest.mark.parametrize(
    ("parts", "modules"),
    [(("synthesis",), ("synthesis.",)), (("mean", "scale"), ("mean_network.", "scale_network."))],
)
def test_finetuning_resumes_exactly_and_touches_its_parts_alone(project, snapshot, parts, modules):
    root, recipe = project
    recipe = with_finetune(recipe, parts=parts)
    before = Codec(recipe.shape)
    load_snapshot(snapshot, before)
    whole = finetune(recipe, snapshot, root, root / "whole").state_dict()
    for _ in range(2):  # at a validation and between two
        finetune(recipe, snapshot, root, root / "parts", time_budget=1e-9)
    resumed = finetune(recipe, snapshot, root, root / "parts").state_dict()
    events = [entry["event"] for entry in losses(root / "parts")]
    assert events.count("resume") == 2
    for name, value in before.state_dict().items():
        assert torch.equal(whole[name], resumed[name]), name
        if not name.startswith(modules):
            assert torch.equal(whole[name], value), name
    # What is returned may be where it began, if so few steps gained nothing; they did change it.
    checkpoint = load_checkpoint(root / "whole" / "checkpoint.json")
    assert any(
        not torch.equal(value, checkpoint["coding"][name]) for name, value in checkpoint["parts"].items()
    )


def with_finetune(recipe, **changes):
    return msgspec.structs.replace(recipe, finetune=msgspec.structs.replace(recipe.finetune, **changes))


def test_finetuning_learns(project, snapshot):
    root, recipe = project
    recipe = with_finetune(
        recipe,
        parts=["synthesis", "mean", "scale"],
        steps=30,
        validate_every=15,
        muon_rate=2e-3,
        adam_rate=2e-3,
    )
    finetune(recipe, snapshot, root, root / "fine")
    points = [entry["points"] for entry in losses(root / "fine") if entry["event"] == "validate"]
    assert points[-1]["80"]["psnr"] > points[0]["80"]["psnr"]


def test_finetuning_can_be_set_otherwise(project):
    _, recipe = project
    assert change_finetune(recipe, {"mode": None, "parts": None}) == recipe
    changed = change_finetune(recipe, {"mode": "rdoq", "parts": ["mean"]})
    assert (changed.finetune.mode, changed.finetune.parts) == ("rdoq", ("mean",))
    for wrong in ({"mode": "tcq4"}, {"parts": ["analysis"]}):
        with pytest.raises(UsageError, match="finetune"):
            change_finetune(recipe, wrong)


def test_finetuning_stops_when_nothing_is_gained(project, snapshot):
    root, recipe = project
    recipe = with_finetune(recipe, steps=40, validate_every=2, patience=2, muon_rate=1.0, adam_rate=1.0)
    best = finetune(recipe, snapshot, root, root / "fine").state_dict()
    validated = [entry["step"] for entry in losses(root / "fine") if entry["event"] == "validate"]
    assert validated[-1] < 40
    before = Codec(recipe.shape)
    load_snapshot(snapshot, before)
    assert all(torch.equal(best[name], value) for name, value in before.state_dict().items())


def test_given_symbols_reconstruct_what_the_codec_decodes(codec, project):
    """The torch path over constants against the integer path that made them."""
    root, recipe = project
    codec.set_fixed(True)
    crops = Crops(load_pictures([root / "train"]), 1)
    batch = Quantized(recipe, codec, crops).batch(0)
    hat = hat_weights(batch.position, recipe.shape.rate_points)
    with torch.no_grad():
        walk = codec.reconstruct(batch.symbols, batch.values, batch.z_hat, batch.octaves, hat)
    torch.testing.assert_close(walk.decoded, batch.decoded, rtol=1e-4, atol=1e-4)


def test_training_learns(project):
    root, recipe = project
    recipe = read_recipe(write_recipe(root / "longer.toml", steps=60, fixed_from=50))
    stage.pretrain(recipe, root, root / "run", CPU)
    log = [entry for entry in losses(root / "run") if entry["event"] == "train"]
    assert log[-1]["loss"] < log[0]["loss"]


class Failing(Codec):
    """From its fourth pass to its ninth its rates are not a number."""

    def __init__(self, shape):
        super().__init__(shape)
        self.passes = 0

    def forward(self, *given):
        passage, self.passes = super().forward(*given), self.passes + 1
        return replace(passage, y_bits=passage.y_bits * (float("nan") if 3 < self.passes < 10 else 1))


def test_non_finite_steps_are_skipped_counted_and_rolled_back(project):
    root, recipe = project
    codec = stage.pretrain(recipe, root, root / "run", CPU, design=stage.Design(codec=Failing))
    events = [entry["event"] for entry in losses(root / "run")]
    assert events.count("skip") == 6
    assert "roll back" in events
    assert all(torch.isfinite(value).all() for value in codec.state_dict().values())


def test_distortions_are_on_one_scale():
    """MS-SSIM by another package, weighed so that lambdas for squared error buy about as much."""
    picture = torch.from_numpy(photograph(192, 192).transpose(2, 0, 1).copy())[None].float() / 255
    noisy = (picture + 0.02 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))).clamp(
        0, 1
    )
    for kind in ("mse", "ms-ssim", "eye"):
        assert distortion(kind, picture, picture).item() == pytest.approx(0, abs=0.2)
        assert 1 < distortion(kind, noisy, picture).item() < 100


def test_ms_ssim_needs_crops_that_it_can_see(project):
    root, _ = project
    path = write_recipe(root / "tiny.toml")
    path.write_text(path.read_text() + '\n[rates]\ndistortion = "ms-ssim"\n')
    with pytest.raises(UsageError, match="176"):
        read_recipe(path)


def test_the_log_opens_with_everything_that_decides_the_run(project, trained):
    _, recipe = project
    first = losses(trained / "run")[0]
    assert first["recipe"]["pretrain"]["steps"] == recipe.pretrain.steps
    assert {"torch", "python", "threads", "device"} <= set(first["environment"])


def test_crops_depend_on_the_step_alone(project):
    root, _ = project
    pictures = load_pictures([root / "train"])
    one, other = Crops(pictures, 1), Crops(pictures, 1)
    other.batch(3, 2, 64)
    np.testing.assert_array_equal(one.batch(7, 4, 64), other.batch(7, 4, 64))
    assert (one.batch(7, 4, 64) != one.batch(8, 4, 64)).any()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name = 3", "name"),
        ("nonsense", "not valid"),
        ('name = "x"\nunknown = 1', "unknown|missing"),
    ],
)
def test_bad_recipes_are_one_sentence(tmp_path, text, word):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UsageError, match=word):
        read_recipe(tmp_path / "bad.toml")


def test_the_core_computes_what_torch_computes_on_fixed_grids(codec):
    """Every log-scale and every row, in both kernels, against float64 torch: equal integers."""
    position, height, width = 77, 5, 7
    rng = np.random.default_rng(0)
    z = rng.integers(-6, 7, (3, 4, 16)).astype(np.int16)
    symbols = (rng.integers(-9, 10, (height, width, 64)) * (rng.random((height, width, 64)) < 0.4)).astype(
        np.int16
    )
    weights, gains = integer_weights(codec), integer_gains(codec)
    rule = RowRule(-102, 0, 78)
    expected_scale, expected_rows = torch_rows(codec, z, symbols, position, rule)
    flat = join([np.arange(0, 2**14 + 1, 256, dtype=np.uint16)] * 16)
    for simd in (True, False):
        model = _core.Model(
            weights.build(simd=simd),
            flat.core,
            gaussian_tables(rule).core,
            rule.base,
            rule.skip,
            interpolate(weights.rate_bias, position),
            (interpolate(gains, position) + position).astype(np.int32),
        )
        np.testing.assert_array_equal(model.log_scale(z, height, width), expected_scale)
        tile = _core.TileEncoder(model, z, height, width)
        for phase in range(4):
            rows = tile.begin_phase()
            here = phase_map(64, height, width).transpose(1, 2, 0) == phase
            np.testing.assert_array_equal(rows, expected_rows[here].reshape(rows.shape))
            tile.put(symbols)


@torch.no_grad()
def torch_rows(codec: Codec, z, symbols, position: int, rule: RowRule):
    codec = codec.double()
    codec.set_fixed(True)
    height, width, channels = symbols.shape
    at = torch.tensor([position])
    hat = hat_weights(at, codec.shape.rate_points).double()
    octaves = codec.gains.log2(at, hat)
    network = codec.scale_network
    scale = network.log_scale(torch.from_numpy(z).double().permute(2, 0, 1)[None], hat)
    scale = scale[:, :, :height, :width]
    entered = network.enter(scale + octaves)
    phases = torch.from_numpy(phase_map(channels, height, width))
    known = torch.from_numpy(symbols).double().permute(2, 0, 1)[None]
    seen, rows = torch.zeros_like(scale), torch.zeros_like(scale)
    for phase in range(4):
        total = ((scale + octaves + network.correction(entered, seen, phase)) * 32).round().long()
        row = (total - rule.base) >> 2
        row = torch.where(row < rule.skip, -1, row.clamp(0, rule.rows - 1))
        mask = (phases == phase)[None]
        rows = torch.where(mask, row.double(), rows)
        seen = seen + magnitude(torch.where(row >= 0, known, 0.0)) * mask
    codec.float()

    def order(planes):
        return planes[0].permute(1, 2, 0).numpy()

    return order((scale * 32).round()).astype(np.int16), order(rows).astype(np.int16)


def test_export_proves_bounds_and_refuses_overflow(codec):
    bounds = integer_weights(codec).bounds()
    assert max(bounds.values()) < INT32_MAX
    with torch.no_grad():
        codec.scale_network.mix.weight.fill_(63.0)
        codec.scale_network.gather.weight.fill_(63.0)
        codec.scale_network.mix.bias.fill_(60.0)
        codec.scale_network.hyper.weight.fill_(63.0)
    wide = codec.scale_network.mix.weight.abs().sum((1, 2, 3)).max() * 512 * 2047
    if wide < INT32_MAX:
        with torch.no_grad():
            codec.scale_network.mix.bias.fill_(4.0e4)
    with pytest.raises(InvalidBundle, match="overflow|int16"):
        integer_weights(codec)


def test_weights_beyond_int16_are_refused(codec):
    with torch.no_grad():
        codec.scale_network.expand.weight[0, 0] = 65.0
    with pytest.raises(InvalidBundle, match="expand.*int16"):
        integer_weights(codec)


@torch.no_grad()
def test_graphs_compute_what_torch_computes(codec):
    """At several sizes; weights are in half precision in both, in the encoder's blocks in six digits."""
    codec = codec.eval()
    for name, value in codec.state_dict().items():
        if name.startswith(("analysis.", "hyper_analysis.")) and ("_blocks." in name or ".body." in name):
            fraction, exponent = torch.frexp(value)
            value.copy_(torch.ldexp((fraction * 64).round() / 64, exponent))
        if value.numel() >= 64:
            value.copy_(value.half().float())
    graphs = export_graphs(codec)
    networks = OnnxNetworks(graphs.__getitem__, 1)
    for height, width in ((1, 1), (4, 6), (7, 3), (16, 20)):
        generator = torch.Generator().manual_seed(0)
        hat = hat_weights(torch.tensor([40]), codec.shape.rate_points)
        gain = torch.full((1, 64, 1, 1), 2.0)
        picture = torch.rand(1, 3, 16 * height, 16 * width, generator=generator)
        y = codec.analysis(picture)
        close(networks.analysis(picture.numpy()), y)
        even = torch.randn(1, 64, 2 * height, 2 * width, generator=generator)
        z = codec.hyper_analysis(even, codec.deviation, gain, hat)
        close(networks.hyper_analysis(even.numpy(), gain.numpy(), hat.numpy()), z)
        base = codec.mean_network.base(z.round(), hat)
        close(networks.mean_base(z.round().numpy(), hat.numpy()), base)
        for phase in torch.eye(4):
            mean = codec.mean_network(even, base, codec.deviation, phase[None])
            close(networks.mean(even.numpy(), base.numpy(), phase[None].numpy()), mean)
        close(networks.synthesis(y.numpy(), hat.numpy()), codec.synthesis(y, hat))


@torch.no_grad()
def test_a_gated_synthesis_with_overlap_is_the_graph_that_it_exports(project):
    _, recipe = project
    codec = Codec(msgspec.structs.replace(recipe.shape, gated=True, overlap=True)).eval()
    for name, value in codec.named_parameters():
        if "_blocks." in name:
            value.mul_(2)  # away from the identity, where blocks begin
        if "_overlap.weight" in name:
            value.add_(torch.randn_like(value), alpha=0.1)
        if value.numel() >= 64:
            value.copy_(value.half().float())
    y, hat = torch.randn(1, 64, 3, 4), hat_weights(torch.tensor([40]), codec.shape.rate_points)
    networks = OnnxNetworks(export_graphs(codec, ("synthesis",)).__getitem__, 1)
    close(networks.synthesis(y.numpy(), hat.numpy()), codec.synthesis(y, hat))


def test_what_all_of_the_synthesis_passes_through_moves_slowly(project):
    _, recipe = project
    codec = Codec(msgspec.structs.replace(recipe.shape, overlap=True))
    before = {name: value.detach().clone() for name, value in codec.named_parameters()}
    for value in codec.parameters():
        value.grad = torch.ones_like(value)
    Optimiser(codec, 1e-3, 1e-3).step(1.0)
    moved = {name: (value - before[name]).abs().max().item() for name, value in codec.named_parameters()}
    assert moved["synthesis.stem_overlap.weight"] == pytest.approx(5e-5, rel=1e-2)
    assert moved["synthesis.stem.0.bias"] == pytest.approx(1e-3, rel=1e-2)


def test_graphs_shuffle_no_single_pixels(project):
    """What ONNX Runtime does element by element: space to depth in six axes, and depth to space."""
    onnx = pytest.importorskip("onnx")
    _, recipe = project
    for name, graph in export_graphs(Codec(recipe.shape).eval()).items():
        for node in onnx.load_from_string(graph).graph.node:
            assert node.op_type != "DepthToSpace", name
            if node.op_type == "Transpose":
                (order,) = (onnx.helper.get_attribute_value(a) for a in node.attribute)
                assert len(order) == 4, name


def close(found, expected):
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_gaussian_bits_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.arange(-6, 7.0)
    for sigma in (0.3, 1.0, 4.0):
        p = stats.norm.cdf((values + 0.5) / sigma) - stats.norm.cdf((values - 0.5) / sigma)
        bits = gaussian_bits(torch.from_numpy(values), torch.tensor(sigma))
        keep = p > 1e-8
        np.testing.assert_allclose(bits.numpy()[keep], -np.log2(p[keep]), rtol=1e-5, atol=1e-6)
