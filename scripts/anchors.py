"""What one anchor and its derivations cost against networks trained at one rate each, from file bytes.

    python scripts/anchors.py PLAN.toml DATASET --data-root DATA -o results/rows/anchors_DATASET.json

Trains nothing: the plan names snapshots and staircases. Every fixed-rate network is exported and
measured at its own rate position; through these points runs the curve of the reference. Every system
is exported and measured at the plan's positions. Printed is, at every ratio of the anchor's rate, how
many more bits a system's files take than the reference at equal PSNR. Repeated, it measures only what
is missing.

    anchor = "middle"                  # whose rate is the ratio 1
    ratios = [0.6, 0.73, 0.83, 1.0, 1.18, 1.47, 1.62]
    positions = [48, 56, 64, 72, 80, 88, 96, 104, 112]
    crops = 60                         # training crops that tables are measured on
    [[reference]]
    name = "middle"
    recipe = "middle.toml"             # with rates.anchor
    snapshot = "runs/middle/snapshot.safetensors"
    [[system]]
    name = "(c) derived staircases"
    recipe = "middle.toml"
    snapshot = "runs/middle/snapshot.safetensors"
    staircases = "runs/middle-stanh/staircases.json"
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from rows import Rows
from scipy.interpolate import PchipInterpolator

import softstair
from softstair.bundle import Bundle, read_bundle
from softstair.evaluate import find_data_set, mean_squared_error
from softstair.evaluate.data import read_rgb
from softstair.learn.export.bundle import export_snapshot
from softstair.learn.recipe import Export, Finetune, Quantizer, Recipe, read_recipe

# As the published release stands against its own fixed-rate networks on Kodak (docs/measured.md).
PUBLISHED = {0.6: 17.2, 0.73: 2.5, 0.83: -0.6, 1.0: 0.5, 1.18: 3.6, 1.47: 12.3, 1.62: 18.9}


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A snapshot and what makes a bundle of it; paths are relative to the plan."""

    name: str
    recipe: str
    snapshot: str
    staircases: str | None = None


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is compared."""

    anchor: str
    reference: list[Network]
    system: list[Network]
    ratios: list[float]
    positions: list[int]
    crops: int = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("data_set")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--pictures", type=int, help="only the first so many, for a rehearsal")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.plan.parent
    plan = msgspec.toml.decode(arguments.plan.read_bytes(), type=Plan)
    data_set = find_data_set(arguments.data_root / arguments.data_set)
    kept = Rows(arguments.output, data_set)
    done = {(row["picture"], row["bundle"], row["position"]) for row in kept.rows}
    jobs = []
    for network in (*plan.reference, *plan.system):
        recipe = read_recipe(folder / network.recipe)
        bundle = bundle_of(network, recipe, plan.crops, folder, arguments.data_root)
        positions = plan.positions if network in plan.system else [_anchor_of(network, recipe)]
        jobs.append((network, bundle, positions))
    paths = data_set.paths[: arguments.pictures]
    for path in paths:
        pixels = read_rgb(path)
        for _, bundle, positions in jobs:
            for position in positions:
                key = (path.name, _key(bundle), position)
                if key in done:
                    continue
                done.add(key)
                size, error = measure(bundle, pixels, position)
                names = ("picture", "bundle", "position", "bpp", "mse")
                row = dict(zip(names, (*key, 8 * size / pixels[..., 0].size, error), strict=True))
                kept.rows.append(row)
        kept.save()
    seen = {path.name for path in paths}
    curves = {
        network.name: curve(kept.rows, seen, _key(bundle), positions) for network, bundle, positions in jobs
    }
    print(report(plan, curves, len(paths), arguments.data_set), end="")


def _key(bundle: Bundle) -> str:
    """Thresholds are no part of a fingerprint; what a bundle was made from is its name here."""
    return Path(bundle.origin).stem


def _anchor_of(network: Network, recipe: Recipe) -> int:
    if recipe.rates.anchor is None:
        raise SystemExit(f"{network.name} is a reference, but {network.recipe} has no rates.anchor.")
    return recipe.rates.anchor


def bundle_of(network: Network, recipe: Recipe, crops: int, folder: Path, data_root: Path) -> Bundle:
    """The network's bundle with the mode scalar alone, kept beside the plan."""
    staircases = None if network.staircases is None else folder / network.staircases
    parts = [folder / network.snapshot, folder / network.recipe, *([staircases] if staircases else [])]
    digest = hashlib.sha256(str(crops).encode())
    for part in parts:
        digest.update(hashlib.sha256(part.read_bytes()).digest())
    path = folder / "bundles" / f"{digest.hexdigest()[:16]}.stairs"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        export = Export(crops, "scalar", {"scalar": Quantizer()})
        plain = msgspec.structs.replace(recipe, export=export, finetune=Finetune())
        export_snapshot(plain, folder / network.snapshot, data_root, path, staircases=staircases)
    return read_bundle(path.read_bytes(), str(path))


def measure(bundle: Bundle, pixels: npt.NDArray[np.uint8], position: int) -> tuple[int, float]:
    """Bytes of a file and squared error of what is read back."""
    data = softstair.encode(pixels, bundle=bundle, rate_position=position, mode="scalar")
    return len(data), float(mean_squared_error(pixels, softstair.decode(data, bundle=bundle)))


def curve(
    rows: list[dict[str, object]], pictures: set[str], bundle: str, positions: list[int]
) -> list[tuple[float, float]]:
    """Mean bits a pixel and mean PSNR over the pictures, by position."""
    points = defaultdict(list)
    for row in rows:
        if row["bundle"] == bundle and row["picture"] in pictures:
            points[row["position"]].append((row["bpp"], 10 * np.log10(255**2 / row["mse"])))
    return [tuple(map(float, np.mean(points[position], axis=0))) for position in positions]


def report(plan: Plan, curves: dict[str, list[tuple[float, float]]], pictures: int, data_set: str) -> str:
    """Extra bits of every system at every ratio, per cent; a dash outside what was measured."""
    reference = sorted(point for network in plan.reference for point in curves[network.name])
    rate, quality = np.array(reference).T
    bits_at = PchipInterpolator(quality, np.log(rate), extrapolate=False)
    ((anchor_rate, _),) = curves[plan.anchor]
    lines = [
        f"{pictures} pictures of {data_set}, whole files, mode scalar; extra bits at equal PSNR against",
        f"{len(reference)} networks trained at one rate each: "
        + ", ".join(f"{bpp:.3f} bpp {psnr:.2f} dB" for bpp, psnr in reference)
        + ".",
        "",
        f"| rate / anchor's | {' | '.join(f'{ratio:g}' for ratio in plan.ratios)} |",
        "| --- |" + " --: |" * len(plan.ratios),
    ]
    for system in plan.system:
        points = np.array(sorted(curves[system.name]))
        psnr_at = PchipInterpolator(np.log(points[:, 0]), points[:, 1], extrapolate=False)
        cells = []
        for ratio in plan.ratios:
            wanted = np.log(ratio * anchor_rate)
            extra = 100 * np.expm1(wanted - bits_at(psnr_at(wanted)))
            cells.append("-" if np.isnan(extra) else f"{extra:+.1f} %")
        lines.append(f"| {system.name} | {' | '.join(cells)} |")
    published = [f"{PUBLISHED[ratio]:+.1f} %" if ratio in PUBLISHED else "-" for ratio in plan.ratios]
    lines.append(f"| the paper's release, its own networks, Kodak | {' | '.join(published)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
