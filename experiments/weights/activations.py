"""The synthesis in 8 bits, weights and activations, by ONNX Runtime's own quantizer: what it loses and gains.

python -m experiments.weights.activations BUNDLE --data-root DATA > results/eight_bits.md

Ranges of activations are the smallest and largest of held-out pictures that are not measured; nothing is
tuned. Latents are those of the bundle's files; time is of 768x512 pixels with one thread, both in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from experiments.judging import HELD_OUT, even
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from softstair.bundle import Bundle, open_bundle
from softstair.codec import networks_of
from softstair.codec.tile import TileCoder
from softstair.evaluate import markdown_table, psnr
from softstair.learn.data import Pixels, load_pictures
from softstair.mode import Mode
from softstair.quantize.rates import hat_weights

POSITIONS, CALIBRATED, ROUNDS = (24, 56, 88, 120, 152), 4, 9
Feed = dict[str, npt.NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--data-root", type=Path, required=True)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    pictures = [even(one) for one in load_pictures([arguments.data_root / HELD_OUT])]
    calibrating = [feed for one in pictures[:CALIBRATED] for _, feed in decoded(bundle, one)]
    whole, eight = sessions(bundle, calibrating)
    rows: dict[int, list[tuple[float, float]]] = {}
    for picture in pictures[CALIBRATED::2]:
        for position, feed in decoded(bundle, picture):
            marks = [psnr(picture, pixels_of(session, feed)) for session in (whole, eight)]
            rows.setdefault(position, []).append((marks[0], marks[1]))
    print("# The synthesis in 8 bits\n")
    print(f"`experiments/weights/activations.py`, bundle {bundle.name}: PSNR of held-out pictures.\n")
    heads = ("rate position", "in float32, dB", "weights and activations in 8 bits, dB")
    cells = ((position, *(f"{mean:.2f}" for mean in np.mean(both, 0))) for position, both in rows.items())
    print(markdown_table(heads, cells, words=0))
    milliseconds = times((whole, eight), bundle)
    print(f"\n768x512, one thread: {milliseconds[0]:.0f} ms, and {milliseconds[1]:.0f} ms in 8 bits.")


def decoded(bundle: Bundle, picture: Pixels) -> list[tuple[int, Feed]]:
    """What the synthesis is given, at every rate position."""
    mode = Mode(bundle.manifest.encoding.mode)
    coder, found = TileCoder(bundle, networks_of(bundle, 1, mode), mode), []
    for position in POSITIONS:
        latents = coder.decide(coder.begin(coder.analyse(picture), position)).latents
        found.append((position, {"latents": latents, "hat": hat_weights(position, bundle.points)}))
    return found


class _Feeds(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Any:
        return next(self._feeds, None)


def sessions(bundle: Bundle, feeds: Sequence[Feed]) -> tuple[Any, Any]:
    """The synthesis in float32 and in 8 bits, one thread each."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        plain, eight = Path(folder) / "plain.onnx", Path(folder) / "eight.onnx"
        folding = onnxruntime.SessionOptions()  # half-precision weights become float32 ones
        folding.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        folding.optimized_model_filepath = str(plain)
        onnxruntime.InferenceSession(bundle.graph("synthesis"), folding, ["CPUExecutionProvider"])
        settings = {"quant_format": QuantFormat.QDQ, "per_channel": True, "op_types_to_quantize": ["Conv"]}
        quantize_static(plain, eight, _Feeds(feeds), **settings)
        models = bundle.graph("synthesis"), eight.read_bytes()
        first, second = (onnxruntime.InferenceSession(m, options, ["CPUExecutionProvider"]) for m in models)
    return first, second


def pixels_of(session: Any, feed: Feed) -> Pixels:
    """Decoded pixels, uint8 (H, W, 3)."""
    (planes,) = session.run(None, feed)
    rounded: Pixels = (planes[0].clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(rounded)


def times(both: Sequence[Any], bundle: Bundle) -> list[float]:
    """Medians in milliseconds, in turn."""
    rng = np.random.default_rng(0)
    latents = rng.normal(0, 1, (1, bundle.channels, 32, 48)).astype(np.float32)
    feed = {"latents": latents, "hat": hat_weights(80, bundle.points)}
    taken: list[list[float]] = [[] for _ in both]
    for _ in range(ROUNDS):
        for session, found in zip(both, taken, strict=True):
            start = time.perf_counter()
            session.run(None, feed)
            found.append(1000 * (time.perf_counter() - start))
    return [statistics.median(found) for found in taken]


if __name__ == "__main__":
    main()
