"""Write golden files anew.

python -m tests.make_golden CASE...    cases of version 2, with the tiny bundle that is there
python -m tests.make_golden shipped    a stream of the shipped bundle, after it was replaced
python -m tests.make_golden context    random context networks for golden bundles and streams, where missing

The tiny bundle and the streams of version 1 lie in tests/golden/v1; no release writes them any more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import numpy as np

import softstair
from softstair.bundle import read_bundle
from softstair.codec import Rate, decode_picture, encode_picture, truncate
from softstair.mode import Mode
from softstair.pictures import Picture
from softstair.stream import read_stream

from .contexts import context_entry, with_context
from .format.test_golden import (
    CONTEXT_BUNDLES,
    CONTEXT_CASES,
    CONTEXT_FOLDER,
    FOLDER,
    LAYER_CASES,
    SHIPPED,
    SHIPPED_BUNDLES,
    V2,
    V2_CASES,
    context_bundle,
    example,
    pixel_file,
    symbol_hash,
)
from .tiny import with_smoothing


def make_streams(names: Iterable[str]) -> None:
    """Code cases with the tiny bundle and note what they must decode to."""
    tiny = read_bundle((FOLDER / "tiny.stairs").read_bytes(), "tiny.stairs")
    V2.mkdir(exist_ok=True)
    notes = V2 / "expected.json"
    expected = json.loads(notes.read_text()) if notes.exists() else {}
    for name in names:
        picture, position = V2_CASES[name]
        rate = Rate(lossless=True) if position is None else Rate(position=position)
        bundle = with_smoothing(tiny) if name == "smoothed" else tiny
        mode = Mode.TCQ8 if name == "smoothed" else None
        data = encode_picture(picture, rate, bundle, mode=mode, threads=1).data
        (V2 / f"{name}.stair").write_bytes(data)
        expected[name] = {
            "symbols": symbol_hash(data, tiny),
            "pixels": pixel_file(name),
            "exact": sorted(read_stream(data).exact),
        }
        np.savez_compressed(V2 / pixel_file(name), decode_picture(data, tiny, threads=1).array)
    notes.write_text(json.dumps(expected, indent=1) + "\n")


def make_layered_streams(names: Iterable[str]) -> None:
    """The same for cases in layers, of every cut."""
    tiny = read_bundle((FOLDER / "tiny.stairs").read_bytes(), "tiny.stairs")
    notes = V2 / "expected.json"
    expected = json.loads(notes.read_text())
    for name in names:
        picture, position, layers = LAYER_CASES[name]
        data = encode_picture(picture, Rate(position=position), tiny, layers=layers, threads=1).data
        (V2 / f"{name}.stair").write_bytes(data)
        cuts = [truncate(data, layers=layer + 1) for layer in range(layers)]
        expected[name] = {"symbols": [symbol_hash(cut, tiny) for cut in cuts], "pixels": pixel_file(name)}
        pixels = [decode_picture(cut, tiny, threads=1).array for cut in cuts]
        np.savez_compressed(V2 / pixel_file(name), *pixels)
    notes.write_text(json.dumps(expected, indent=1) + "\n")


def make_context_streams() -> None:
    """Give golden bundles context networks and code cases with them."""
    CONTEXT_FOLDER.mkdir(exist_ok=True)
    for name, path in CONTEXT_BUNDLES.items():
        entry = CONTEXT_FOLDER / f"{name}.safetensors"
        if not entry.exists():
            integers = read_bundle(path.read_bytes(), name).integers
            entry.write_bytes(context_entry(with_context(integers, signs=name == "means")))
    notes = CONTEXT_FOLDER / "expected.json"
    expected = json.loads(notes.read_text()) if notes.exists() else {}
    for case, (name, pixels, position, mode) in CONTEXT_CASES.items():
        if case in expected:
            continue
        bundle = context_bundle(name)
        data = encode_picture(Picture(pixels), Rate(position=position), bundle, mode=mode, threads=1).data
        (CONTEXT_FOLDER / f"{case}.stair").write_bytes(data)
        expected[case] = {"bundle": bundle.fingerprint.hex(), "symbols": symbol_hash(data, bundle)}
    notes.write_text(json.dumps(expected, indent=1) + "\n")


def make_shipped_streams() -> None:
    """Code the example with every shipped bundle that has no stream yet, or has changed."""
    notes = SHIPPED / "expected.json"
    expected = json.loads(notes.read_text()) if notes.exists() else {}
    for name in SHIPPED_BUNDLES:
        bundle = softstair.open_bundle(name)
        if expected.get(name, {}).get("bundle") == bundle.fingerprint.hex():
            continue
        data = softstair.encode(example(), quality=30, threads=1, bundle=bundle)
        (SHIPPED / f"{name}.stair").write_bytes(data)
        expected[name] = {"bundle": bundle.fingerprint.hex(), "symbols": symbol_hash(data, bundle)}
    notes.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__" and sys.argv[1:] == ["shipped"]:
    SHIPPED.mkdir(parents=True, exist_ok=True)
    make_shipped_streams()
elif __name__ == "__main__" and sys.argv[1:] == ["context"]:
    make_context_streams()
elif __name__ == "__main__":
    names = sys.argv[1:] or [*V2_CASES, *LAYER_CASES]
    make_streams(name for name in names if name in V2_CASES)
    make_layered_streams(name for name in names if name in LAYER_CASES)
