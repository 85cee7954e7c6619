"""Write golden files anew.

python -m tests.make_golden            a new tiny bundle, its streams, their symbols and pixels
python -m tests.make_golden CASE...    those cases alone, with the tiny bundle that is there
python -m tests.make_golden shipped    a stream of the shipped bundle, after it was replaced
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

import softstair
from softstair.bundle import read_bundle
from softstair.learn.data import Crops, load_pictures
from softstair.learn.export.bundle import export_bundle
from softstair.learn.recipe import Quantizer, read_recipe
from softstair.learn.stages.pretrain import pretrain
from softstair.mode import Mode

from .test_golden import CASES, FOLDER, LAYOUTS, SHIPPED, SHIPPED_BUNDLES, example, pixel_file, symbol_hash
from .tiny import encode_tiled, write_data, write_recipe


def make_tiny_bundle(folder: Path) -> None:
    """Train the tiny network for a few steps and export it."""
    write_data(folder)
    recipe = read_recipe(write_recipe(folder / "tiny.toml", steps=60, fixed_from=30))
    codec = pretrain(recipe, folder, folder / "run", torch.device("cpu"))
    crops = Crops(load_pictures([folder / "train"]), 0).batch(0, 12, 128)
    export_bundle(
        codec,
        crops,
        FOLDER / "tiny.stairs",
        name="tiny",
        description="For tests: small, hardly trained.",
        licence="Apache-2.0",
        provenance={"data": "synthetic"},
        quantizers={mode: Quantizer(6 if mode.is_trellis else 0, 0, 0.04) for mode in Mode},
    )


def make_streams(names: Iterable[str]) -> None:
    """Code cases with the tiny bundle and note what they must decode to."""
    tiny = read_bundle((FOLDER / "tiny.stairs").read_bytes(), "tiny.stairs")
    notes = FOLDER / "expected.json"
    expected = json.loads(notes.read_text()) if notes.exists() else {}
    for name in names:
        pixels, position = CASES[name]
        mode = name if name in list(Mode) else "scalar"
        if name in LAYOUTS:
            data = encode_tiled(pixels, tiny, position, layout=LAYOUTS[name], mode=mode)
        else:
            data = softstair.encode(pixels, rate_position=position, mode=mode, bundle=tiny, threads=1)
        (FOLDER / f"{name}.stair").write_bytes(data)
        expected[name] = {"symbols": symbol_hash(data, tiny), "pixels": pixel_file(name)}
        np.savez_compressed(FOLDER / pixel_file(name), softstair.decode(data, bundle=tiny, threads=1))
    notes.write_text(json.dumps(expected, indent=1) + "\n")


def make_shipped_streams() -> None:
    """Code the example with every shipped bundle that has no stream yet, or has changed."""
    notes = SHIPPED / "expected.json"
    expected = json.loads(notes.read_text()) if notes.exists() else {}
    for name in SHIPPED_BUNDLES:
        bundle = softstair.open_bundle(name)
        if expected.get(name, {}).get("bundle") == bundle.fingerprint.hex():
            continue
        data = softstair.encode(example(), quality=20, threads=1, bundle=bundle)
        (SHIPPED / f"{name}.stair").write_bytes(data)
        expected[name] = {"bundle": bundle.fingerprint.hex(), "symbols": symbol_hash(data, bundle)}
    notes.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__" and sys.argv[1:] == ["shipped"]:
    SHIPPED.mkdir(parents=True, exist_ok=True)
    make_shipped_streams()
elif __name__ == "__main__" and sys.argv[1:]:
    make_streams(sys.argv[1:])
elif __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        make_tiny_bundle(Path(scratch))
    make_streams(CASES)
