"""A network small enough to train and export inside a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace
from safetensors.numpy import load, save

from softstair.bundle import Bundle, to_json
from softstair.codec.budget import Plan
from softstair.codec.picture_coder import PictureCoder
from softstair.codec.workers import Workers
from softstair.mode import Mode
from softstair.pictures import picture_from
from softstair.stream import Colour, Header, Metadata, join_stream, pack_extras
from softstair.tiles import TileGrid

TINY_RECIPE = """
name = "tiny"
seed = 3
precision = "float32"

[data]
train = ["train"]
validation = ["train"]

[shape]
stem = 16
middle = 32
deep = 64
analysis_inner = [8, 8, 8]
synthesis_inner = [8, 8, 8]
blocks = [1, 1, 1]
latents = 64
hyper_latents = 16
hyper = 32
context = 16
scale_hyper = 16
scale = 16
rate_points = 11

[export]
crops = 3
mode = "tcq8"
modes = {{ scalar = {{}}, rdoq = {{ rate_weight = 0.04 }}, tcq8 = {{ step = 6, rate_weight = 0.04 }} }}

[finetune]
mode = "tcq8"
steps = 6
count = 3
side = 64
warm_up = 2
checkpoint_every = 2
measured_crops = 2
validate_every = 3

[derive]
steps = 4
crops = 6
count = 2
side = 64
checkpoint_every = 2

[pretrain]
steps = {steps}
decay_from = 4
fixed_from = {fixed_from}
warm_up = 2
validate_every = 1000
checkpoint_every = 2
batches = [{{ start = 0, count = 4, side = 64 }}, {{ start = 5, count = 2, side = 96 }}]
"""


def with_512_states(bundle: Bundle) -> Bundle:
    """A bundle with mode tcq512 besides, which has the steps and tables of tcq32."""
    staircases = json.loads(bundle.entries["staircases.json"])
    staircases["modes"]["tcq512"] = staircases["modes"]["tcq32"]
    tables = load(bundle.entries["tables.safetensors"])
    tables |= {f"y.tcq512.{part}": tables[f"y.tcq32.{part}"] for part in ("cdf", "offsets")}
    changed = {"staircases.json": json.dumps(staircases).encode(), "tables.safetensors": save(tables)}
    return Bundle({**bundle.entries, **changed}, bundle.origin)


def with_smoothing(bundle: Bundle, threshold: int = 12, of_grain: float = 1) -> Bundle:
    """A bundle whose encoders ask for smoothing, the same at all rates, less where there is grain."""
    smoothing = {"smoothing": [threshold] * bundle.points, "smoothing_of_grain": of_grain}
    encoding = replace(bundle.manifest.encoding, **smoothing)
    manifest = to_json(replace(bundle.manifest, encoding=encoding))
    return Bundle({**bundle.entries, "manifest.json": manifest}, bundle.origin)


def photograph(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Pixels with smooth parts, an edge and texture, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / 16.0
    phase = rng.uniform(0, 6, 3)
    pixels = 120 + 60 * np.sin(rows[..., None] * 0.7 + phase) * np.cos(columns[..., None] * 0.4 - phase)
    pixels += np.where(rows + columns * 0.5 > 3, 35, 0)[..., None]
    pixels += rng.normal(0, 6, (height, width, 1))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def screen(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A drawn picture: panels of few colours, and lines of small signs on them."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 250, np.uint8)
    for _ in range(4):
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        pixels[top : top + height // 2, left : left + width // 2] = rng.integers(0, 256, 3)
    signs = rng.random((30, 7, 5)) < 0.4
    for row in range(4, height - 8, 12):
        for column in range(4, width - 6, 7):
            ink = signs[rng.integers(30)]
            pixels[row : row + 7, column : column + 5][ink] = 20
    return pixels


def typescript(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A scan of a page: dark signs, not all as dark, on paper that has grain and a shade."""
    rng = np.random.default_rng(seed)
    paper = 225 - np.arange(width) / width * 20 + rng.normal(0, 2.5, (height, width))
    pixels = np.stack([paper, paper - 8, paper - 28], axis=2)
    signs = rng.random((30, 8, 5)) < 0.35
    for row in range(20, height - 20, 18):
        for column in range(24, width - 24, 7):
            ink = rng.choice(signs) * rng.uniform(0.5, 0.85)
            pixels[row : row + 8, column : column + 5] *= 1 - ink[..., None]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def smoothed_letters() -> npt.NDArray[np.uint8]:
    """White paper with letters whose edges have a thousand colours that nobody tells apart."""
    random = np.random.default_rng(5)
    pixels = np.full((160, 240, 3), 255, np.uint8)
    for _ in range(200):
        row, column = random.integers(0, 150), random.integers(0, 230)
        pixels[row : row + 9, column : column + 2] = 20
        pixels[row : row + 9, column + 2] = 150 + random.integers(0, 12, (9, 3))
    return pixels


def screen_with_photograph(
    height: int = 224,
    width: int = 320,
    rows: slice = slice(48, 176),
    columns: slice = slice(96, 256),
) -> tuple[npt.NDArray[np.uint8], tuple[slice, slice]]:
    """A drawn picture with a photograph in it, and where that is."""
    pixels = screen(height, width)
    pixels[rows, columns] = photograph(rows.stop - rows.start, columns.stop - columns.start, 4)
    return pixels, (rows, columns)


def with_staircases(bundle: Bundle, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Bundle:
    """The same bundle, every mode's staircase changed."""
    entries = dict(bundle.entries)
    staircases = json.loads(entries["staircases.json"])
    staircases["modes"] = {mode: change(staircase) for mode, staircase in staircases["modes"].items()}
    entries["staircases.json"] = json.dumps(staircases).encode()
    return Bundle(entries, "changed")


def encode_tiled(
    pixels: npt.NDArray[np.uint8],
    bundle: Bundle,
    position: int,
    *,
    layout: int,
    mode: str = "scalar",
    window: int = 8,
    workers: int = 1,
) -> bytes:
    """A stream with small tiles, which the encoder would not choose by itself."""
    picture = picture_from(pixels)
    height, width = pixels.shape[:2]
    grid = TileGrid(height, width, layout)
    plan = Plan(window, workers)
    shared = Workers(bundle, Mode(mode), workers, workers)
    coder = PictureCoder(
        picture, grid, shared, plan, lambda at: bundle.smoothing_at(at, Mode(mode)), keep=False
    )
    smoothing = bundle.smoothing_at(position, Mode(mode))
    header = Header(
        bundle.fingerprint, width, height, Colour.RGB, Mode(mode), position, layout, smoothing=smoothing
    )
    alpha = None if picture.alpha is None else picture.alpha.tobytes()
    return join_stream(header, coder.code(position).tiles, pack_extras(alpha, Metadata(), grid))


def write_data(root: Path, count: int = 4) -> None:
    """A folder ``train`` of small PNG pictures."""
    from PIL import Image

    (root / "train").mkdir(parents=True)
    for index in range(count):
        Image.fromarray(photograph(160, 192, index)).save(root / "train" / f"{index}.png")


def write_recipe(path: Path, steps: int = 12, fixed_from: int = 8) -> Path:
    path.write_text(TINY_RECIPE.format(steps=steps, fixed_from=fixed_from))
    return path
