"""What saving again and again costs, as Markdown.

    python -m experiments.again.run PHOTOGRAPH... [--times 50] [--quality 75] > results/again.md

Four ways: a picture that nobody changed, kept; a square of 64 pixels that is another each time, by
``encode --like``; the whole encoded anew each time; and the same with z of the first file held, which
tells what a trellis lacks to find its own symbols again. Pictures are cut to 384 x 256 pixels.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import softstair
import softstair.pillow
from softstair.codec import networks_of, position_of_quality
from softstair.codec.tile import TileCoder
from softstair.evaluate import psnr
from softstair.evaluate.data import Pixels, read_rgb
from softstair.mode import Mode

SIDE = 64  # of what is edited
AWAY = 64  # pixels around an edit that do not count as elsewhere
SHOWN = (1, 2, 5, 10, 20, 50)


def kept(pixels: Pixels, quality: float, times: int) -> bool:
    """Whether a file that is opened and saved with ``keep`` stays the same, byte for byte."""
    first = data = softstair.encode(pixels, quality)
    for _ in range(times):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(data)).save(buffer, "STAIR", quality=softstair.pillow.KEEP)
        data = buffer.getvalue()
    return data == first


def edited(pixels: Pixels, quality: float, times: int) -> tuple[list[float], list[float]]:
    """PSNR in dB away from the edits, and in what was edited, after each."""
    rng = np.random.default_rng(0)
    data = softstair.encode(pixels, quality)
    away = np.ones(pixels.shape[:2], bool)
    away[: 96 + SIDE + AWAY, : 96 + SIDE + AWAY] = False
    elsewhere = [psnr(pixels[None, away], softstair.decode(data)[None, away])]
    inside = []
    place = np.s_[96 : 96 + SIDE, 96 : 96 + SIDE]
    for _ in range(times):
        changed = softstair.decode(data)
        top, left = rng.integers(0, pixels.shape[0] - SIDE), rng.integers(0, pixels.shape[1] - SIDE)
        changed[place] = pixels[top : top + SIDE, left : left + SIDE]
        data = softstair.encode(changed, like=data)
        found = softstair.decode(data)
        elsewhere.append(psnr(pixels[None, away], found[None, away]))
        inside.append(psnr(changed[place], found[place]))
    return elsewhere, inside


def generations(
    pixels: Pixels, position: int, mode: Mode, times: int, *, holds_z: bool
) -> Iterator[tuple[float, float, float]]:
    """After each: PSNR in dB, and which shares of z and of y's symbols are others than before."""
    bundle = softstair.open_bundle()
    coder = TileCoder(bundle, networks_of(bundle, 1, mode), mode)
    now, last = pixels, None
    for _ in range(times):
        analysed = coder.analyse(now)
        z = coder.choose_z(analysed, position)
        if holds_z and last is not None:
            z = last[0]
        decided = coder.decide(coder.begin(analysed, position, z))
        now = coder.synthesise(
            decided.latents, analysed.geometry, position, bundle.smoothing_at(position, mode)
        )
        y = decided.tile.symbols
        flips = (
            (np.nan, np.nan) if last is None else (float(np.mean(z != last[0])), float(np.mean(y != last[1])))
        )
        last = z, y.copy()
        yield psnr(pixels, now), *flips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--quality", type=float, default=75)
    arguments = parser.parse_args()
    times, quality = arguments.times, arguments.quality
    pictures = [read_rgb(path)[:256, :384] for path in arguments.photographs]
    names = ", ".join(path.stem for path in arguments.photographs)
    bundle = softstair.open_bundle()
    print(
        f"# Saved again\n\n`experiments/again`, bundle {bundle.name}, quality {quality:g}: {names}, "
        "384x256 pixels of each.\n"
    )
    same = all(kept(pixels, quality, times) for pixels in pictures)
    print(f'- `quality="keep"`, {times} saves: {"the same bytes" if same else "OTHER BYTES"}.')
    rows = [edited(pixels, quality, times) for pixels in pictures]
    before, after = (np.mean([row[0][at] for row in rows]) for at in (0, -1))
    worst = min(row[0][-1] - row[0][0] for row in rows)
    print(
        f"- `--like`, {SIDE}x{SIDE} pixels edited {times} times: elsewhere (over {AWAY} pixels away) "
        f"{before:.2f} dB before and {after:.2f} after, at worst {worst:+.3f}; what was edited is shown at "
        f"{np.mean([row[1][0] for row in rows]):.2f} dB the first time, "
        f"{np.mean([row[1][-1] for row in rows]):.2f} the last."
    )
    shown = [at for at in SHOWN if at <= times]
    heads = " | ".join(f"{at}" for at in shown)
    print(
        "\nEncoded anew: dB after so many times; others of z and of y the second time.\n\n"
        f"| | {heads} | others |"
    )
    print(f"|---|{'--:|' * (len(shown) + 1)}", flush=True)
    position = position_of_quality(quality, bundle.last_position)
    for mode in (Mode.TCQ512, Mode.RDOQ):
        for holds in (False, True):
            found = np.array([list(generations(p, position, mode, times, holds_z=holds)) for p in pictures])
            means = found.mean(axis=0)
            cells = " | ".join(f"{means[at - 1, 0]:.2f}" for at in shown)
            others = f"{100 * means[1, 1]:.1f} %, {100 * means[1, 2]:.1f} %"
            print(f"| {mode}{', z held' if holds else ''} | {cells} | {others} |", flush=True)


if __name__ == "__main__":
    main()
