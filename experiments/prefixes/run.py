"""What the first bytes of a file show, as Markdown tables.

    python -m experiments.prefixes.run PHOTOGRAPH... --large PHOTOGRAPH > results/prefixes.md

A .stair file of quality 75 in the default mode is cut after some per cent of its bytes and decoded as far as
they reach; the large one, the middle of a photograph, in both orders of tiles. Beside it, a complete .stair
file of at most so many bytes, and a progressive JPEG and a progressive JPEG XL (cjxl -p, djxl
--allow_partial_files, where they are installed) of the size of the whole .stair file, cut at the same bytes.
Figures are means over the photographs; where some of them could not be opened, over those that could, which
are counted in brackets; - where none could be opened or made.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

import softstair
from softstair.errors import PartialPicture, SoftstairError
from softstair.evaluate import markdown_table, psnr, ssimulacra2
from softstair.evaluate.data import Pixels, read_rgb
from softstair.peers import Fitter, find_peers

SHARES = (3, 10, 25, 50, 75, 100)  # per cent
QUALITY = 75
LARGE = 3000, 4000  # rows and columns
CUT, BY_TILES, COMPLETE = "cut", "cut, tile after tile", "complete"
JPEG, JXL = "progressive JPEG, cut", "progressive JPEG XL, cut"
PROGRESSIVE = "cut, progressive order"
Found = dict[tuple[str, int], list[tuple[float, float]]]  # PSNR and SSIMULACRA 2 by name and share


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
            command = ["cjxl", "-p", "-d", f"{distance:.4f}", "-e", "6", "--num_threads=1", source, made]
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
        return softstair.decode(data, allow_partial=True, threads=1)


def shown(
    pixels: Pixels, files: dict[str, bytes], shares: Sequence[int]
) -> dict[tuple[str, int], Callable[[], Pixels]]:
    """What is compared, by name and share. files: of nearly equal size, to be cut; the last is matched."""
    matched = len([*files.values()][-1])
    jpeg = Fitter(*find_peers(["jpeg-420"]), pixels).below(matched).data
    jxl = progressive_jxl(pixels, matched) if shutil.which("cjxl") else b""
    ways: dict[tuple[str, int], Callable[[], Pixels]] = {}
    for share in shares:
        size = matched * share // 100
        for name, data in files.items():
            cut = data[: len(data) * share // 100]
            ways[name, share] = lambda cut=cut: decode_cut(cut)
        ways[COMPLETE, share] = lambda size=size: softstair.decode(
            softstair.encode(pixels, target_size=size, threads=1), threads=1
        )
        ways[JPEG, share] = lambda size=size: decode_jpeg(jpeg[:size])
        if jxl:
            ways[JXL, share] = lambda size=size: decode_jxl(jxl[:size])
    return ways


def measure(pixels: Pixels, files: dict[str, bytes], found: Found, shares: Sequence[int] = SHARES) -> None:
    """Add what judges say of all that is compared and can be opened."""
    for key, make in shown(pixels, files, shares).items():
        try:
            other = make()
        except (SoftstairError, OSError):
            continue
        found[key].append((psnr(pixels, other), ssimulacra2(pixels, other)))


def cell(values: Sequence[tuple[float, float]], count: int) -> str:
    if not values:
        return "-"
    mean = np.mean(values, axis=0)
    return f"{mean[0]:.2f} / {mean[1]:.1f}" + (f" ({len(values)})" if len(values) < count else "")


def table(found: Found, names: Iterable[str], count: int, shares: Sequence[int] = SHARES) -> str:
    columns = [*names, COMPLETE, JPEG, JXL]
    rows = [[str(share), *(cell(found[name, share], count) for name in columns)] for share in shares]
    return markdown_table(["% of the bytes", *columns], rows)


def bits(data: bytes, pixels: Pixels) -> float:
    return 8 * len(data) / pixels[..., 0].size


def middle(pixels: Pixels) -> Pixels:
    """The middle of a photograph, ``LARGE``."""
    top, left = ((side - wanted) // 2 for side, wanted in zip(pixels.shape, LARGE, strict=False))
    return np.ascontiguousarray(pixels[top : top + LARGE[0], left : left + LARGE[1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--large", type=Path, required=True, help="A photograph of 12 megapixels or more.")
    arguments = parser.parse_args()
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    found: Found = defaultdict(list)
    sizes, count = [], len(arguments.photographs)
    for path in arguments.photographs:
        pixels = read_rgb(path)
        data = softstair.encode(pixels, QUALITY, threads=1)
        sizes.append(bits(data, pixels))
        measure(pixels, {CUT: data}, found)
        sys.stderr.write(f"{path.name}\n")
    bundle = softstair.open_bundle()
    mode = bundle.manifest.encoding.mode
    print(
        f"# Prefixes\n\n`experiments/prefixes`, bundle {bundle.name}, quality {QUALITY}, mode {mode}: "
        "PSNR in dB / SSIMULACRA 2; in brackets how many could be opened, where not all could.\n"
    )
    print(f"{count} photographs of one tile, {np.mean(sizes):.2f} bits a pixel:\n")
    print(table(found, [CUT], count), flush=True)
    pixels = middle(read_rgb(arguments.large))
    files = {
        name: softstair.encode(pixels, QUALITY, progressive=name == PROGRESSIVE, threads=1)
        for name in (BY_TILES, PROGRESSIVE)
    }
    found = defaultdict(list)
    measure(pixels, files, found, SHARES[:-1])
    one, other = (f"{len(data):,}".replace(",", " ") for data in files.values())
    print(
        f"\nThe middle of {arguments.large.stem}, {LARGE[1]} x {LARGE[0]} pixels in several tiles, "
        f"{bits(files[PROGRESSIVE], pixels):.2f} bits a pixel; {one} bytes tile after tile, "
        f"{other} in progressive order:\n"
    )
    print(table(found, files, 1, SHARES[:-1]))


if __name__ == "__main__":
    main()
