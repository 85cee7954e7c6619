"""How many latents a network needs for high rates, and what they cost a decoder.

    python -m experiments.latents.run bound --data-root DATA
    python -m experiments.latents.run times [SHAPE...]

bound: PSNR of held-out pictures, not quantized, if only so many principal components of 16x16 patches are
kept. times: milliseconds of ONNX Runtime for 768x512 pixels, the least of eight in turns, also in units of
one dense 3x3 convolution of 128 channels at 64x96, on one thread, in the same run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.units import convolution, in_turn

from softstair.engine.onnx_runtime import OnnxNetworks
from softstair.evaluate import markdown_table
from softstair.learn.codec import Codec
from softstair.learn.data import Pixels, load_pictures
from softstair.learn.export.graphs import export_graphs
from softstair.learn.shape import Shape

SIDE = 16
COUNTS = (320, 384, 448, 512, 576, 640)
PATCHES = 300  # of a training picture
ROUNDS = 8
RATE_POINTS = 13
QUICK: dict[str, Any] = {
    "stem": 32,
    "middle": 80,
    "deep": 256,
    "analysis_inner": (24, 64, 128),
    "synthesis_inner": (32, 128, 320),
    "gated": True,
    "latents": 320,
    "detail": 64,
    "hyper": 96,
    "context": 64,
    "scale_hyper": 96,
}
WIDER = QUICK | {
    "stem": 40,
    "middle": 96,
    "deep": 288,
    "analysis_inner": (32, 80, 160),
    "synthesis_inner": (40, 160, 384),
    "latents": 384,
    "detail": 96,
    "context": 72,
}
SHAPES: dict[str, dict[str, Any]] = {
    "small": {"deep": 320, "latents": 448, "detail": 128},
    "photo-s": QUICK,
    "wider": WIDER,
    "three blocks at 1/8": WIDER
    | {"stem": 32, "deep": 320, "blocks": (1, 3, 1), "synthesis_inner": (32, 144, 384)},
    "two blocks at 1/4": WIDER | {"middle": 80, "blocks": (2, 2, 1), "synthesis_inner": (48, 128, 384)},
    "wider, 480 latents": WIDER | {"latents": 480, "detail": 192},
    "wider, 512 latents": WIDER | {"latents": 512, "detail": 224},
    "photo, no overlap": WIDER | {"stem": 48, "latents": 512, "detail": 224},
    "photo": WIDER | {"stem": 48, "latents": 512, "detail": 224, "overlap": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    bounding, timing = commands.add_parser("bound"), commands.add_parser("times")
    bounding.add_argument("--data-root", type=Path, required=True)
    timing.add_argument("shapes", nargs="*", metavar="SHAPE", default=list(SHAPES))
    arguments = parser.parse_args()
    print(bound(arguments.data_root) if arguments.command == "bound" else times(arguments.shapes))


def bound(data_root: Path) -> str:
    """A row a number of components: mean PSNR of the held-out pictures, and of the hardest."""
    training = load_pictures([data_root / "train/pack-00.tar"])
    held_out = load_pictures([data_root / "train/heldout.tar"])
    rng = np.random.default_rng(0)
    samples = np.concatenate([rng.permutation(patches(pixels))[:PATCHES] for pixels in training])
    mean, (_, vectors) = samples.mean(0), np.linalg.eigh(np.cov(samples.T))
    rows = []
    for count in COUNTS:
        lost = vectors[:, : vectors.shape[1] - count]  # eigenvalues rise
        errors = [np.square((patches(p) - mean) @ lost).sum(1).mean() / len(lost) for p in held_out]
        values = -10 * np.log10(errors)
        rows.append((count, f"{np.mean(values):.1f}", f"{np.min(values):.1f}"))
    return markdown_table(("latents", "mean PSNR", "hardest picture"), rows, words=0)


def patches(pixels: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Whole patches, float32 (N, 768), in [-0.5, 0.5]."""
    rows, columns = (side // SIDE for side in pixels.shape[:2])
    cut = pixels[: rows * SIDE, : columns * SIDE].astype(np.float32) / 255 - 0.5
    apart = cut.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return apart.reshape(rows * columns, -1)


def times(names: list[str]) -> str:
    """A row a shape: means, synthesis and analysis with one and two threads."""
    actions: dict[str, Callable[[], object]] = {"unit": convolution()}
    for name in names:
        for threads in (1, 2):
            made = parts(SHAPES[name], threads)
            actions |= {f"{name}: {part}, {threads}": action for part, action in made.items()}
    least = in_turn(actions, ROUNDS)
    one = least["unit"]
    heads = [f"{part}, {threads}" for part in ("means", "synthesis", "analysis") for threads in (1, 2)]
    taken = {name: [least[f"{name}: {head}"] for head in heads] for name in names}
    rows = ([name, *(f"{1e3 * s:.1f} ({s / one:.2f})" for s in seconds)] for name, seconds in taken.items())
    return markdown_table([f"shape; unit {1e3 * one:.1f} ms", *heads], rows)


def parts(settings: dict[str, Any], threads: int) -> dict[str, Callable[[], object]]:
    """What a picture of 768x512 pixels asks of the float networks of a shape."""
    shape = Shape(**settings, rate_points=RATE_POINTS)
    graphs = OnnxNetworks(export_graphs(Codec(shape).eval()).__getitem__, threads)
    rng, hat = np.random.default_rng(0), np.eye(RATE_POINTS, dtype=np.float32)[5:6]
    picture = rng.random((1, 3, 512, 768), np.float32)
    y = rng.standard_normal((1, shape.latents, 32, 48), np.float32)
    z = np.zeros((1, shape.hyper_latents, 16, 24), np.float32)

    def means() -> None:
        base = graphs.mean_base(z, hat)
        for phase in np.eye(4, dtype=np.float32):
            graphs.mean(y, base, phase[None])

    return {
        "means": means,
        "synthesis": lambda: graphs.synthesis(y, hat),
        "analysis": lambda: graphs.analysis(picture),
    }


if __name__ == "__main__":
    main()
