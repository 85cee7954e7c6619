"""What a smoothing that stops at edges does to decoded pictures, by four judges.

python -m experiments.smoothing.run BUNDLE --data-root DATA [--set SET | --grain] -o ROWS.json
python -m experiments.smoothing.run --table experiments/smoothing/rows.json > results/smoothing.md

A pixel moves half-way to a mean of those within two pixels of it: by distance exp(-r^2 / 2.88), and less the
further their luma is from its own, to nothing at the threshold. Files of the bundle's own mode, which must
not ask for smoothing themselves.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from experiments.judging import HELD_OUT, JUDGES, even

from softstair.bundle import Bundle, open_bundle
from softstair.codec import decode_picture, encode_picture
from softstair.codec.encoder import Rate
from softstair.codec.grain import deviation_of_grain
from softstair.learn.data import load_pictures
from softstair.pictures import Picture

REACH, SHARE = 2, 0.5
SIDE = 512  # of a corner
LUMA = np.array([0.25, 0.5, 0.25], np.float32)
Pixels = npt.NDArray[np.uint8]
Row = list[float]  # picture, position, threshold, bits a pixel, and what every judge says


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=open_bundle, nargs="?")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--set", help="a folder of pictures below it, instead of those held out")
    parser.add_argument(
        "--grain", action="store_true", help="corners of training pictures that have it, instead"
    )
    parser.add_argument("--every", type=int, default=3, help="take every so many pictures")
    parser.add_argument("--positions", type=int, nargs="+", default=(24, 56, 88, 120, 150))
    parser.add_argument("--thresholds", type=float, nargs="+", default=(0.0, 4.0, 6.0, 8.0, 12.0))
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print("\n\n".join(table(*one) for one in json.loads(arguments.table.read_text()).items()))
        return
    if arguments.grain:
        name, pictures = "grain", grainy(arguments.data_root)
    else:
        name = arguments.set or "held out"
        pictures = [even(one) for one in load_pictures([arguments.data_root / (arguments.set or HELD_OUT)])]
    rows = [
        row
        for number, pixels in enumerate(pictures[:: arguments.every])
        for position in arguments.positions
        for row in judged(arguments.bundle, pixels, number, position, arguments.thresholds)
    ]
    known = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    known[f"{arguments.bundle.name}, {name}"] = rows
    arguments.output.write_text(json.dumps(known) + "\n")


def grainy(data_root: Path) -> list[Pixels]:
    """Corners of 512x512 of sixteen training pictures with 0.55 to 2 grey levels of grain."""
    pictures = load_pictures([data_root / f"train/pack-{number}.tar" for number in ("00", "01", "03", "05")])
    found = [one for one in pictures if min(one.shape[:2]) >= SIDE and 0.55 <= deviation_of_grain(one) <= 2]
    chosen = found[:: max(1, len(found) // 16)][:16]
    return [np.ascontiguousarray(one[:SIDE, :SIDE]) for one in chosen]


def judged(
    bundle: Bundle, pixels: Pixels, number: int, position: int, thresholds: tuple[float, ...]
) -> list[Row]:
    """A row a threshold."""
    data = encode_picture(Picture(pixels), Rate(position=position), bundle, threads=1).data
    decoded = decode_picture(data, bundle, threads=1).pixels
    bits = round(8 * len(data) / pixels[..., 0].size, 5)
    rows = []
    for threshold in thresholds:
        shown = smoothed(decoded, threshold)
        marks = [round(judge(pixels, shown), 5) for judge in JUDGES.values()]
        rows.append([number, position, threshold, bits, *marks])
    return rows


def smoothed(pixels: Pixels, threshold: float) -> Pixels:
    """Pixels (H, W, 3), smoothed; 0: as they are."""
    if threshold == 0:
        return pixels
    height, width = pixels.shape[:2]
    around = np.pad(pixels.astype(np.float32), ((REACH, REACH), (REACH, REACH), (0, 0)), "edge")
    luma = around @ LUMA
    own, own_luma = (planes[REACH:-REACH, REACH:-REACH] for planes in (around, luma))
    moved, weights = np.zeros_like(own), np.ones_like(own_luma)
    for y, x in np.ndindex(2 * REACH + 1, 2 * REACH + 1):
        if (y, x) == (REACH, REACH):
            continue
        near = np.exp(-((y - REACH) ** 2 + (x - REACH) ** 2) / 2.88)
        inside = np.s_[y : y + height, x : x + width]
        weight = near * np.maximum(1 - np.abs(luma[inside] - own_luma) / threshold, 0)
        moved += weight[..., None] * (around[inside] - own)
        weights += weight
    result: Pixels = np.clip(np.rint(own + SHARE * moved / weights[..., None]), 0, 255).astype(np.uint8)
    return result


def table(name: str, rows: list[Row]) -> str:
    """Bits that are saved by each judge: its gain by what bits buy of it there, means of pictures."""
    marks = {(int(n), at, threshold): np.array([bits, *of]) for n, at, threshold, bits, *of in rows}
    positions = sorted({at for _, at, _ in marks})
    saved = defaultdict(list)
    for (number, at, threshold), found in marks.items():
        index = min(positions.index(at), len(positions) - 2)
        low, high = (marks[number, one, 0] for one in positions[index : index + 2])
        slope = np.log(high[0] / low[0]) / (high[1:] - low[1:])
        saved[at, threshold].append(-100 * slope * (found[1:] - marks[number, at, 0][1:]))
    lines = [
        f"| {at} | {threshold:g} | " + " | ".join(f"{value:+.1f} %" for value in np.mean(values, 0)) + " |"
        for (at, threshold), values in sorted(saved.items())
        if threshold
    ]
    count = len({number for number, _, _ in marks})
    head = f"| position | threshold | {' | '.join(JUDGES)} |\n| --: | --: |{' --: |' * len(JUDGES)}"
    return f"{name}, {count} pictures:\n\n{head}\n" + "\n".join(lines)


if __name__ == "__main__":
    main()
