"""Experiments use the product's public face, and their tables are those of the means they keep."""

from __future__ import annotations

from copy import deepcopy

import pytest

pytest.importorskip("torch", reason="the extra learn is not installed")
pytest.importorskip("scipy", reason="the extra eval is not installed")

import msgspec
import torch
from experiments.anchors import held_out
from experiments.anchors import run as anchors
from experiments.annealing import run as annealing
from experiments.compare import run as compare
from experiments.compare.variants import GROUPS, Back, SharedLifted
from experiments.cores import run as cores
from experiments.grid import run as grid
from experiments.harness import read_means, read_rows
from experiments.ladder import run as ladder
from experiments.mixtures import run as mixtures
from experiments.two_stage import paper
from experiments.two_stage import run as two_stage
from experiments.weights import run as weights

from softstair.learn.stages import pretrain as stage

from ..conftest import ROOT
from ..tiny import photograph, write_data, write_recipe

FOLDER, RESULTS = ROOT / "experiments", ROOT / "results"


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("name", ["kodak", "large1200"])
def test_the_tables_of_the_ladder_are_those_of_its_means(name):
    found = ladder.report(read_means(FOLDER / "ladder" / f"{name}.json"))
    assert table(found) == table((RESULTS / f"ladder_{name}.md").read_text())


@pytest.mark.parametrize("name", ["kodak", "photos768", "large1200"])
def test_the_tables_of_two_stages_are_those_of_its_means(name):
    means = read_means(FOLDER / "two_stage" / f"{name}.json")
    names = [two_stage.STAGE_1, *(arm.name for arm in two_stage.ARMS)]
    names = [one for one in names if any(arm.startswith(f"{one}/") for arm in means.arms)]
    assert table(two_stage.report(means, names)) == table((RESULTS / f"two_stage_{name}.md").read_text())


@pytest.mark.parametrize(
    ("plan", "name"),
    [("plan", "kodak"), ("plan", "photos768"), ("plan", "large1200"), ("plan-ms-ssim", "ms-ssim_kodak")],
)
def test_the_tables_of_anchors_are_those_of_its_means(plan, name):
    decoded = msgspec.toml.decode((FOLDER / "anchors" / f"{plan}.toml").read_bytes(), type=anchors.Plan)
    found = anchors.report(decoded, read_means(FOLDER / "anchors" / f"{name}.json"))
    file = f"anchors-{name}.md" if name.startswith("ms-ssim") else f"anchors_{name}.md"
    assert table(found) == table((RESULTS / file).read_text())


@pytest.mark.parametrize(
    ("table_of", "rows", "name"),
    [
        (annealing.table, "annealing/rows", "annealing"),
        (grid.table, "grid/rows", "grid"),
        (mixtures.table, "mixtures/rows", "mixtures"),
        (weights.table, "weights/rows", "weights"),
        (paper.table, "two_stage/paper", "two_stage_paper"),
        (paper.table, "two_stage/scratch", "two_stage_scratch"),
    ],
)
def test_the_tables_of_decisions_are_those_of_rows(table_of, rows, name):
    found = table_of(read_rows(FOLDER / f"{rows}.json"))
    assert table(found) == table((RESULTS / f"{name}.md").read_text())


@pytest.mark.parametrize("name", ["scratch", "long"])
def test_the_tables_of_anchors_from_nothing_are_those_of_rows(name):
    plan = msgspec.toml.decode((FOLDER / "anchors" / f"plan-{name}.toml").read_bytes(), type=anchors.Plan)
    found = table(held_out.table(plan, read_rows(FOLDER / "anchors" / f"{name}.json")))
    assert found == table((RESULTS / f"anchors-{name}.md").read_text())


@pytest.mark.parametrize("group", ["designs", "transforms", "entropy", "training"])
def test_the_tables_of_comparisons_are_those_of_rows(group):
    rows = [row for row in read_rows(FOLDER / "compare" / "rows.json") if row["group"] == group]
    found = compare.table(rows, msgspec.json.decode((FOLDER / "compare" / "times.json").read_bytes())[group])
    assert table(found) == table((RESULTS / f"compare_{group}.md").read_text())


@pytest.mark.parametrize("group", ["entropy", "training", "top rate"])
def test_the_tables_of_seeds_are_those_of_rows(group):
    rows = [row for row in read_rows(FOLDER / "compare" / "rows.json") if row["group"] == group]
    found = table(compare.seeds(rows))
    assert found == table((RESULTS / f"compare_{group.replace(' ', '-')}_seeds.md").read_text())


