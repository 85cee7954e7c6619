"""Fill in the figures of README.md and docs/results.md from results/.

python docs/build/figures.py [--check]

Everything between `<!-- figures: NAME -->` and `<!-- end -->` is written here and nowhere else.
`make figures DATA=...` measures all of it again first.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from softstair.errors import UsageError
from softstair.evaluate import Results, delta_rate, markdown_table, read_results
from softstair.evaluate.curve_files import (
    METRICS,
    Curve,
    Metric,
    curves_of,
    measured_metrics,
    published_beside,
)

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
RESULTS = ROOT / "results"
DEFAULT_MODE = "tcq512"
GRID_BPP = 0.3
DATA_SETS = ("kodak", "photos768", "large1200")
BESIDE_PHOTO_PSNR = ("jxl-e7", "heic-444", "avif-420", "avif-444", "avif-444-psnr")
NAMES = {
    "jpeg-420": "JPEG 4:2:0",
    "jpeg-444": "JPEG 4:4:4",
    "jpeg2000": "JPEG 2000",
    "webp": "WebP, method 6",
    "jxl-e7": "JPEG XL, effort 7",
    "heic-420": "HEIC 4:2:0 (x265)",
    "heic-444": "HEIC 4:4:4 (x265)",
    "avif-420": "AVIF 4:2:0, speed 6",
    "avif-444": "AVIF 4:4:4, speed 6",
    "avif-420-s2": "AVIF 4:2:0, speed 2",
    "avif-444-s2": "AVIF 4:4:4, speed 2",
    "avif-444-psnr": "AVIF 4:4:4, speed 6, tuned for PSNR",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if a page says anything else")
    arguments = parser.parse_args()
    for page in PAGES:
        text = page.read_text()
        filled = fill(text)
        if arguments.check and filled != text:
            sys.exit(f"{page.name} and results/ differ; run: python docs/build/figures.py")
        page.write_text(filled)


def photo_psnr() -> str:
    """What the bundle photo-psnr takes, in its default mode."""
    psnr = METRICS["psnr"]
    rows = []
    own = {name: own_curve(read_results(RESULTS / f"photo-psnr_{name}.json"), psnr) for name in DATA_SETS}
    others = {
        name: {curve.name: curve for curve in curves_of(read_results(RESULTS / f"{name}.json"), psnr)}
        for name in DATA_SETS
    }
    for peer in BESIDE_PHOTO_PSNR:
        pairs = [(others[name][peer], own[name]) for name in DATA_SETS]
        gains = (delta_rate(other.points, beside(mine, other)).pchip for other, mine in pairs)
        rows.append([NAMES[peer], *(f"{gain:+.1f} %" for gain in gains)])
    return markdown_table(["`photo-psnr` against", *DATA_SETS], rows)


def fill(text: str) -> str:
    """The text with all its blocks of figures as results/ has them."""
    kodak, plain = (read_results(RESULTS / f"{name}.json") for name in ("kodak", "photo-psnr_kodak"))
    blocks = {
        "eye": bits(METRICS["ssimulacra2"]),
        "psnr": bits(METRICS["psnr"]),
        "judges": judges(kodak),
        "grid": grid(kodak),
        "published": published(plain),
        "speed": speed(),
        "photo_psnr": photo_psnr(),
    }

    def block(match: re.Match[str]) -> str:
        return f"<!-- figures: {match[1]} -->\n\n{blocks[match[1]]}\n\n<!-- end -->"

    return re.sub(r"<!-- figures: (\w+) -->.*?<!-- end -->", block, text, flags=re.DOTALL)


def bits(metric: Metric) -> str:
    """Delta rates of the default mode against everything that was measured, by data set."""
    found = [read_results(RESULTS / f"{name}.json") for name in DATA_SETS]
    return markdown_table(["against", *DATA_SETS], _rows_of_peers([(results, metric) for results in found]))


def judges(results: Results) -> str:
    """Delta rates of the default mode by all other metrics, on one data set."""
    metrics = [metric for metric in measured_metrics(results) if metric.key not in ("ssimulacra2", "psnr")]
    heads = ["against", *(metric.label for metric in metrics)]
    return markdown_table(heads, _rows_of_peers([(results, metric) for metric in metrics]))


def grid(results: Results) -> str:
    """How far cells show, of every codec at the measured rate nearest to one."""
    rows = []
    for codec in results.codecs:
        means = [mean for mean in results.means if mean.codec == codec.name and mean.grid is not None]
        if means:
            one = min(means, key=lambda mean: abs(mean.bpp - GRID_BPP))
            rows.append((NAMES.get(codec.name, codec.name), f"{one.bpp:.2f}", f"{one.grid:.2f}"))
    return markdown_table(("codec", "bpp", "grid"), rows)


def _rows_of_peers(columns: Sequence[tuple[Results, Metric]]) -> Iterator[list[str]]:
    """A row a peer that was measured, a cell a column."""
    for peer, title in NAMES.items():
        cells = [delta(results, peer, metric) for results, metric in columns]
        if set(cells) != {"-"}:
            yield [title, *cells]


def delta(results: Results, peer: str, metric: Metric) -> str:
    """Delta rate of the default mode against a peer, in percent; "-" if there is none."""
    curves = {curve.name: curve.points for curve in curves_of(results, metric)}
    try:
        return f"{delta_rate(curves[peer], own_curve(results, metric).points).pchip:+.1f} %"
    except (UsageError, KeyError):
        return "-"


def published(results: Results) -> str:
    """Delta rates of the default mode against what others published."""
    own = own_curve(results, METRICS["psnr"])
    rows = []
    for curve in published_beside(own, METRICS["psnr"]):
        with suppress(UsageError):  # too little in common
            rows.append((curve.name, f"{delta_rate(curve.points, beside(own, curve)).pchip:+.1f} %"))
    return markdown_table(("published curve", "PSNR"), rows)


def beside(own: Curve, other: Curve) -> list[tuple[float, float]]:
    """Points of our curve in the range of another's values, and the next one on either side.

    A curve of low rates alone shares less than half of the range that ours has.
    """
    points, values = sorted(own.points), [value for _, value in other.points]
    inside = [i for i, (_, value) in enumerate(points) if min(values) <= value <= max(values)]
    return points[max(inside[0] - 1, 0) : inside[-1] + 2] if inside else []


def own_curve(results: Results, metric: Metric) -> Curve:
    """The curve of the default mode."""
    name = next(codec.name for codec in results.codecs if codec.mode == DEFAULT_MODE)
    return next(curve for curve in curves_of(results, metric) if curve.name == name)


def speed() -> str:
    """The table of the whole path, as benchmarks/path.py printed it."""
    lines = (RESULTS / "speed.md").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


if __name__ == "__main__":
    main()
