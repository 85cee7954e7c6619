"""Fill in the figures of README.md from results/.

python scripts/figures.py [--check]

Everything between `<!-- figures: NAME -->` and `<!-- end -->` is written here and nowhere else.
`make figures DATA=...` measures all of it again first.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from softstair.errors import UsageError
from softstair.evaluate import Results, delta_rate, read_results
from softstair.evaluate.curve_files import METRICS, curves_of

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "results"
DEFAULT_MODE = "tcq32"
NAMES = {
    "jpeg-420": "JPEG 4:2:0",
    "jpeg-444": "JPEG 4:4:4",
    "webp": "WebP, method 6",
    "jxl-e7": "JPEG XL, effort 7",
    "avif-420": "AVIF 4:2:0, speed 6",
    "avif-444": "AVIF 4:4:4, speed 6",
    "avif-444-psnr": "AVIF 4:4:4, speed 6, tuned for PSNR",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if README.md says anything else")
    arguments = parser.parse_args()
    text = README.read_text()
    filled = fill(text)
    if arguments.check and filled != text:
        sys.exit("README.md and results/ differ; run: python scripts/figures.py")
    README.write_text(filled)


def fill(text: str) -> str:
    """The text with all its blocks of figures as results/ has them."""
    blocks = {"bits": bits, "speed": speed}

    def block(match: re.Match[str]) -> str:
        return f"<!-- figures: {match[1]} -->\n\n{blocks[match[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- figures: (\w+) -->.*?<!-- end -->", block, text, flags=re.DOTALL)


def bits() -> str:
    """Delta rates of the default mode against everything that was measured."""
    results = read_results(RESULTS / "kodak.json")
    rows = ["| against | PSNR | MS-SSIM | SSIMULACRA 2 |", "| --- | --: | --: | --: |"]
    for key, name in NAMES.items():
        cells = [_delta(results, key, metric) for metric in METRICS.values()]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _delta(results: Results, peer: str, metric: object) -> str:
    curves = {curve.name: curve.points for curve in curves_of(results, metric)}
    own = next(codec.name for codec in results.codecs if codec.mode == DEFAULT_MODE)
    try:
        return f"{delta_rate(curves[peer], curves[own]).pchip:+.1f} %"
    except (UsageError, KeyError):
        return "-"


def speed() -> str:
    """The table of the whole path, as benchmarks/path.py printed it."""
    lines = (RESULTS / "speed.md").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


if __name__ == "__main__":
    main()
