"""The picture of the README: one detail of a photograph at the same size in four formats.

python docs/build/comparison.py PHOTO OUT.png [--quality 30] [--crop X,Y,W,H] [--zoom 3]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import softstair
from softstair.evaluate import psnr
from softstair.evaluate.data import read_rgb
from softstair.peers import Fitter, find_peers

BAND = 22


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quality", type=float, default=30)
    parser.add_argument("--crop", default="150,60,220,150")
    parser.add_argument("--zoom", type=int, default=2)
    arguments = parser.parse_args()
    left, top, width, height = map(int, arguments.crop.split(","))
    original = read_rgb(arguments.photo)
    data = softstair.encode(original, quality=arguments.quality)
    panels = [("original", None, original), ("softstair", len(data), softstair.decode(data))]
    for peer in find_peers(("avif-420", "webp", "jpeg-420")):
        found = Fitter(peer, original).below(len(data)).data
        panels.append((peer.name.removesuffix("-420"), len(found), peer.decode(found)))
    size = (width * arguments.zoom, height * arguments.zoom)
    sheet = Image.new("RGB", (size[0] * len(panels), size[1] + BAND), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for index, (name, count, pixels) in enumerate(panels):
        detail = Image.fromarray(pixels).crop((left, top, left + width, top + height))
        sheet.paste(detail.resize(size, Image.Resampling.BICUBIC), (index * size[0], BAND))
        draw.text((index * size[0] + 6, 2), label(name, count, original, pixels), "black", font)
    sheet.save(arguments.out, "PNG", optimize=True)


def label(name: str, count: int | None, original: np.ndarray, pixels: np.ndarray) -> str:
    if count is None:
        return name
    return f"{name}  {count / 1000:.1f} kB  {psnr(original, pixels):.1f} dB"


if __name__ == "__main__":
    main()
