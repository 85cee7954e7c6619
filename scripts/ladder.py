"""What buys what: every way to choose and code symbols on one network, from file bytes.

    python scripts/ladder.py RECIPE SNAPSHOT DATASET --data-root DATA -o results/rows/ladder_DATASET.json

Exports bundles of the snapshot that differ in tables and skipping, codes every picture with
every mode of each at four rate positions, reads the files back, and prints delta rates (PSNR, PCHIP)
as Markdown. Repeated, it measures only what is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from rows import Rows, mean_curves, measure_file
from safetensors.numpy import load, save

from softstair.bundle import Bundle, read_bundle
from softstair.codec import networks_of
from softstair.codec.tile import TileCoder
from softstair.evaluate import delta_rate, find_data_set
from softstair.evaluate.data import read_rgb
from softstair.learn.checkpoint import hash_file, load_snapshot
from softstair.learn.codec import Codec
from softstair.learn.data import Crops, load_pictures
from softstair.learn.export.bundle import export_bundle
from softstair.learn.integer.measure import ROW_RULE
from softstair.learn.recipe import Quantizer, Recipe, read_recipe
from softstair.mode import Mode
from softstair.quantize.tables import gaussian_tables

POSITIONS = (24, 56, 88, 120)
MEASURING, SIDE = 2**31, 256
SKIP = 6  # table row: sigma under a fifth of a step
DEAD_ZONE = 0.6  # steps: what lies nearer to zero becomes zero
ANCHOR, GAUSSIAN_ANCHOR = "measured/scalar", "gaussian/scalar"


@dataclass(frozen=True)
class Variant:
    """A row of the table. kind: of bundle. name: how symbols are chosen; coded in ``mode``."""

    kind: str
    name: str
    mode: Mode

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.name}"


NAMES = {"scalar": Mode.SCALAR, "dead zone": Mode.SCALAR} | {mode.value: mode for mode in Mode}
TITLES = {
    "gaussian": "Gaussian tables",
    "measured": "measured tables",
    "skip": "measured, skipping",
}
VARIANTS = [Variant(kind, name, mode) for kind in TITLES for name, mode in NAMES.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("data_set")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=60, help="training crops to measure tables on")
    parser.add_argument("--bundles", type=Path, default=Path("runs/ladder"), help="folder of the bundles")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    torch.set_num_threads(1)
    bundles = make_bundles(
        recipe, arguments.snapshot, arguments.data_root, arguments.crops, arguments.bundles
    )
    data_set = find_data_set(arguments.data_root / arguments.data_set)
    kept = Rows(arguments.output, data_set, {kind: one.fingerprint.hex() for kind, one in bundles.items()})
    done = {row["picture"] for row in kept.rows}
    for path in data_set.paths:
        if path.name not in done:
            kept.rows += [{"picture": path.name, **row} for row in measure(bundles, read_rgb(path))]
            kept.save()
    print(report(kept.rows), end="")


def make_bundles(
    recipe: Recipe, snapshot: Path, data_root: Path, crops: int, folder: Path
) -> dict[str, Bundle]:
    """A bundle of every kind, kept in a folder of the snapshot's own."""
    folder = folder / hash_file(snapshot)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    codec = Codec(recipe.shape)
    load_snapshot(snapshot, codec)
    pictures = load_pictures([data_root / name for name in recipe.data.train])
    taken = Crops(pictures, recipe.seed).batch(MEASURING, crops, SIDE)

    def export(name: str, change: Callable[[Quantizer], Quantizer]) -> Bundle:
        path = folder / f"{name}.stairs"
        if path.exists():
            return read_bundle(path.read_bytes(), str(path))
        return export_bundle(
            codec,
            taken,
            path,
            name=name,
            description="one of several that are compared",
            licence=recipe.about.licence,
            provenance={},
            quantizers={mode: change(quantizer) for mode, quantizer in recipe.export.modes.items()},
        )

    measured = export("measured", lambda quantizer: quantizer)
    return {
        "gaussian": with_gaussian_tables(measured),
        "measured": measured,
        "skip": export("skip", lambda quantizer: msgspec.structs.replace(quantizer, skip=SKIP)),
    }


def with_gaussian_tables(bundle: Bundle) -> Bundle:
    """The same bundle with the tables of the model's own distribution."""
    tensors = load(bundle.entries["tables.safetensors"])
    for mode in bundle.modes:
        tables = gaussian_tables(ROW_RULE, mode.states)
        tensors |= {f"y.{mode}.cdf": tables.cdf, f"y.{mode}.offsets": tables.offsets}
    return Bundle({**bundle.entries, "tables.safetensors": save(tensors)}, "gaussian")


def measure(bundles: Mapping[str, Bundle], pixels: npt.NDArray[np.uint8]) -> Iterator[dict[str, object]]:
    """Bytes and PSNR of a picture by variant and position."""
    networks = networks_of(bundles["measured"], 1)  # the same in all
    analysed = TileCoder(bundles["measured"], networks, Mode.SCALAR).analyse(pixels)
    for variant in VARIANTS:
        bundle = bundles[variant.kind]
        coder = TileCoder(bundle, networks, variant.mode)
        for position in POSITIONS:
            decide = dead_zone if variant.name == "dead zone" else None
            row = measure_file(coder, analysed, pixels, position, bundle, decide)
            yield {"variant": variant.key, "position": position, **row}


def dead_zone(residual: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Rounding, but for a wider interval around zero."""
    return np.where(np.abs(residual) < DEAD_ZONE, 0, np.rint(residual)).astype(np.int16)


def report(rows: list[dict[str, object]]) -> str:
    """Delta rates of all variants against rounding, with measured and with Gaussian tables."""
    curves = mean_curves(rows, "variant")
    pictures = len({row["picture"] for row in rows})
    lines = [
        f"{pictures} pictures, rate positions {', '.join(map(str, POSITIONS))}; BD-rate, PSNR, PCHIP, bytes",
        "of whole files, against rounding with measured tables (and, in brackets, with Gaussian ones).",
        "",
        f"| symbols | {' | '.join(TITLES.values())} |",
        "| --- |" + " --: |" * len(TITLES),
    ]
    for name in NAMES:
        cells = []
        for kind in TITLES:
            curve = curves[f"{kind}/{name}",]
            against = [delta_rate(curves[anchor,], curve).pchip for anchor in (ANCHOR, GAUSSIAN_ANCHOR)]
            cells.append(f"{against[0]:+.2f} % ({against[1]:+.2f} %)")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
