"""Two bundles that differ in their synthesis alone: PSNR of held-out pictures at equal bytes, as Markdown.

python -m experiments.narrow.run BEFORE AFTER HELD_OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import softstair
from softstair.bundle import Bundle
from softstair.evaluate.complexity import complexity_of
from softstair.learn.data import Pixels, load_pictures

PAGE = Path(__file__).parents[2] / "results" / "narrow.md"
POSITIONS = (8, 24, 40, 72, 96, 120, 144, 168, 184)


def main(before: str, after: str, held_out: str) -> None:
    bundles = [softstair.open_bundle(source) for source in (before, after)]
    pictures = load_pictures([Path(held_out)])
    PAGE.write_text("\n".join(lines(bundles, pictures)) + "\n")


def lines(bundles: list[Bundle], pictures: list[Pixels]) -> list[str]:
    names = [f"{bundle.name} {bundle.fingerprint.hex()}" for bundle in bundles]
    costs = [complexity_of(bundle, bundle.name).decoder_kmac for bundle in bundles]
    made = [
        "# Narrower blocks\n",
        f"Mean PSNR, dB, of {len(pictures)} held-out pictures in files of the default mode, which differ",
        "in the fingerprint alone. Written by `python -m experiments.narrow.run`.\n",
        f"| rate position | bytes | {names[0]} | {names[1]} | difference |",
        "| --- | --: | --: | --: | --: |",
        f"| kMAC a pixel | | {costs[0]:.1f} | {costs[1]:.1f} | |",
    ]
    for position in POSITIONS:
        (size, old), (other, new) = (measured(bundle, pictures, position) for bundle in bundles)
        if size != other:
            raise SystemExit(f"{names[1]} differs in more than its synthesis: {size} and {other} bytes.")
        made.append(f"| {position} | {size} | {old:.3f} | {new:.3f} | {new - old:+.3f} |")
    return made


def measured(bundle: Bundle, pictures: list[Pixels], position: int) -> tuple[int, float]:
    """Bytes of all files, and the mean of their PSNR in dB."""
    files = [softstair.encode(one, rate_position=position, bundle=bundle) for one in pictures]
    errors = [
        np.square(softstair.decode(data, bundle=bundle).astype(float) - one).mean()
        for data, one in zip(files, pictures, strict=True)
    ]
    return sum(map(len, files)), float(np.mean(10 * np.log10(255**2 / np.array(errors))))


if __name__ == "__main__":
    main(*sys.argv[1:])
