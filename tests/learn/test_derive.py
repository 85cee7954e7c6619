from __future__ import annotations

import json
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

import softstair  # noqa: E402
from softstair.bundle import read_bundle  # noqa: E402
from softstair.codec import read_symbols  # noqa: E402
from softstair.codec.tile import TileCoder  # noqa: E402
from softstair.engine.onnx_runtime import OnnxNetworks  # noqa: E402
from softstair.errors import UsageError  # noqa: E402
from softstair.learn.checkpoint import load_codec  # noqa: E402
from softstair.learn.export.bundle import export_snapshot  # noqa: E402
from softstair.learn.integer.measure import ROW_RULE, analysed, integers_of, latents_of  # noqa: E402
from softstair.learn.layers.densities import LogisticMixture  # noqa: E402
from softstair.learn.layers.rates import draw_positions, hat_weights  # noqa: E402
from softstair.learn.layers.stanh import STanH  # noqa: E402
from softstair.learn.recipe import Quantizer, read_recipe  # noqa: E402
from softstair.learn.stages.derive import derive, next_position  # noqa: E402
from softstair.learn.stages.pretrain import pretrain  # noqa: E402
from softstair.learn.stages.rate_point import RatePoint, code, prices  # noqa: E402
from softstair.learn.staircases import KINDS, Derivation, LearnedPoint, read_derivation, write_derivation  # noqa: E402
from softstair.learn.torch_networks import TorchNetworks  # noqa: E402
from softstair.mode import Mode  # noqa: E402
from softstair.quantize.staircase import Staircase, thresholds_at  # noqa: E402
from softstair.quantize.tables import measured_tables  # noqa: E402

from ..tiny import photograph  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def project(trained):
    """A folder with data, its recipe and a snapshot."""
    return trained, read_recipe(trained / "tiny.toml"), trained / "run" / "snapshot.safetensors"


@pytest.fixture(scope="module")
def derived(project, tmp_path_factory):
    """The folder of a run, into which nobody writes, and the three rate points that it derived."""
    root, recipe, snapshot = project
    run = tmp_path_factory.mktemp("derived")
    return run, derive(recipe, snapshot, root, run, positions=[64, 80, 112])


def with_derive(recipe, **changes):
    return msgspec.structs.replace(recipe, derive=msgspec.structs.replace(recipe.derive, **changes))


