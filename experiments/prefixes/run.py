"""What the first bytes of a file show, as Markdown tables.

    python -m experiments.prefixes.run PHOTOGRAPH... [--quality 75] [--effort 5] > results/prefixes.md

A .stair file, in progressive order where it has several tiles, is cut after some per cent of its bytes and
decoded as far as they reach; beside it, a complete .stair file of at most so many bytes, a progressive JPEG,
and a progressive JPEG XL (cjxl -p, djxl --allow_partial_files, where they are installed) of the size of the
whole .stair file, cut at the same bytes. Figures are means over the photographs; - where one of them could
not be opened or made.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

import softstair
from softstair.errors import PartialPicture, SoftstairError
from softstair.evaluate import psnr, ssimulacra2
from softstair.evaluate.data import Pixels, read_rgb
from softstair.peers import Fitter, find_peers

SHARES = (3, 10, 25, 50, 75, 100)  # per cent


def decode_jpeg(data: bytes) -> Pixels:
    """What Pillow shows of a JPEG that may be cut."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def progressive_jxl(pixels: Pixels, size: int) -> bytes:
    """The finest progressive JPEG XL of at most ``size`` bytes, to a fiftieth of the distance."""
    best, low, high = b"", 0.3, 12.0
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "source.png", Path(folder) / "made.jxl"
        Image.fromarray(pixels).save(source)
        while high / low > 1.02:
            distance = (low * high) ** 0.5
            command = ["cjxl", "-p", "-d", f"{distance:.4f}", "-e", "6", source, made]
            subprocess.run(command, check=True, capture_output=True)
            data = made.read_bytes()
            if len(data) <= size:
                best, high = data, distance
            else:
                low = distance
    return best


def decode_jxl(data: bytes) -> Pixels:
    """What djxl shows of a JPEG XL that may be cut."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "source.jxl", Path(folder) / "made.png"
        source.write_bytes(data)
        command = ["djxl", "--allow_partial_files", source, made]
        if subprocess.run(command, check=False, capture_output=True).returncode or not made.exists():
            raise OSError("djxl shows nothing")
        return decode_jpeg(made.read_bytes())


def decode_cut(data: bytes) -> Pixels:
    """What Softstair shows of a file that may be cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PartialPicture)
        return softstair.decode(data, allow_partial=True)


def shown(pixels: Pixels, quality: float, effort: int) -> dict[tuple[str, int], Callable[[], Pixels]]:
    """What is compared, by name and share."""
    data = softstair.encode(pixels, quality, effort=effort, progressive=True)
    jpeg = Fitter(*find_peers(["jpeg-420"]), pixels).below(len(data)).data
    jxl = progressive_jxl(pixels, len(data)) if shutil.which("cjxl") else b""
    ways: dict[tuple[str, int], Callable[[], Pixels]] = {}
    for share in SHARES:
        size = len(data) * share // 100
        ways["cut", share] = lambda size=size: decode_cut(data[:size])
        ways["complete", share] = lambda size=size: softstair.decode(
            softstair.encode(pixels, target_size=size, effort=effort)
        )
        ways["progressive JPEG, cut", share] = lambda size=size: decode_jpeg(jpeg[:size])
        if jxl:
            ways["progressive JPEG XL, cut", share] = lambda size=size: decode_jxl(jxl[:size])
    return ways


def orders(pixels: Pixels, quality: float) -> None:
    """Print what both orders of a picture in several tiles show, PSNR in dB; mode scalar."""
    files = [softstair.encode(pixels, quality, effort=1, progressive=order) for order in (False, True)]
    print(f"\nOrder of a picture in several tiles: {pixels.shape[1]}x{pixels.shape[0]} pixels, ", end="")
    print(f"quality {quality:g}, mode scalar, PSNR in dB. {len(files[0])} and {len(files[1])} bytes.\n")
    print("| % of the bytes | tile after tile | progressive order |\n|--:|--:|--:|")
    for share in SHARES[1:-1]:
        found = [psnr(pixels, decode_cut(data[: len(data) * share // 100])) for data in files]
        print(f"| {share} | {found[0]:.2f} | {found[1]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--quality", type=float, default=75)
    parser.add_argument("--effort", type=int, default=5)
    parser.add_argument("--large", type=Path, help="Photograph of several tiles, to compare their orders.")
    arguments = parser.parse_args()
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for path in arguments.photographs:
        pixels = read_rgb(path)
        for key, make in shown(pixels, arguments.quality, arguments.effort).items():
            try:
                other = make()
            except (SoftstairError, OSError):
                continue
            found[key].append((psnr(pixels, other), ssimulacra2(pixels, other)))
    count = len(arguments.photographs)
    names = ("cut", "complete", "progressive JPEG, cut", "progressive JPEG XL, cut")
    print(
        f"# Prefixes\n\n`experiments/prefixes`, quality {arguments.quality:g}, effort {arguments.effort}, ",
        end="",
    )
    print(f"{', '.join(path.stem for path in arguments.photographs)}: PSNR in dB / SSIMULACRA 2.\n")
    print(f"| % of the bytes | {' | '.join(names)} |\n|--:|{'--:|' * len(names)}")
    for share in SHARES:
        cells = []
        for name in names:
            values = found[name, share]
            mean = np.mean(values, axis=0) if len(values) == count else None
            cells.append("-" if mean is None else f"{mean[0]:.2f} / {mean[1]:.1f}")
        print(f"| {share} | {' | '.join(cells)} |")
    if arguments.large is not None:
        orders(read_rgb(arguments.large)[500:2036, :3072], 60)


if __name__ == "__main__":
    main()
