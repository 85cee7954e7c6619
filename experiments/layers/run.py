"""What a file in layers costs, as Markdown tables, from the bytes of files.

    python -m experiments.layers.run NAME FOLDER [--bundle photo] [--last 116] >> results/layers.md

Every photograph becomes a file of three layers. Behind each it is cut, decoded and compared: with files of
their own in the modes rdoq and tcq32 of equal quality, between those of rate positions 16 apart; with
simulcast, all tcq32 files up to that quality; and with a progressive JPEG XL (cjxl -p) of the size of the
whole file, cut at the same bytes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

import softstair
from softstair.codec import PictureEncoder
from softstair.evaluate import markdown_table
from softstair.evaluate.data import read_rgb
from softstair.evaluate.metrics import psnr, ssimulacra2
from softstair.pictures import Picture

from ..prefixes.run import decode_jxl, progressive_jxl

Pixels = npt.NDArray[np.uint8]
JUDGES: dict[str, Callable[[Pixels, Pixels], float]] = {"PSNR": psnr, "SSIMULACRA 2": ssimulacra2}
MODES, LAYERS, APART, MARGIN = ("rdoq", "tcq32"), 3, 16, 32


def judged(pixels: Pixels, decoded: Pixels) -> list[float]:
    """What every judge says."""
    return [judge(pixels, decoded) for judge in JUDGES.values()]


def alone(pixels: Pixels, bundle: softstair.Bundle, mode: str, positions: range) -> npt.NDArray[np.float64]:
    """Files of their own: a row a position, bytes and what every judge says."""
    encoder, rows = PictureEncoder(Picture(pixels), bundle, mode=mode, threads=1), []
    for position in positions:
        data = encoder.encode(position).data
        rows.append([len(data), *judged(pixels, softstair.decode(data, bundle=bundle, threads=1))])
    return np.array(rows, np.float64)


def bytes_at(curve: npt.NDArray[np.float64], judge: int, marks: list[float]) -> npt.NDArray[np.float64]:
    """Bytes that a file of its own takes to be as good."""
    return np.exp(PchipInterpolator(curve[:, 1 + judge], np.log(curve[:, 0]))(marks))


def measured(pixels: Pixels, bundle: softstair.Bundle, last: int) -> dict[str, npt.NDArray[np.float64]]:
    """Of every cut: bits a pixel, logarithms of bytes over those of others, and what judges say of both."""
    data = softstair.encode(pixels, rate_position=last, layers=LAYERS, bundle=bundle, threads=1)
    cuts = [softstair.truncate(data, layers=layer + 1) for layer in range(LAYERS)]
    decoded = [softstair.decode(cut, bundle=bundle, threads=1) for cut in cuts]
    marks = np.array([judged(pixels, one) for one in decoded])
    sizes = np.array([len(cut) for cut in cuts], np.float64)
    found = {"bpp": 8 * sizes / (pixels.shape[0] * pixels.shape[1])}
    first = last - 32 * (LAYERS - 1)
    curves = {mode: alone(pixels, bundle, mode, range(first - MARGIN, last + APART, APART)) for mode in MODES}
    for judge, name in enumerate(JUDGES):
        found[name] = marks[:, judge]
        for mode in MODES:
            own = bytes_at(curves[mode], judge, marks[:, judge].tolist())
            found[f"{mode} {name}"] = np.log(sizes / own)
        found[f"simulcast {name}"] = np.log(sizes / np.cumsum(own))
    if shutil.which("cjxl"):
        jxl = progressive_jxl(pixels, len(data))
        for name in JUDGES:
            found[f"JPEG XL {name}"] = np.full(LAYERS, np.nan)
        for layer, cut in enumerate(cuts):
            try:
                shown = judged(pixels, decode_jxl(jxl[: len(cut)]))
            except OSError:
                continue
            for judge, name in enumerate(JUDGES):
                found[f"JPEG XL {name}"][layer] = shown[judge]
    return found


def tables(title: str, found: list[dict[str, npt.NDArray[np.float64]]]) -> str:
    """Means over photographs; ratios are geometric ones."""
    mean = {key: np.nanmean([one[key] for one in found], axis=0) for key in found[0]}
    lines = [f"## {title}", ""]
    for name in JUDGES:
        lines += [f"At equal {name}, {len(found)} photographs:", ""]
        jxl = f"JPEG XL {name}" in mean
        heads = ["cut", "bits a pixel", *(f"against {mode}" for mode in MODES), "against simulcast", name]
        rows = []
        for layer in range(LAYERS):
            ratios = [100 * np.expm1(mean[f"{of} {name}"][layer]) for of in (*MODES, "simulcast")]
            cells = [str(layer + 1), f"{mean['bpp'][layer]:.3f}", *(f"{ratio:+.1f} %" for ratio in ratios)]
            cells += [f"{mean[name][layer]:.2f}"] + ([f"{mean[f'JPEG XL {name}'][layer]:.2f}"] if jxl else [])
            rows.append(cells)
        lines += [markdown_table([*heads, *(["JPEG XL of so many bytes"] if jxl else [])], rows), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", default="photo")
    parser.add_argument("--last", type=int, default=116, help="rate position of the last layer")
    parser.add_argument("--count", type=int, help="measure only so many photographs")
    arguments = parser.parse_args()
    bundle, found = softstair.open_bundle(arguments.bundle), []
    paths = sorted(p for p in arguments.folder.iterdir() if p.suffix in (".png", ".webp"))
    for path in paths[: arguments.count]:
        found.append(measured(read_rgb(path), bundle, arguments.last))
        sys.stderr.write(f"{path.name}\n")
    print(tables(f"{arguments.name}, bundle {arguments.bundle}, last layer at {arguments.last}", found))


if __name__ == "__main__":
    main()
