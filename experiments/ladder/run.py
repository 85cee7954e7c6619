"""What buys what: every way to choose and code symbols on one network, from bytes of files.

    python -m experiments.ladder.run RECIPE SNAPSHOT DATASET --data-root DATA

Exports bundles of the snapshot that differ in tables and skipping, measures files of every mode of each at
four rate positions, and prints delta rates (PSNR, PCHIP) as Markdown. Interrupted, it goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import torch
from experiments.harness import Arm, Means, measure
from safetensors.numpy import load, save

from softstair.bundle import Bundle, Manifest, read_bundle, to_json, write_bundle
from softstair.evaluate import markdown_table
from softstair.learn.checkpoint import hash_file, load_codec
from softstair.learn.data import Crops, load_pictures
from softstair.learn.export.bundle import export_bundle
from softstair.learn.integer.measure import ROW_RULE
from softstair.learn.recipe import Recipe, read_recipe
from softstair.mode import Mode
from softstair.quantize.tables import gaussian_tables

HERE = Path(__file__).parent
POSITIONS = (24, 56, 88, 120)
MEASURING, SIDE = 2**31, 256
SKIP = 6  # table row: sigma under a fifth of a step
DEAD_ZONE = 614  # 1/1024 step: what lies nearer to zero becomes zero
TITLES = {"gaussian": "Gaussian tables", "measured": "measured tables", "skip": "measured, skipping"}
LOST = {"centroids": "measured, centroids"}  # was measured once; commit 3d2563c is the last that can
NAMES = ["scalar", "dead zone", "rdoq", "tcq4", "tcq8", "tcq16", "tcq32"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("data_set")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=60, help="training crops to measure tables on")
    parser.add_argument("--runs", type=Path, default=Path("runs/ladder"), help="of bundles and rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.runs / hash_file(arguments.snapshot)[:16]
    recipe = read_recipe(arguments.recipe)
    arms = []
    for kind in TITLES:
        plain = make_bundle(recipe, arguments, folder, kind)
        for name in NAMES:
            bundle = with_dead_zone(plain, folder, kind) if name == "dead zone" else plain
            mode = Mode.SCALAR if name == "dead zone" else Mode(name)
            arms.append(Arm(f"{kind}/{name}", bundle, mode, POSITIONS))
    data_set = arguments.data_root / arguments.data_set
    print(report(measure(arms, data_set, folder, HERE / f"{arguments.data_set}.json")))


def make_bundle(recipe: Recipe, arguments: argparse.Namespace, folder: Path, kind: str) -> Path:
    """A bundle of a kind, kept in a folder of the snapshot's own."""
    path = folder / f"{kind}.stairs"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "gaussian":
        measured = open_file(make_bundle(recipe, arguments, folder, "measured"))
        tensors = load(measured.entries["tables.safetensors"])
        for mode in measured.modes:
            tensors |= gaussian_tables(ROW_RULE, mode.states).tensors(f"y.{mode}")
        write_bundle(path, {**measured.entries, "tables.safetensors": save(tensors)})
        return path
    skip = {"skip": SKIP} if kind == "skip" else {}
    pictures = load_pictures([arguments.data_root / name for name in recipe.data.train])
    export_bundle(
        load_codec(recipe, arguments.snapshot),
        Crops(pictures, recipe.seed).batch(MEASURING, arguments.crops, SIDE),
        path,
        name=kind,
        description="one of several that are compared",
        licence=recipe.about.licence,
        provenance={},
        quantizers={m: msgspec.structs.replace(one, **skip) for m, one in recipe.export.modes.items()},
    )
    return path


def with_dead_zone(bundle: Path, folder: Path, kind: str) -> Path:
    """The same bundle, whose encoder rounds but for a wider interval around zero."""
    path, opened = folder / f"{kind}-dead-zone.stairs", open_file(bundle)
    thresholds = {Mode.SCALAR.value: [[DEAD_ZONE]] * opened.points}
    encoding = msgspec.structs.replace(opened.manifest.encoding, thresholds=thresholds)
    manifest: Manifest = msgspec.structs.replace(opened.manifest, encoding=encoding)
    write_bundle(path, {**opened.entries, "manifest.json": to_json(manifest)})
    return path


def open_file(path: Path) -> Bundle:
    return read_bundle(path.read_bytes(), str(path))


def report(means: Means) -> str:
    """Delta rates of all arms against rounding, with measured and with Gaussian tables."""
    titles = {kind: title for kind, title in (TITLES | LOST).items() if f"{kind}/scalar" in means.arms}

    def cell(kind: str, name: str) -> str:
        anchors = ("measured", "gaussian")
        one, other = (means.bits(f"{anchor}/scalar", f"{kind}/{name}") for anchor in anchors)
        return f"{one:+.2f} % ({other:+.2f} %)"

    rows = ([name, *(cell(kind, name) for kind in titles)] for name in NAMES)
    return (
        f"{means.pictures} pictures, rate positions {', '.join(map(str, POSITIONS))}; BD-rate, PSNR, PCHIP,\n"
        "bytes of whole files, against rounding with measured tables (in brackets: with Gaussian ones).\n\n"
        + markdown_table(["symbols", *titles.values()], rows)
    )


if __name__ == "__main__":
    main()
