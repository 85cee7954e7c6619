"""A bundle is taken apart, adapted to a folder of pictures, and put into a pack."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra learn is not installed")
import torch
from PIL import Image

import softstair
from softstair.bundle import CONTEXT, merged, open_bundle, pack_entries, read_pack, write_bundle
from softstair.bundle.pack import Pack
from softstair.codec import networks_of
from softstair.errors import UsageError
from softstair.learn import own
from softstair.learn.export.bundle import export_snapshot
from softstair.learn.export.imported import import_bundle
from softstair.learn.integer.weights import integer_gains, integer_weights
from softstair.learn.recipe import read_recipe
from softstair.learn.stages import adapt as stage
from softstair.learn.stages import adapting
from softstair.learn.stages import context as adapting_context
from softstair.learn.stages.adapt import Adaptation, Gain, HeldBack, adapt, split
from softstair.learn.stages.adapting import PARTS, Adapted, Learned, Learning
from softstair.learn.stages.context import Effort
from softstair.learn.torch_networks import TorchNetworks

from ..contexts import bundle_with_context
from ..tiny import photograph

# Not what the tiny network saw: half the contrast, and blue.
PICTURES = [photograph(160, 192, seed) // np.uint8([3, 2, 2]) + np.uint8([0, 60, 110]) for seed in range(10)]


@pytest.fixture(scope="module")
def base(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "tiny.stairs"
    export_snapshot(
        read_recipe(trained / "tiny.toml"), trained / "run" / "snapshot.safetensors", trained, path
    )
    return open_bundle(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("screens")
    for index, pixels in enumerate(PICTURES):
        Image.fromarray(pixels).save(root / f"{index}.png")
    return root


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(stage, "_MEASURED", 4)
    monkeypatch.setattr(stage, "_CODED", 6)
    monkeypatch.setattr(stage, "_CODED_SIDE", 96)
    monkeypatch.setattr(stage, "VALIDATE_EVERY", 2)
    monkeypatch.setattr(adapting, "_WARM_UP", 1)


def gains(monkeypatch, of_pack: Callable[[Pack], Gain]) -> None:
    """What files held back are to show of a pack."""
    monkeypatch.setattr(HeldBack, "gain", lambda _, pack: of_pack(pack))


def learner(base, *, parts=PARTS) -> tuple[Adapted, Learning]:
    adapted = Adapted(import_bundle(base), parts)
    return adapted, adapted.together(*split(PICTURES), 3600)


def outputs(networks, channels: int, points: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    picture = rng.random((1, 3, 64, 96), dtype=np.float32)
    hat = np.eye(points, dtype=np.float32)[3:4]
    y = networks.analysis(picture)
    z = networks.hyper_analysis(y, np.full((1, channels, 1, 1), 3, np.float32), hat)
    known = rng.normal(0, 1, y.shape).astype(np.float32)
    base = networks.mean_base(rng.integers(-2, 3, z.shape).astype(np.float32), hat)
    mean = networks.mean(
        known, rng.normal(0, 1, base.shape).astype(np.float32), np.eye(4, dtype=np.float32)[1:2]
    )
    return [y, z, base, mean, networks.synthesis(known, hat)]


def test_a_bundle_taken_apart_computes_the_same(base):
    codec = import_bundle(base).codec
    own, shipped = (
        outputs(networks, base.channels, base.points)
        for networks in (TorchNetworks(codec), networks_of(base, 1))
    )
    for ours, theirs in zip(own, shipped, strict=True):
        assert np.abs(ours - theirs).max() < 1e-4 * max(1, np.abs(theirs).max())
    weights, scale = integer_weights(codec), base.integers.scale
    assert all((weights.layers[name].weight == layer.weight).all() for name, layer in scale.layers.items())
    assert all((weights.layers[name].bias == layer.bias).all() for name, layer in scale.layers.items())
    assert (weights.rate_bias == scale.rate_bias).all()
    assert (weights.phase_bias == scale.phase_bias).all()
    assert (integer_gains(codec) == base.integers.gains).all()


def test_what_learns_is_what_the_pack_makes_of_the_bundle(base):
    one, learning = learner(base)
    for _ in range(3):
        learning.advance()
    one.keep_signs()
    sizes = one.together(*split(PICTURES), 3600)
    for _ in range(2):
        sizes.advance()
    adapters, integers = one.found(base)
    about = {"licence": "CC0-1.0", "description": "", "provenance": {}, "figures": {}}
    pack = Pack(pack_entries(base, adapters, integers, {}, name="screens", **about), "screens")
    changed = merged(base, pack)
    learned, shipped, before = (
        outputs(networks, base.channels, base.points)
        for networks in (TorchNetworks(one.codec), networks_of(changed, 1), networks_of(base, 1))
    )
    for ours, theirs, old in zip(learned, shipped, before, strict=True):
        assert np.abs(ours - theirs).max() < 4e-3 * max(1, np.abs(theirs).max())
        assert np.abs(theirs - old).max() > 0
    assert (changed.integers.gains == integer_gains(one.codec)).all()


def test_signs_of_changes_learn_on(base):
    one, learning = learner(base)
    for _ in range(4):
        learning.advance()
    one.keep_signs()
    before, _ = one.found(base)
    signs = one.together(*split(PICTURES), 3600)
    for _ in range(3):
        signs.advance()
    after, _ = one.found(base)
    names = [name for name in before if name.endswith("/signs")]
    assert names
    assert any((after[name] != before[name]).any() for name in names)


def test_without_a_part_its_weights_stay(base):
    one, learning = learner(base, parts=("biases",))
    for _ in range(4):
        learning.advance()
    adapters, integers = one.found(base)
    assert not adapters
    assert integers
    _, of_encoder = learner(base, parts=("encoder",))
    assert {name.partition(".")[0] for name in of_encoder.learned} == {"analysis", "hyper_analysis"}


def test_training_goes_on_as_if_it_had_not_stopped(base):
    (_, whole), (_, first), (_, second) = learner(base), learner(base), learner(base)
    for one, steps in ((whole, 4), (first, 2)):
        for _ in range(steps):
            one.advance()
            if one.step == 2:
                one.validate()
    second.load(first.state())
    for _ in range(2):
        second.advance()
    for name, value in whole.state()["average"].items():
        assert torch.equal(value, second.state()["average"][name]), name
    assert second.best_step == whole.best_step
    with pytest.raises(UsageError, match="other settings"):
        learner(base, parts=("biases",))[1].load(first.state())


def test_the_synthesis_learns_on_as_the_adapted_bundle_codes(base, folder, tmp_path, monkeypatch):
    gains(monkeypatch, lambda pack: Gain(-2.0 if pack.adapters else -1.0, 1000, 990))
    lines: list[str] = []
    settings = Adaptation("screens", "CC0-1.0", 0.1)
    adapt(base, folder, tmp_path / "screens.pack", settings, say=lines.append)
    assert "4 crops coded" in lines
    assert sum("     0 steps" in line for line in lines) == 3
    changed = open_bundle(base.origin, pack=tmp_path / "screens.pack")
    assert changed.graph("synthesis") != base.graph("synthesis")


def test_transforms_stay_where_that_serves_pictures_held_back_better(base, folder, tmp_path, monkeypatch):
    gains(monkeypatch, lambda pack: Gain(-1.0, 1000, 990) if pack.integers else Gain(-2.0, 1000, 980))
    output = tmp_path / "screens.pack"
    assert adapt(base, folder, output, Adaptation("screens", "CC0-1.0", 0.05, ("biases",))).packed == 980
    pack = read_pack(output.read_bytes(), "screens")
    assert not pack.adapters
    assert not pack.integers
    assert pack.manifest.figures["held_back"]["bits"] == -2.0
    assert pack.manifest.provenance["parts"] == []


def test_steps_are_as_many_as_the_minutes_allow_and_rates_fall(base, monkeypatch):
    monkeypatch.setattr(adapting, "_TIMED", 2)
    adapted = Adapted(import_bundle(base), ("biases",))
    learning = adapted.together(*split(PICTURES), 1.0)
    while not learning.is_done:
        learning.advance()
    assert learning.step >= 2
    assert learning.seconds < 60
    again = adapted.together(*split(PICTURES), 1.0)
    again.load(learning.state())
    assert again.is_done


def test_rates_fall_sooner_where_pictures_held_back_do_not_get_better(monkeypatch):
    monkeypatch.setattr(adapting, "_TIMED", 2)
    monkeypatch.setattr(adapting, "_PATIENCE", 3)
    number = torch.nn.Parameter(torch.ones(()))
    costs = iter([1.0, *[2.0] * 50])
    kinds = {"vector": ["number"]}
    learning = Learning(
        Learned({"number": number}, kinds), 3600, lambda _: number.square(), lambda: next(costs)
    )
    while not learning.is_done:
        learning.advance()
        if learning.step % 4 == 0:
            learning.validate()
    assert learning.step == 16 + 8  # the first was the best, three were not, and half as many steps follow
    assert learning.best_step == 4


def test_tables_alone_make_a_pack_with_smaller_files(base, folder, tmp_path):
    output = tmp_path / "screens.pack"
    gain = adapt(base, folder, output, Adaptation("screens", "CC0-1.0", 0))
    assert gain.bits is not None
    assert gain.bits < 0
    assert gain.packed < gain.base
    changed = open_bundle(base.origin, pack=output)
    assert changed.graph("synthesis") == base.graph("synthesis")
    data = softstair.encode(PICTURES[0], rate_position=40, bundle=changed)
    assert softstair.decode(data, bundle=changed).shape == PICTURES[0].shape
    assert not (tmp_path / "screens.pack.run").exists()


def test_context_networks_learn_anew_where_that_pays(base, folder, tmp_path, monkeypatch):
    gains(monkeypatch, lambda pack: Gain(-2.0 if pack.adapters else -1.0, 1000, 990))
    monkeypatch.setattr(stage, "_OF_CONTEXT", Effort(6, 40, 12, 60))
    with_networks = bundle_with_context(base)  # at random, so that any others are better
    monkeypatch.setattr(adapting_context, "_MEASURED", 6)
    settings = Adaptation("screens", "CC0-1.0", 0)
    lines: list[str] = []
    adapt(with_networks, folder, tmp_path / "anew.pack", settings, say=lines.append)
    changed = open_bundle(bundle_file(with_networks, tmp_path), pack=tmp_path / "anew.pack")
    assert changed.entries[CONTEXT] != with_networks.entries[CONTEXT]
    assert changed.graph("synthesis") == base.graph("synthesis")
    sizes = [
        len(softstair.encode(PICTURES[0], rate_position=40, bundle=one)) for one in (with_networks, changed)
    ]
    assert sizes[1] < sizes[0]
    monkeypatch.setattr(adapting_context, "_LEAST_GAIN", 1.0)
    adapt(with_networks, folder, tmp_path / "own.pack", settings)
    own = open_bundle(bundle_file(with_networks, tmp_path), pack=tmp_path / "own.pack")
    assert own.entries[CONTEXT] == with_networks.entries[CONTEXT]
    assert sum("held back: context" in line for line in lines) == 1


def bundle_file(bundle, folder):
    path = folder / "with-context.stairs"
    write_bundle(path, dict(bundle.entries))
    return path


def test_a_pack_that_gains_nothing_is_not_written(base, folder, tmp_path, monkeypatch):
    gains(monkeypatch, lambda _: Gain(0.3, 1000, 1003))
    with pytest.raises(UsageError, match=r"not written.*\+0.3 %"):
        adapt(base, folder, tmp_path / "screens.pack", Adaptation("screens", "CC0-1.0", 0))
    assert not (tmp_path / "screens.pack").exists()


def test_what_cannot_be_read_is_left_out_and_of_much_some_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "_SIDE", 64)
    (tmp_path / ".hidden").mkdir()
    for index, name in enumerate(("a.png", "b.jpg", "c.tif", "d.png", "sub/e.png", ".hidden/f.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PICTURES[index]).save(tmp_path / name)
    Image.fromarray(np.full((96, 48), 40_000, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:99])
    (tmp_path / "notes.txt").write_text("no picture")
    lines: list[str] = []
    found = own.own_pictures(tmp_path, lines.append)
    assert [one.shape for one in found] == [(64, 64, 3)] * 4 + [(64, 48, 3), (64, 64, 3)]
    assert (found[4] == 40_000 // 257 + 1).all()
    assert "broken.png cannot be decoded" in lines[0]
    assert lines[0].endswith("It is left out.")
    assert lines[1] == "6 pictures of 7"
    monkeypatch.setattr(own, "_MOST", 4)
    assert len(own.own_pictures(tmp_path, lines.append)) == 3  # every second; broken.png is one


def test_a_few_pictures_are_too_few(base):
    with pytest.raises(UsageError, match="fewest"):
        split(PICTURES[:3])


def test_a_bundle_that_cannot_learn_says_so(tiny_bundle):
    with pytest.raises(UsageError, match="cannot be adapted"):
        import_bundle(tiny_bundle)