def test_the_table_of_cores_is_that_of_its_times_and_rows():
    times = msgspec.json.decode((FOLDER / "cores" / "times.json").read_bytes())
    rows = read_rows(FOLDER / "cores" / "rows.json")
    assert table(cores.table(rows, times)) == table((RESULTS / "cores.md").read_text())


def test_every_variant_has_a_recipe_and_a_codec():
    shape = compare.shape_of(compare.SNAPSHOT)
    for group, variants in GROUPS.items():
        for name, variant in variants.items():
            recipe = compare.recipe_of(group, name, 100, 1, shape)
            assert recipe.pretrain.steps == 100
            assert variant.design.codec is not None


@pytest.mark.parametrize(
    "arm", [arm for arm in two_stage.ARMS if arm.stage == "pretrain"], ids=lambda arm: arm.name
)
def test_controls_train_with_designs_of_their_own(tmp_path, arm):
    write_data(tmp_path)
    from softstair.learn.recipe import read_recipe

    recipe = read_recipe(write_recipe(tmp_path / "tiny.toml", steps=6, fixed_from=4))
    device = torch.device("cpu")
    codec = stage.pretrain(recipe, tmp_path, tmp_path / "run", device, design=arm.design)
    assert codec.shape == recipe.shape


def test_lifting_blocks_are_undone_by_their_own_weights(tmp_path):
    write_data(tmp_path)
    from softstair.learn.recipe import read_recipe

    recipe = read_recipe(write_recipe(tmp_path / "tiny.toml", steps=6, fixed_from=4))
    device = torch.device("cpu")
    design = stage.Design(codec=SharedLifted)
    codec = stage.pretrain(recipe, tmp_path, tmp_path / "run", device, design=design)
    x = torch.randn(2, recipe.shape.middle, 6, 4)
    there = codec.analysis.middle_blocks(x)
    assert (there - x).abs().max() > 1e-4
    assert torch.allclose(codec.synthesis.middle_blocks(there), x, atol=1e-5)
    assert isinstance(codec.synthesis.middle_blocks[0], Back)


def test_staircases_that_harden_begin_where_rounding_does(tmp_path):
    write_data(tmp_path)
    from softstair.learn.data import load_pictures
    from softstair.learn.recipe import read_recipe

    recipe = read_recipe(write_recipe(tmp_path / "tiny.toml", steps=6, fixed_from=0))
    stage.pretrain(recipe, tmp_path, tmp_path / "run", torch.device("cpu"))
    crops = [one[:64, :64] for one in load_pictures([tmp_path / name for name in recipe.data.validation])]
    snapshot = tmp_path / "run" / "snapshot.safetensors"
    rows = [annealing.train(name, recipe, snapshot, tmp_path, crops) for name in annealing.ARMS]
    assert all(list(row["by step"]) == [*range(6)] for row in rows)
    assert len({str(row["by step"][0]) for row in rows}) == 1
    assert len({str(row["end"]) for row in rows}) == len(rows)


def test_layers_in_8_bits_that_are_tuned_make_more_of_what_they_made(tmp_path):
    from softstair.learn.codec import Codec
    from softstair.learn.recipe import read_recipe

    torch.manual_seed(0)
    codec = Codec(read_recipe(write_recipe(tmp_path / "tiny.toml")).shape).requires_grad_(False)
    pictures = [torch.from_numpy(photograph(64, 96, seed)).permute(2, 0, 1)[None] / 255 for seed in range(5)]
    runs = {"analysis": [lambda codec, one=one: codec.analysis(one) for one in pictures[:4]]}

    def off_by(rounding: str) -> float:
        changed = deepcopy(codec)
        layers = weights.rounded(changed, codec, ("analysis.",), rounding, runs)
        assert all(abs(layer.numbers).max() <= 127 for layer in layers.values())
        for name, weight in changed.named_parameters():
            if name.endswith(".weight") and weight.ndim == 4:
                layer = layers.get(name.removesuffix(".weight"))
                kept = codec.get_parameter(name) if layer is None else layer.values
                assert torch.equal(weight, kept), name
        return (changed.analysis(pictures[4]) - codec.analysis(pictures[4])).square().mean().item()

    assert off_by(weights.TUNED) < 0.5 * off_by(weights.NEAREST)