def events(run, event: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_an_interrupted_derivation_ends_like_an_uninterrupted_one(project, derived, tmp_path):
    root, recipe, snapshot = project
    run, whole = derived
    before = snapshot.read_bytes()
    for _ in range(2):
        derive(recipe, snapshot, root, tmp_path / "parts", positions=[64, 80, 112], time_budget=1e-9)
    parts = derive(recipe, snapshot, root, tmp_path / "parts", positions=[64, 80, 112])
    assert parts == whole == read_derivation(tmp_path / "parts" / "staircases.json")
    assert list(whole.points) == [64, 80, 112]
    assert [entry["position"] for entry in events(run, "derive")] == [80, 64, 112]
    assert len(events(tmp_path / "parts", "resume")) == 2
    assert snapshot.read_bytes() == before


def test_further_rates_are_added_to_those_that_are_there(project, tmp_path):
    root, recipe, snapshot = project
    first = derive(recipe, snapshot, root, tmp_path / "run", positions=[80])
    both = derive(recipe, snapshot, root, tmp_path / "run", positions=[96])
    assert both.points[80] == first.points[80]
    assert set(both.points) == {80, 96}
    with pytest.raises(UsageError, match="another kind"):
        derive(recipe, snapshot, root, tmp_path / "run", kind="step")
    with pytest.raises(UsageError, match="must be a rate point"):
        derive(recipe, snapshot, root, tmp_path / "run", positions=[81])


@pytest.mark.parametrize(
    ("wanted", "done", "expected"),
    [
        ([0, 80, 160], [], (80, None)),
        ([0, 64, 96], [80], (64, 80)),
        ([0, 64, 96], [80, 64], (96, 80)),
        ([0, 160], [64, 96], (0, 64)),
        ([160], [64, 96], (160, 96)),
    ],
)
def test_derivations_chain_outward_from_the_nearest(wanted, done, expected):
    assert next_position(wanted, done, 80) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_its_own_numbers_and_no_others(project, tmp_path, kind):
    root, recipe, snapshot = project
    recipe = with_derive(recipe, steps=6, rate=0.3)
    point = derive(recipe, snapshot, root, tmp_path, kind=kind, positions=[32]).points[32]
    lengths = len(point.levels), len(point.thresholds), len(point.z_thresholds)
    assert (
        lengths == {"uniform": (0, 0, 0), "dead-zone": (0, 1, 0), "step": (0, 0, 0), "stanh": (8, 4, 2)}[kind]
    )
    figures = events(tmp_path, "derive")[0]
    if kind == "uniform":
        assert figures["rounding"] == figures["learned"]
    elif figures["kept"] and kind != "step":  # which may round to none
        assert point != point.rounding()
    assert figures["bytes"] < 200


def test_learning_pays(project, tmp_path):
    root, recipe, snapshot = project
    recipe = with_derive(recipe, steps=30)
    derive(recipe, snapshot, root, tmp_path, kind="stanh", positions=[80])
    (figures,) = events(tmp_path, "derive")
    assert figures["learned"]["cost"] < figures["rounding"]["cost"]


def test_what_is_optimised_is_what_files_hold(project):
    """Hard staircases in torch against the integer path: equal pictures, nearly equal bits."""
    _, recipe, snapshot = project
    codec, position = load_codec(recipe, snapshot), 70
    point = RatePoint("stanh", recipe.derive)
    with torch.no_grad():
        point.y.place.add_(torch.tensor([0.8, 0.4, 0.1, -0.2]))
        point.y.gap.add_(torch.tensor([0.3, -0.2, 0.1, 0.2]))
        point.z.place.add_(0.5)
    pixels = np.ascontiguousarray(photograph(96, 64).transpose(2, 0, 1))
    y = latents_of(codec, pixels)
    with torch.no_grad():
        counts = code(codec, position, point.eval(), y, None).counts
        coded = code(codec, position, point.eval(), y, prices(counts))
    hard, points = point.harden(), codec.shape.rate_points
    derivation = Derivation(1, "stanh", "", dict.fromkeys(codec.shape.positions, hard))
    integers = integers_of(codec, {Mode.SCALAR: Quantizer()}, derivation)
    coding = replace(integers.codings[Mode.SCALAR], tables=measured_tables(ROW_RULE, counts))
    integers = replace(integers, codings={Mode.SCALAR: coding})
    coder = TileCoder(integers, TorchNetworks(codec), Mode.SCALAR)
    decided = coder.decide(coder.begin(analysed(codec, pixels), position))
    assert np.count_nonzero(decided.tile.symbols) > 50
    hat = hat_weights(torch.tensor([position]), points)
    with torch.no_grad():
        expected = codec.synthesis(torch.from_numpy(decided.latents), hat)
    torch.testing.assert_close(coded.picture, expected, rtol=1e-3, atol=1e-3)
    assert coded.bits.item() == pytest.approx(decided.table_bits, rel=0.02)


def test_the_codec_decides_as_the_layer_does():
    stanh = STanH(learned=4)
    with torch.no_grad():
        stanh.gap.add_(0.3 * torch.randn_like(stanh.gap))
        stanh.place.add_(torch.randn_like(stanh.place))
    thresholds = (stanh.thresholds() * 1024).round().long().flatten().tolist()
    levels = (stanh.levels()[0, 0] * 1024).round().long()
    grid = torch.stack([(levels[:-1] + levels[1:]) // 2, levels[1:]], 1).flatten().tolist()
    codec = thresholds_at([thresholds], 0, Staircase(levels=[grid]).grid(0))
    values = 4 * torch.randn(20000)
    index = stanh.index(values[None, None])[0, 0].numpy()
    differing = codec.decide(values.numpy()) != index
    assert differing.mean() < 0.005  # thresholds were rounded to 1/1024 step


def test_a_bundle_takes_what_was_derived(project, derived, tmp_path):
    root, recipe, snapshot = project
    run, derivation = derived
    file = shutil.copy(run / "staircases.json", tmp_path / "staircases.json")
    plain = export_snapshot(recipe, snapshot, root, tmp_path / "plain.stairs")
    bundle = export_snapshot(recipe, snapshot, root, tmp_path / "b.stairs", staircases=file)
    point = derivation.points[80]
    scalar, trellis = bundle.at(80, Mode.SCALAR), bundle.at(80, Mode.TCQ8)
    np.testing.assert_allclose(scalar.grid[1:], np.array(point.levels) / 1024)
    np.testing.assert_allclose(scalar.thresholds.starts, np.array(point.thresholds) / 1024)
    np.testing.assert_allclose(scalar.z_thresholds.starts, np.array(point.z_thresholds) / 1024)
    assert trellis.thresholds is None
    assert len(trellis.grid) == 0
    assert bundle.size - plain.size < 4000 * len(derivation.points)
    pixels = photograph(90, 75)
    for position in (64, 71, 80, 150):  # derived, between, and where nothing was
        data = softstair.encode(pixels, bundle=bundle, rate_position=position, mode="scalar")
        decoded = softstair.decode(data, bundle=read_bundle((tmp_path / "b.stairs").read_bytes(), "b"))
        assert decoded.shape == pixels.shape
    (other,) = read_symbols(data, bundle)
    (same,) = read_symbols(softstair.encode(pixels, bundle=plain, rate_position=150, mode="scalar"), plain)
    np.testing.assert_array_equal(other.y, same.y)  # rounding
    (tmp_path / "another.safetensors").write_bytes(snapshot.read_bytes() + b" ")
    changed = msgspec.structs.replace(derivation, snapshot="0" * 64)
    write_derivation(file, changed)
    with pytest.raises(UsageError, match="another snapshot"):
        export_snapshot(recipe, snapshot, root, tmp_path / "c.stairs", staircases=file)


def test_a_learned_step_becomes_part_of_the_gains(project):
    _, recipe, snapshot = project
    codec = load_codec(recipe, snapshot)
    derivation = Derivation(1, "step", "", {80: LearnedPoint(step=5)})
    gains, before = (integers_of(codec, {}, one).gains for one in (derivation, None))
    assert (before[5] - gains[5] == 5).all()
    assert (np.delete(before, 5, 0) == np.delete(gains, 5, 0)).all()


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense",
        b'{"version": 2, "kind": "stanh", "snapshot": "", "points": {}}',
        b'{"version": 1, "kind": "magic", "snapshot": "", "points": {}}',
        b'{"version": 1, "kind": "stanh", "snapshot": "", "points": {"0": {"levels": [9, 8]}}}',
        b'{"version": 1, "kind": "stanh", "snapshot": "", "points": {"0": {"thresholds": [2000]}}}',
        b'{"version": 1, "kind": "stanh", "snapshot": "", '
        b'"points": {"0": {"thresholds": [500]}, "16": {"thresholds": [500, 1500]}}}',
    ],
)
def test_files_that_are_no_staircases_are_refused(tmp_path, text):
    (tmp_path / "s.json").write_bytes(text)
    with pytest.raises(UsageError, match="not valid"):
        read_derivation(tmp_path / "s.json")


def test_one_anchor_is_trained_alone_and_serves_all_rates(project, tmp_path):
    """Parameters of other rate points stay as they were made; pinned, all rates have the anchor's z."""
    root, recipe, _ = project
    recipe = msgspec.structs.replace(recipe, rates=msgspec.structs.replace(recipe.rates, anchor=80))
    anchored = pretrain(recipe, root, tmp_path, CPU)
    table = anchored.synthesis.rate.table
    assert (table[5] != 0).any()
    assert (np.delete(table.detach().numpy(), 5, 0) == 0).all()
    codec = load_codec(recipe, tmp_path / "snapshot.safetensors")
    latents = analysed(codec, np.ascontiguousarray(photograph(64, 96).transpose(2, 0, 1)))
    integers = integers_of(codec, {Mode.SCALAR: Quantizer()})
    y, coder = torch.from_numpy(latents.latents), TileCoder(integers, TorchNetworks(codec), Mode.SCALAR)
    z = {d: coder.begin(latents, d).z for d in (0, 33, 80, 160)}
    assert all(np.array_equal(z[80], one) for one in z.values())
    bundle = export_snapshot(recipe, tmp_path / "snapshot.safetensors", root, tmp_path / "anchored.stairs")
    networks = OnnxNetworks(bundle.graph, 1)
    for d in (33, 80):
        hat = hat_weights(torch.tensor([d]), codec.shape.rate_points).numpy()
        exponent = (d + integers.gains[0]) / 32
        gain = np.exp2(exponent).astype(np.float32)[None, :, None, None]
        found = networks.hyper_analysis(y.numpy(), gain, hat)
        np.testing.assert_allclose(np.rint(found[0]).transpose(1, 2, 0), z[80], atol=1)
    with pytest.raises(ValueError, match="anchor"):
        msgspec.structs.replace(recipe, rates=msgspec.structs.replace(recipe.rates, anchor=81))


def test_positions_are_drawn_from_all_or_from_the_anchor():
    spread = torch.linspace(0, 0.999, 1000)
    every = draw_positions(spread, 11, None)
    assert (every.min(), every.max()) == (0, 160)
    assert (draw_positions(spread, 11, 96) == 96).all()


def test_the_mass_of_z_is_that_of_the_density():
    """Probabilities of all integers and of any cuts of the line sum to one, tails included."""
    density = LogisticMixture(3, 2)
    with torch.no_grad():
        for parameter in density.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    hat = torch.tensor([[0.25, 0.75, 0.0]])
    mass = density.mass(hat)
    cuts = torch.tensor([-torch.inf, -40.0, -2.2, -0.4, 0.3, 5.0, 60.0, torch.inf])
    grid = cuts.expand(1, 2, 1, -1)
    pieces = mass(grid[..., :-1], grid[..., 1:])
    torch.testing.assert_close(pieces.sum(-1), torch.ones(1, 2, 1))
    assert (pieces > 0).all()
    symbols = torch.arange(-9.0, 10).expand(1, 2, 1, -1)
    torch.testing.assert_close(density.probability(symbols, hat), mass(symbols - 0.5, symbols + 0.5))
