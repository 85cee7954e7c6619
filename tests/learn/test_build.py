"""A whole recipe by one command, and staircases through the stages after derive."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

import softstair  # noqa: E402
from softstair.bundle import Bundle, write_bundle  # noqa: E402
from softstair.errors import InvalidBundle, UsageError  # noqa: E402
from softstair.evaluate import read_results  # noqa: E402
from softstair.learn.checkpoint import hash_file, load_codec, save_snapshot  # noqa: E402
from softstair.learn.data import Crops, load_pictures  # noqa: E402
from softstair.learn.export.bundle import export_snapshot  # noqa: E402
from softstair.learn.layers.rates import hat_weights  # noqa: E402
from softstair.learn.recipe import read_recipe  # noqa: E402
from softstair.learn.stages.finetune import finetune  # noqa: E402
from softstair.learn.stages.quantized import Quantized  # noqa: E402
from softstair.learn.staircases import Derivation, LearnedPoint, read_derivation, write_derivation  # noqa: E402
from softstair.mode import Mode  # noqa: E402

from ..commands.test_commands import run_here  # noqa: E402
from ..tiny import photograph, write_data, write_recipe  # noqa: E402

STAGES = 'stages = ["derive", "finetune"]\n'
EVALUATE = """
[evaluate]
data_sets = ["shown"]
positions = [16, 40]
modes = ["scalar", "tcq8"]
"""


def few_points(recipe: Path) -> Path:
    """Four rate points: each is derived and has tables of its own."""
    recipe.write_text(recipe.read_text().replace("rate_points = 11", "rate_points = 4"))
    return recipe


def test_a_recipe_from_the_first_step_to_a_measured_bundle(tmp_path):
    write_data(tmp_path)
    (tmp_path / "shown").mkdir()
    Image.fromarray(photograph(168, 176)).save(tmp_path / "shown" / "a.png")
    recipe = few_points(write_recipe(tmp_path / "tiny.toml"))
    recipe.write_text(STAGES + recipe.read_text() + EVALUATE)
    command = ["build", recipe, "--data-root", tmp_path, "--runs", tmp_path / "runs", "-j", 1]
    done = run_here(*command)
    assert done.returncode == 0, done.stderr.decode()
    heads = [line for line in done.stderr.decode().splitlines() if line.startswith("-- ")]
    assert heads == ["-- pretrain", "-- derive", "-- finetune", "-- export", "-- evaluate shown"]
    place = tmp_path / "runs" / "tiny"
    bundle = softstair.open_bundle(place / "tiny.stairs")
    assert bundle.manifest.provenance["staircases"] == "stanh"
    picture = photograph(60, 70)
    data = softstair.encode(picture, bundle=bundle, mode="scalar", rate_position=40)
    assert softstair.decode(data, bundle=bundle).shape == picture.shape
    results = read_results(place / "shown.json")
    assert {codec.mode for codec in results.codecs} == {"scalar", "tcq8"}

    # Once more: everything is there, and stays as it is.
    kept = (place / "tiny.stairs").read_bytes()
    again = run_here(*command)
    assert again.returncode == 0, again.stderr.decode()
    assert b"tiny.stairs is finished already" in again.stderr
    assert (place / "tiny.stairs").read_bytes() == kept
    assert read_results(place / "shown.json").rows == results.rows

    # Another export, of the same networks.
    recipe.write_text(recipe.read_text().replace("crops = 3", "crops = 2"))
    assert b"finished already" not in run_here(*command).stderr
    assert (place / "tiny.stairs").read_bytes() != kept


ENDINGS = """
[[endings]]
name = "first"
description = "the first"
falling = 2

[[endings]]
name = "second"
description = "the second"
steady = 2
falling = 4
synthesis_inner = [4, 4, 8]

