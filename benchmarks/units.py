"""Encoding and decoding in units of one convolution, as Markdown: what a design costs on any machine.

    python benchmarks/units.py PHOTOGRAPH LARGE BUNDLE... > results/units.md

The unit: a dense 3x3 convolution of 128 channels at 64x96 by ONNX Runtime on one thread, in the same run. The
photograph (768x512) with two threads, least of some rounds in turn; the large one is decoded once by each
bundle, after another, six times in turn; then once more with one thread, to see where the time goes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from parts import parts_of

import softstair
from softstair.bundle import Bundle
from softstair.evaluate.data import read_rgb
from softstair.processor import processor_name

ROUNDS, THREADS, POSITION, LARGE_ROUNDS = 12, 2, 80, 6


def main(photograph: str, large: str, *sources: str) -> None:
    bundles = [softstair.open_bundle(source) for source in sources]
    pixels, many = read_rgb(Path(photograph)), read_rgb(Path(large))[:3000, :4000]
    actions = {"unit": convolution()}
    for bundle in bundles:
        stream = encode(pixels, bundle)
        actions[f"decode {bundle.fingerprint.hex()}"] = lambda b=bundle, s=stream: decode(s, b)
        actions[f"encode {bundle.fingerprint.hex()}"] = lambda b=bundle: encode(pixels, b)
    least = in_turn(actions, ROUNDS)
    streams = {bundle: encode(many, bundle) for bundle in bundles}
    large_ones = in_turn(
        {bundle.fingerprint.hex(): lambda b=bundle: decode(streams[b], b) for bundle in bundles}, LARGE_ROUNDS
    )
    unit, first = least["unit"], large_ones[bundles[0].fingerprint.hex()]
    print("# In units of one convolution\n\nWritten by `python benchmarks/units.py`; two threads.\n")
    print(f"The unit is {1000 * unit:.1f} ms on {processor_name()}.\n")
    print("| bundle | decode, ms (units) | encode, ms (units) | 12 megapixels, s (of the first's) |")
    print("| --- | --: | --: | --: |")
    for bundle in bundles:
        name = bundle.fingerprint.hex()
        decoding, encoding = (least[f"{what} {name}"] for what in ("decode", "encode"))
        print(
            f"| {bundle.name} {name} | {1000 * decoding:.0f} ({decoding / unit:.1f}) | {1000 * encoding:.0f} "
            f"({encoding / unit:.1f}) | {large_ones[name]:.1f} ({100 * large_ones[name] / first:.0f} %) |"
        )
    found = [parts_of(lambda b=bundle: decode(streams[b], b, threads=1)) for bundle in bundles]
    print("\nWhere the time of 12 megapixels goes, seconds of one thread:\n")
    print("| part | " + " | ".join(f"{b.name} {b.fingerprint.hex()}" for b in bundles) + " |")
    print("| --- |" + " --: |" * len(bundles))
    for part in found[0]:
        if any(seconds[part] for seconds in found):
            print(f"| {part} | " + " | ".join(f"{seconds[part]:.2f}" for seconds in found) + " |")
    print("| together | " + " | ".join(f"{sum(seconds.values()):.2f}" for seconds in found) + " |")


def encode(pixels: np.ndarray, bundle: Bundle) -> bytes:
    return softstair.encode(pixels, rate_position=POSITION, bundle=bundle, threads=THREADS)


def decode(stream: bytes, bundle: Bundle, threads: int = THREADS) -> np.ndarray:
    return softstair.decode(stream, bundle=bundle, threads=threads)


def convolution() -> Callable[[], object]:
    """The unit."""
    weight = np.random.default_rng(0).normal(0, 0.03, (128, 128, 3, 3)).astype(np.float32)
    planes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 128, 64, 96]) for n in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "unit", planes[:1], planes[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {"x": np.ones((1, 128, 64, 96), np.float32)}
    return lambda: session.run(None, feed)


def in_turn(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least seconds of each, after a round to warm up."""
    least = dict.fromkeys(actions, float("inf"))
    for turn in range(rounds + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if turn:
                least[name] = min(least[name], time.perf_counter() - start)
    return least


if __name__ == "__main__":
    main(*sys.argv[1:])
