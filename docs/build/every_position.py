"""Whether one network serves every rate: all positions of a bundle, and targets between them.

    python docs/build/every_position.py DATASET --data-root DATA [--model BUNDLE] [--mode MODE] [--pictures N]

Prints three things, from bytes of files: whether files grow with every position on every picture; how far
the mean PSNR of positions between rate points is from the curve through the rate points; and how near
files come to sizes that are asked for, never above. Files of some positions are decoded each by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

import softstair
from softstair.bundle import open_bundle
from softstair.codec.encoder import PictureEncoder, Rate
from softstair.errors import TargetOutOfReach
from softstair.evaluate import find_data_set, markdown_table, psnr
from softstair.evaluate.data import read_rgb
from softstair.pictures import Picture
from softstair.quantize.rates import POSITIONS_PER_POINT

TARGETS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5)  # bits a pixel
BETWEEN = 4  # positions apart are those that are decoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data_set")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", help="the shipped bundle by default")
    parser.add_argument("--mode", help="the bundle's own by default")
    parser.add_argument("--pictures", type=int, help="only the first so many, for a rehearsal")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.model)
    mode = arguments.mode or bundle.manifest.encoding.mode
    positions = range(bundle.last_position + 1)
    decoded = positions[::BETWEEN]
    paths = find_data_set(arguments.data_root / arguments.data_set).paths[: arguments.pictures]
    sizes = np.zeros((len(paths), len(positions)))
    quality = np.zeros((len(paths), len(decoded)))
    shares: dict[float, list[float]] = {target: [] for target in TARGETS}
    for index, path in enumerate(paths):
        pixels = read_rgb(path)
        area = pixels.shape[0] * pixels.shape[1]
        encoder = PictureEncoder(Picture(pixels), bundle, mode=mode)
        for position in positions:
            data = encoder.encode(position).data
            sizes[index, position] = 8 * len(data) / area
            if position in decoded:
                shown = softstair.decode(data, bundle=bundle)
                quality[index, decoded.index(position)] = psnr(pixels, shown)
        for target in TARGETS:
            try:
                found = encoder.fit(Rate(target_bpp=target)).data
            except TargetOutOfReach:
                continue
            if sizes[index, -1] >= target:
                shares[target].append(len(found) / int(target * area / 8))
    report(sizes, quality, shares, f"{len(paths)} pictures of {arguments.data_set}, mode {mode}")


def report(sizes: np.ndarray, quality: np.ndarray, shares: dict[float, list[float]], title: str) -> None:
    """Print the findings. sizes: bpp, (pictures, positions). quality: dB, (pictures, decoded)."""
    growth = np.diff(sizes, axis=1) / sizes[:, :-1]
    print(f"{title}, bundle positions 0 to {sizes.shape[1] - 1}.\n")
    print(
        f"Files grow at {np.count_nonzero(growth > 0)} of {growth.size} steps from one position to the next, "
        f"by {100 * growth.mean():.2f} % on average, {100 * growth.min():.2f} % at least.\n"
    )
    bpp, decibels = sizes.mean(0)[::BETWEEN], quality.mean(0)
    trained = np.arange(len(bpp)) % (POSITIONS_PER_POINT // BETWEEN) == 0
    curve = PchipInterpolator(np.log(bpp[trained]), decibels[trained])
    off = decibels[~trained] - curve(np.log(bpp[~trained]))
    print(
        f"PSNR of {len(off)} positions between rate points against the curve through {trained.sum()} rate "
        f"points: {off.mean():+.4f} dB on average, {off.min():+.4f} to {off.max():+.4f} dB.\n"
    )
    heads = ("bits a pixel asked for", "pictures", "share of it taken, least", "mean", "most")
    rows = (
        (
            f"{target:g}",
            len(taken),
            *(f"{100 * value:.2f} %" for value in (min(taken), np.mean(taken), max(taken))),
        )
        for target, taken in shares.items()
        if taken
    )
    print(markdown_table(heads, rows, words=0))


if __name__ == "__main__":
    main()