[endings.finetune]
mode = "tcq8"
steps = 2
count = 1
side = 64
measured_crops = 2
"""


def test_a_run_without_an_end_becomes_the_bundles_of_its_endings(tmp_path):
    write_data(tmp_path)
    recipe = few_points(write_recipe(tmp_path / "tiny.toml"))
    for line in ("steps = 12\ndecay_from = 4\n", "fixed_from = 8\n"):
        recipe.write_text(recipe.read_text().replace(line, "forks_at = 4\n" if "steps" in line else ""))
    one_mode = "modes = { tcq8 = { step = 6, rate_weight = 0.04 } }"
    text = recipe.read_text().replace("blocks = ", "gated = true\nblocks = ", 1)
    recipe.write_text(re.sub("(?m)^modes = .*", one_mode, text) + ENDINGS)
    runs = tmp_path / "runs"
    command = ["build", recipe, "--data-root", tmp_path, "--runs", runs, "-j", 1]
    networks = run_here(*command, "--networks-only")
    assert networks.returncode == 0, networks.stderr.decode()
    heads = [line for line in networks.stderr.decode().splitlines() if line.startswith("-- ")]
    assert heads == ["-- pretrain", "-- pretrain first", "-- pretrain second"]
    schedules = {}
    for name in ("first", "second"):
        opened = json.loads((runs / f"{name}-cooled" / "log.jsonl").read_text().splitlines()[0])["recipe"]
        schedules[name] = (opened["pretrain"]["decay_from"], opened["pretrain"]["steps"])
    assert schedules == {"first": (4, 6), "second": (6, 10)}
    done = run_here(*command)
    assert done.returncode == 0, done.stderr.decode()
    for name in ("first", "second"):
        bundle = softstair.open_bundle(runs / name / f"{name}.stairs")
        assert (bundle.name, bundle.manifest.description) == (name, f"the {name}")
        made_of = bundle.manifest.provenance["recipe"]
        narrow = [4, 4, 8], 2
        found = made_of["shape"]["synthesis_inner"], made_of["finetune"]["steps"]
        assert (found == narrow) == (name == "second")

    published = tmp_path / "published"
    published.mkdir()
    for name in ("first", "second"):
        shutil.copy(runs / f"{name}-cooled" / "snapshot.safetensors", published / f"{name}.safetensors")
    elsewhere = tmp_path / "elsewhere"
    on = [*command[:4], "--runs", elsewhere, "-j", 1, "--networks", published]
    done = run_here(*on)
    assert done.returncode == 0, done.stderr.decode()
    assert b"pretrain" not in done.stderr
    for name in ("first", "second"):
        made = [(place / name / f"{name}.stairs").read_bytes() for place in (runs, elsewhere)]
        assert made[0] == made[1]
    (published / "second.safetensors").unlink()
    assert b"second.safetensors is missing" in run_here(*on).stderr


def test_a_recipe_without_an_end_is_refused(tmp_path):
    recipe = write_recipe(tmp_path / "tiny.toml")
    lines = recipe.read_text().splitlines()
    endless = [line for line in lines if not line.startswith(("steps = 12", "decay_from"))]
    recipe.write_text("\n".join(endless))
    done = run_here("build", recipe)
    assert done.returncode == 2
    assert b"set pretrain.steps" in done.stderr


@pytest.fixture(scope="module")
def derived(tmp_path_factory, trained):
    """A folder with data, a snapshot and staircases that differ from rounding; its recipe."""
    root = tmp_path_factory.mktemp("derived") / "trained"
    shutil.copytree(trained, root)
    text = (root / "tiny.toml").read_text()
    (root / "tiny.toml").write_text(text.replace("rdoq = { rate_weight = 0.04 }, ", ""))
    recipe = read_recipe(root / "tiny.toml")
    finetuning = msgspec.structs.replace(recipe.finetune, mode=Mode.SCALAR)
    recipe = msgspec.structs.replace(recipe, finetune=finetuning)
    snapshot = root / "run" / "snapshot.safetensors"
    point = LearnedPoint(step=3, levels=[490, 980], thresholds=[600], z_thresholds=[560])
    points = dict.fromkeys(recipe.shape.positions, point)
    write_derivation(root / "s.json", Derivation(1, "stanh", hash_file(snapshot), points))
    return root, recipe, snapshot


def test_finetuning_sees_what_learned_staircases_make(derived):
    root, recipe, snapshot = derived
    codec = load_codec(recipe, snapshot)
    crops = Crops(load_pictures([root / "train"]), 1)
    batch = Quantized(recipe, codec, crops, read_derivation(root / "s.json")).batch(0)
    hat = hat_weights(batch.position, recipe.shape.rate_points)
    with torch.no_grad():
        walk = codec.reconstruct(batch.symbols, batch.values, batch.z_hat, batch.octaves, hat)
    torch.testing.assert_close(walk.decoded, batch.decoded, rtol=1e-4, atol=1e-4)
    ones = batch.values[batch.symbols == 1]
    assert len(ones)
    np.testing.assert_allclose(ones, 980 / 1024, rtol=1e-6)
    plain = Quantized(recipe, codec, crops).batch(0)
    assert (batch.symbols == 0).float().mean() > (plain.symbols == 0).float().mean()


def test_finetuned_snapshots_keep_their_staircases(derived):
    root, recipe, snapshot = derived
    finetune(recipe, snapshot, root, root / "fine", staircases=root / "s.json")
    fine = root / "fine" / "snapshot.safetensors"
    with pytest.raises(UsageError, match="derived from another snapshot"):
        export_snapshot(recipe, fine, root, root / "fine.stairs", staircases=root / "s.json")
    bundle = export_snapshot(
        recipe, fine, root, root / "fine.stairs", staircases=root / "fine" / "staircases.json"
    )
    assert bundle.at(80, Mode.SCALAR).grid[2] == pytest.approx(980 / 1024)
    before = json.loads((root / "s.json").read_text())
    after = json.loads((root / "fine" / "staircases.json").read_text())
    assert before.pop("snapshot") != after.pop("snapshot")
    assert before == after


def test_a_mode_can_have_a_synthesis_of_its_own(derived):
    root, recipe, snapshot = derived
    tuning = msgspec.structs.replace(recipe.finetune, mode=Mode.TCQ8, steps=20, muon_rate=3e-3)
    tuned = msgspec.structs.replace(recipe, finetune=tuning)
    finetune(tuned, snapshot, root, root / "own")
    own = root / "own" / "snapshot.safetensors"
    arguments = ["export", root / "tiny.toml", snapshot, "--data-root", root, "-o", root / "two.stairs"]
    assert run_here(*arguments, "--synthesis", f"tcq8={own}", "--force").returncode == 0
    two = softstair.open_bundle(root / "two.stairs")
    assert two.own_syntheses == ("tcq8",)
    base = export_snapshot(recipe, snapshot, root, root / "base.stairs")
    alone = export_snapshot(recipe, own, root, root / "alone.stairs")
    assert len({two.fingerprint, base.fingerprint, alone.fingerprint}) == 3
    picture = photograph(90, 100)

    def decoded(bundle, mode):
        data = softstair.encode(picture, bundle=bundle, mode=mode, rate_position=80)
        return softstair.decode(data, bundle=bundle)

    assert np.array_equal(decoded(two, "tcq8"), decoded(alone, "tcq8"))
    assert np.array_equal(decoded(two, "scalar"), decoded(base, "scalar"))
    assert not np.array_equal(decoded(two, "tcq8"), decoded(base, "tcq8"))
    # What differs in more than its synthesis cannot be one, nor can there be one for no mode.
    other = load_codec(recipe, snapshot)
    with torch.no_grad():
        other.mean_network.head.layer.bias.add_(0.1)
    save_snapshot(root / "mean.safetensors", recipe.shape, other.state_dict())
    syntheses = {"tcq8": root / "mean.safetensors"}
    with pytest.raises(UsageError, match="differs in mean_network"):
        export_snapshot(recipe, snapshot, root, root / "no.stairs", syntheses=syntheses)
    with pytest.raises(UsageError, match="no mode tcq4"):
        export_snapshot(recipe, snapshot, root, root / "no.stairs", syntheses={"tcq4": own})
    entries = {**base.entries, "synthesis.tcq4.onnx": base.entries["synthesis.onnx"]}
    with pytest.raises(InvalidBundle, match="a mode that it does not have"):
        Bundle(entries, "wrong")
    write_bundle(root / "again.stairs", two.entries)
    assert softstair.open_bundle(root / "again.stairs").fingerprint == two.fingerprint
