"""Which quality looks as good as JPEG's 85 and 90, and AVIF's 70: held-out pictures, real bytes, judges.

python -m experiments.quality.run BUNDLE --data-root DATA -o ROWS.json
python -m experiments.quality.run --table ROWS.json
"""

from __future__ import annotations

import argparse

import numpy as np
from experiments.harness import Row, asked, write_rows
from experiments.judging import HELD_OUT, JUDGES, LONGEST

from softstair.evaluate import markdown_table, softstair_codec
from softstair.learn.data import load_pictures
from softstair.peers import Codec, find_peers

OURS, POSITIONS_A_QUALITY = (50, 60, 70, 80, 90), 1.6
THEIRS = (("jpeg-420", 85), ("jpeg-420", 90), ("avif-420", 70))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="photo")
    arguments = asked(parser, table)
    own = softstair_codec(arguments.bundle, [round(POSITIONS_A_QUALITY * quality) for quality in OURS])
    codecs: list[tuple[Codec, str, float, float]] = [
        (own, "softstair", quality, round(POSITIONS_A_QUALITY * quality)) for quality in OURS
    ]
    for name, quality in THEIRS:
        (peer,) = find_peers([name])
        codecs.append((peer, name, quality, quality))
    rows: list[Row] = []
    for index, picture in enumerate(load_pictures([arguments.data_root / HELD_OUT])[1::2]):
        pixels = np.ascontiguousarray(picture[:LONGEST, :LONGEST])
        for codec, name, quality, knob in codecs:
            data = codec.encode(pixels, knob)
            decoded = codec.decode(data)
            marks = {judge: round(of(pixels, decoded), 5) for judge, of in JUDGES.items()}
            bpp = round(8 * len(data) / pixels[..., 0].size, 5)
            rows.append({"picture": index, "codec": name, "quality": quality, "bpp": bpp, **marks})
    write_rows(arguments.output, rows)


def table(rows: list[Row]) -> str:
    """Our quality that is as good as each of theirs, judge by judge; nothing where it lies outside."""
    judges = [name for name in JUDGES if name != "psnr"]
    cells = []
    for name, quality in THEIRS:
        found = []
        for judge in judges:
            values = [mean(rows, "softstair", own, judge) for own in OURS]
            wanted = mean(rows, name, quality, judge)
            inside = values[0] <= wanted <= values[-1]
            found.append(f"{np.interp(wanted, values, OURS):.0f}" if inside else "")
        cells.append([f"{name}, quality {quality}", f"{mean(rows, name, quality, 'bpp'):.2f}", *found])
    return markdown_table(["as good as", "bpp", *judges], cells)


def mean(rows: list[Row], codec: str, quality: float, value: str) -> float:
    return float(np.mean([r[value] for r in rows if (r["codec"], r["quality"]) == (codec, quality)]))


if __name__ == "__main__":
    main()
