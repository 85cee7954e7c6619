"""The pictures of docs/look.md: details of photographs by several codecs at the same sizes.

python docs/build/look.py --data-root DATA [--model BUNDLE] [-o FOLDER]

Every codec's file is real and was decoded again. Softstair's is the largest that meets the rate, the others'
the largest that are not larger than that. Sheets are WebP of quality 95, which adds nothing to be seen.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from softstair.bundle import Bundle, open_bundle
from softstair.codec import PictureEncoder, Rate, decode_picture
from softstair.errors import TargetOutOfReach
from softstair.evaluate.data import Pixels, read_rgb
from softstair.peers import Fitter, find_peers
from softstair.pictures import picture_from

RATES = (0.15, 0.3, 0.6)
PEERS = {"avif-420": "AVIF", "jxl-e7": "JPEG XL", "heic-420": "HEIC", "webp": "WebP"}
WIDTH, HEIGHT, BAND, COLUMNS = 232, 174, 18, 3


@dataclass(frozen=True)
class Detail:
    """A part of a photograph. left, top: of WIDTH x HEIGHT pixels of it."""

    name: str
    file: str
    left: int
    top: int


DETAILS = (
    Detail("sky", "photos768/p12_clic-7e499613.webp", 180, 90),
    Detail("skin", "photos768/p10_clic-2a2420f9.webp", 300, 250),
    Detail("foliage", "photos768/p24_impish-hans-jurgen-mager-indri.webp", 60, 200),
    Detail("sign", "photos768/p06_clic-0c49a5cc.webp", 110, 250),
    Detail("night", "large1200/l07_san-francisco-skyline.webp", 500, 480),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", help="by default the shipped bundle")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images/look"))
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for detail in DETAILS:
        pixels = read_rgb(arguments.data_root / detail.file)
        fitters = {
            title: Fitter(peer, pixels) for peer, title in zip(find_peers(PEERS), PEERS.values(), strict=True)
        }
        encoder = PictureEncoder(picture_from(pixels), bundle)
        for rate in RATES:
            panels = [("original", pixels), *coded(bundle, encoder, fitters, rate)]
            path = arguments.output / f"{detail.name}-{rate:g}.webp"
            path.write_bytes(sheet(detail, panels))
            print(f"{path}: {', '.join(title for title, _ in panels)}", flush=True)


def coded(
    bundle: Bundle, encoder: PictureEncoder, fitters: dict[str, Fitter], rate: float
) -> list[tuple[str, Pixels | None]]:
    """What every codec makes of a picture, with titles; None where it cannot be as small."""
    own = encoder.encode(encoder.position_for(Rate(target_bpp=rate))).data
    panels: list[tuple[str, Pixels | None]] = [(title("Softstair", own), decode_picture(own, bundle).rgb)]
    for name, fitter in fitters.items():
        try:
            data = fitter.below(len(own)).data
        except TargetOutOfReach:
            panels.append((f"{name}: not as small", None))
        else:
            panels.append((title(name, data), fitter.peer.decode(data)))
    return panels


def title(name: str, data: bytes) -> str:
    return f"{name}, {len(data) / 1000:.1f} kB"


def sheet(detail: Detail, panels: list[tuple[str, Pixels | None]]) -> bytes:
    """The detail of every picture, in rows."""
    rows = -(-len(panels) // COLUMNS)
    canvas = Image.new("RGB", (WIDTH * COLUMNS, (HEIGHT + BAND) * rows), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    box = np.s_[detail.top : detail.top + HEIGHT, detail.left : detail.left + WIDTH]
    for index, (text, pixels) in enumerate(panels):
        left, top = index % COLUMNS * WIDTH, index // COLUMNS * (HEIGHT + BAND)
        draw.text((left + 3, top + 1), text, "black", font)
        if pixels is not None:
            canvas.paste(Image.fromarray(pixels[box]), (left, top + BAND))
    buffer = io.BytesIO()
    canvas.save(buffer, "WEBP", quality=95, method=6)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
