"""What few anchors and their derivations cost against networks trained at one rate each, from file bytes.

    python -m experiments.anchors.run train experiments/anchors/plan.toml --data-root DATA
    python -m experiments.anchors.run measure experiments/anchors/plan.toml DATASET --data-root DATA

The plan's networks start from one snapshot, or from nothing, and take the same steps; those with a ``kind``
are another one as it is, with staircases that ``softstair derive`` learns. All files are of the mode scalar.
Of every system the curve runs through the points that its networks code; the anchor's rate times the plan's
ratios says where systems are compared. Printed is how many more bits a system takes there than the reference
at equal quality. Repeated, both go on from what there is.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from experiments.harness import Arm, Means, measure
from scipy.interpolate import PchipInterpolator

from softstair.evaluate import markdown_table
from softstair.learn.export.bundle import export_snapshot
from softstair.learn.recipe import Export, Finetune, Quantizer, Recipe, read_recipe
from softstair.learn.stages.derive import derive
from softstair.learn.stages.pretrain import pretrain
from softstair.learn.staircases import Kind
from softstair.mode import Mode

# As the published release stands against its own fixed-rate networks on Kodak (docs/decisions/anchors.md).
PUBLISHED = {0.6: 17.2, 0.73: 2.5, 0.83: -0.6, 1.0: 0.5, 1.18: 3.6, 1.47: 12.3, 1.62: 18.9}

Point = tuple[float, float]  # bits a pixel, quality in dB


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network, trained at a rate position or, without one, at all; or one with staircases derived.

    steps: of training, instead of the recipe's; rates fall in the second half of them.
    """

    anchor: int | None = None
    steps: int | None = None
    of: str | None = None
    kind: Kind | None = None


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is compared; paths are relative to the plan.

    recipe: of all networks, but for the anchor and the distortion. start: snapshot that all start from,
    instead of principal components. runs: folder of a run for every network. anchor: whose rate is the
    ratio 1. system: rate positions by network, by the name of the system; one of them is the reference.
    """

    recipe: str
    runs: str
    anchor: str
    reference: str
    network: dict[str, Network]
    system: dict[str, dict[str, list[int]]]
    ratios: list[float]
    start: str | None = None
    distortion: Literal["mse", "ms-ssim"] = "mse"
    metric: str = "psnr"
    crops: int = 60
    seed: int | None = None  # instead of the recipe's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training, measuring = commands.add_parser("train"), commands.add_parser("measure")
    for command in (training, measuring):
        command.add_argument("plan", type=Path)
        command.add_argument("--data-root", type=Path, required=True)
        command.add_argument(
            "--seed", type=int, help="instead of the recipe's; its runs lie beside the others"
        )
    measuring.add_argument("data_set")
    arguments = parser.parse_args()
    plan = seeded(msgspec.toml.decode(arguments.plan.read_bytes(), type=Plan), arguments.seed)
    if arguments.command == "train":
        train(plan, arguments.plan.parent, arguments.data_root)
    else:
        measure_all(plan, arguments)


def seeded(plan: Plan, seed: int | None) -> Plan:
    """The plan with another seed, and with folders of its own for the runs."""
    if seed is None:
        return plan
    return msgspec.structs.replace(plan, seed=seed, runs=f"{plan.runs}-seed-{seed}")


def train(plan: Plan, folder: Path, data_root: Path) -> None:
    """All runs of the plan that are not done, one after the other."""
    for name, network in plan.network.items():
        run, recipe = folder / plan.runs / name, recipe_of(plan, network, folder)
        if network.kind is None:
            start = None if plan.start is None else folder / plan.start
            pretrain(recipe, data_root, run, torch.device("cpu"), snapshot=start, say=print)
        else:
            snapshot = snapshot_of(plan, network, folder)
            points = wanted(plan)[name] & set(recipe.shape.positions)  # others are interpolated
            derive(recipe, snapshot, data_root, run, kind=network.kind, positions=points, say=print)


def wanted(plan: Plan) -> dict[str, set[int]]:
    """Rate positions that some system uses, by network."""
    positions: dict[str, set[int]] = {}
    for points in plan.system.values():
        for name, used in points.items():
            positions.setdefault(name, set()).update(used)
    return positions


def recipe_of(plan: Plan, network: Network, folder: Path) -> Recipe:
    trained = network if network.of is None else plan.network[network.of]
    recipe = read_recipe(folder / plan.recipe)
    rates = msgspec.structs.replace(recipe.rates, anchor=trained.anchor, distortion=plan.distortion)
    pretrain, steps = recipe.pretrain, trained.steps
    if steps is not None:
        half = steps // 2
        pretrain = msgspec.structs.replace(pretrain, steps=steps, decay_from=half, fixed_from=half)
    seed = recipe.seed if plan.seed is None else plan.seed
    return msgspec.structs.replace(recipe, rates=rates, pretrain=pretrain, seed=seed)


def snapshot_of(plan: Plan, network: Network, folder: Path) -> Path:
    name = network.of or next(name for name, other in plan.network.items() if other is network)
    return folder / plan.runs / name / "snapshot.safetensors"


def measure_all(plan: Plan, arguments: argparse.Namespace) -> None:
    """Measure what is missing, print the table."""
    folder = arguments.plan.parent
    arms = [
        Arm(name, bundle_of(plan, name, folder, arguments.data_root), Mode.SCALAR, sorted(positions))
        for name, positions in wanted(plan).items()
    ]
    runs = folder / plan.runs / "rows"
    prefix = "" if plan.metric == "psnr" else f"{plan.metric.replace('_', '-')}_"
    output = folder / f"{prefix}{arguments.data_set}.json"
    print(report(plan, measure(arms, arguments.data_root / arguments.data_set, runs, output, plan.metric)))


def bundle_of(plan: Plan, name: str, folder: Path, data_root: Path) -> Path:
    """A network's bundle with the mode scalar alone, kept beside its run.

    Its name says what it was made from: thresholds are no part of a fingerprint.
    """
    network, runs = plan.network[name], folder / plan.runs
    recipe, snapshot = recipe_of(plan, network, folder), snapshot_of(plan, network, folder)
    staircases = runs / name / "staircases.json" if network.kind else None
    digest = hashlib.sha256(msgspec.json.encode((recipe.shape, recipe.rates, plan.crops)))
    for part in (snapshot, *([staircases] if staircases else [])):
        digest.update(hashlib.sha256(part.read_bytes()).digest())
    path = runs / "bundles" / f"{digest.hexdigest()[:16]}.stairs"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        export = Export(plan.crops, Mode.SCALAR, {Mode.SCALAR: Quantizer()})
        plain = msgspec.structs.replace(recipe, export=export, finetune=Finetune())
        export_snapshot(plain, snapshot, data_root, path, staircases=staircases)
    return path


def curve(means: Means, points: dict[str, list[int]]) -> list[Point]:
    """Every position of every network of a system, by rate."""
    return sorted(
        (bpp, value) for network, at in points.items() for d, bpp, value in means.arms[network] if d in at
    )


def extra_bits(reference: list[Point], system: list[Point], rate: float) -> float:
    """Per cent that a system takes more than the reference at the quality it has at a rate; NaN outside."""
    rates, values = np.array(reference).T
    points = np.array(system)
    bits_at = PchipInterpolator(values, np.log(rates), extrapolate=False)
    value_at = PchipInterpolator(np.log(points[:, 0]), points[:, 1], extrapolate=False)
    return float(100 * np.expm1(np.log(rate) - bits_at(value_at(np.log(rate)))))


def report(plan: Plan, means: Means) -> str:
    """Extra bits of every system at every ratio; a dash outside what was measured."""
    curves = {name: curve(means, points) for name, points in plan.system.items()}
    ((anchor_rate, _),) = curve(means, {plan.anchor: [plan.network[plan.anchor].anchor or 0]})
    reference = curves[plan.reference]
    name = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}[plan.metric]
    rows = [
        [system, *(cell(reference, points, ratio * anchor_rate) for ratio in plan.ratios)]
        for system, points in curves.items()
        if system != plan.reference
    ]
    if plan.metric == "psnr":
        rows.append(published(plan))
    points = ", ".join(f"{bpp:.3f} bpp {value:.2f} dB" for bpp, value in reference)
    return (
        f"{means.pictures} pictures of {means.data_set}, whole files, mode scalar; extra bits at equal\n"
        f"{name} against {len(reference)} networks trained at one rate each: {points}.\n\n"
        + markdown_table(["rate / anchor's", *(f"{ratio:g}" for ratio in plan.ratios)], rows)
    )


def cell(reference: list[Point], system: list[Point], rate: float) -> str:
    """``extra_bits`` for a table."""
    value = extra_bits(reference, system, rate)
    return "-" if np.isnan(value) else f"{value:+.1f} %"


def published(plan: Plan) -> list[str]:
    """A row of a table: what the paper's release takes."""
    cells = (f"{PUBLISHED[ratio]:+.1f} %" if ratio in PUBLISHED else "-" for ratio in plan.ratios)
    return ["the paper's release, its own networks, Kodak", *cells]


if __name__ == "__main__":
    main()
