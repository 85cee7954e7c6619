"""What the first bytes of a file show, as Markdown tables.

    python benchmarks/prefixes.py PHOTOGRAPH... [--quality 75] > results/prefixes.md

A .stair file is cut after some per cent of its bytes and decoded as far as they reach; beside it, a
complete .stair file of at most so many bytes, and a progressive JPEG of the size of the whole .stair file,
cut at the same bytes. JPEG XL is not among them: imagecodecs cannot write it progressively. Figures are
means over the photographs; - where one of them could not be opened or made.
"""

from __future__ import annotations

import argparse
import io
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

import softstair
from softstair.errors import PartialPicture, SoftstairError
from softstair.evaluate.metrics import psnr, ssimulacra2

Pixels = npt.NDArray[np.uint8]
SHARES = (3, 10, 25, 50, 75, 100)  # per cent


def progressive_jpeg(pixels: Pixels, size: int) -> bytes:
    """The finest progressive JPEG of at most ``size`` bytes."""
    best = b""
    low, high = 1, 95
    while low <= high:
        quality = (low + high) // 2
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, progressive=True, optimize=True)
        if len(buffer.getvalue()) <= size:
            best, low = buffer.getvalue(), quality + 1
        else:
            high = quality - 1
    return best


def decode_jpeg(data: bytes) -> Pixels:
    """What Pillow shows of a JPEG that may be cut."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def decode_cut(data: bytes) -> Pixels:
    """What Softstair shows of a file that may be cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PartialPicture)
        return softstair.decode(data, allow_partial=True)


def shown(pixels: Pixels, quality: float) -> dict[tuple[str, int], Callable[[], Pixels]]:
    """What is compared, by name and share."""
    data = softstair.encode(pixels, quality)
    jpeg = progressive_jpeg(pixels, len(data))
    ways: dict[tuple[str, int], Callable[[], Pixels]] = {}
    for share in SHARES:
        size = len(data) * share // 100
        ways["cut", share] = lambda size=size: decode_cut(data[:size])
        ways["complete", share] = lambda size=size: softstair.decode(
            softstair.encode(pixels, target_size=size)
        )
        ways["progressive JPEG, cut", share] = lambda size=size: decode_jpeg(jpeg[:size])
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--quality", type=float, default=75)
    arguments = parser.parse_args()
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for path in arguments.photographs:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        for key, make in shown(pixels, arguments.quality).items():
            try:
                other = make()
            except (SoftstairError, OSError):
                continue
            found[key].append((psnr(pixels, other), ssimulacra2(pixels, other)))
    count = len(arguments.photographs)
    names = ("cut", "complete", "progressive JPEG, cut")
    print(f"# Prefixes\n\n`benchmarks/prefixes.py`, quality {arguments.quality:g}, ", end="")
    print(f"{', '.join(path.stem for path in arguments.photographs)}: PSNR in dB / SSIMULACRA 2.\n")
    print(f"| % of the bytes | {' | '.join(names)} |\n|--:|{'--:|' * len(names)}")
    for share in SHARES:
        cells = []
        for name in names:
            values = found[name, share]
            mean = np.mean(values, axis=0) if len(values) == count else None
            cells.append("-" if mean is None else f"{mean[0]:.2f} / {mean[1]:.1f}")
        print(f"| {share} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
