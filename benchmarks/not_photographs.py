"""Screens, documents and renders, with exact tiles and without, as Markdown tables.

    python benchmarks/not_photographs.py DOMAINS [PHOTOGRAPH...]

DOMAINS is a folder with screens/test, documents/test and rendered/test. Each picture is coded by the
default bundle at three qualities: as if it were a photograph, which is what was done before there were
exact tiles, and as it is done now. Beside it: lossless WebP (method 4, quality 100) and AVIF (Pillow's
default: 4:2:0, speed 6), of every second quality the smallest file that is as good as ours. Three judges
say which that is, each for itself: PSNR, SSIMULACRA 2 and butteraugli (3-norm, which needs libjxl's
butteraugli_main). Where we are exact, none is but by luck. Ratios are of our bytes to the smaller of that
AVIF and WebP.

PHOTOGRAPHs are coded both ways in turn: bytes must be equal, and the time is the best of each.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from softstair.bundle import Bundle, open_bundle
from softstair.codec import PictureEncoder, Rate, decode_picture, encode_picture
from softstair.evaluate import find_judges, markdown_table, psnr, ssimulacra2
from softstair.evaluate.data import Pixels, read_rgb
from softstair.pictures import Picture

SETS = ("screens", "documents", "rendered")
QUALITIES = (50, 75, 90)
AVIF_QUALITIES = tuple(range(4, 101, 2))
TIMES = 5
# They say None of photographs.
_LOOKS = ("softstair.codec.encoder.look_at_cells", "softstair.codec.encoder.find_ink")
_OVER = 1.1

Judge = Callable[[Pixels, Pixels], float]  # of the picture and of what became of it; more is better


def less_butteraugli(reference: Pixels, other: Pixels) -> float:
    return -float(find_judges(["butteraugli"])[0].judge(reference, other, None)["butteraugli"])


JUDGES: dict[str, Judge] = {"PSNR": psnr, "SSIMULACRA 2": ssimulacra2, "butteraugli": less_butteraugli}


@dataclass(frozen=True)
class Row:
    """A picture at a quality.

    before, after: bytes. psnr_before: dB. marks: by judge. as_good: bytes of the smallest AVIF that a judge
    calls as good, by judge; infinite if none is. webp: bytes.
    """

    name: str
    quality: int
    before: int
    psnr_before: float
    after: int
    marks: dict[str, float]
    as_good: dict[str, float]
    webp: int

    @property
    def is_exact(self) -> bool:
        return bool(np.isinf(self.marks["PSNR"]))

    def smaller(self, judge: str) -> float:
        """Bytes of the AVIF that a judge calls as good, or of lossless WebP."""
        return min(self.as_good[judge], self.webp)

    def ratio(self, judge: str) -> float:
        return self.after / self.smaller(judge)


class Avifs:
    """AVIF files of a picture, each coded and judged once."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self._files: dict[int, tuple[int, Pixels]] = {}
        self._marks: dict[tuple[str, int], float] = {}

    def smallest(self, judge: str, mark: float) -> float:
        """Bytes of the smallest that has at least this mark; infinite if none has."""
        judge = "PSNR" if np.isinf(mark) else judge  # the quickest to see a difference
        low, high = 0, len(AVIF_QUALITIES)  # files below low are worse, those from high on are as good
        if self._mark(judge, AVIF_QUALITIES[-1]) < mark:
            return np.inf
        while low < high:
            middle = (low + high) // 2
            if self._mark(judge, AVIF_QUALITIES[middle]) >= mark:
                high = middle
            else:
                low = middle + 1
        return self._file(AVIF_QUALITIES[low])[0]

    def _mark(self, judge: str, quality: int) -> float:
        if (judge, quality) not in self._marks:
            self._marks[judge, quality] = JUDGES[judge](self._pixels, self._file(quality)[1])
        return self._marks[judge, quality]

    def _file(self, quality: int) -> tuple[int, Pixels]:
        if quality not in self._files:
            data = written(self._pixels, "AVIF", quality=quality)
            with Image.open(io.BytesIO(data)) as image:
                self._files[quality] = len(data), np.asarray(image.convert("RGB"))
        return self._files[quality]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("domains", type=Path)
    parser.add_argument("photographs", nargs="*", type=Path)
    parser.add_argument("--every", type=int, default=1, help="one of so many pictures")
    parser.add_argument("--model", help="another bundle than the default")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.model)
    found = {
        name: list(rows_of(sorted((arguments.domains / name / "test").iterdir())[:: arguments.every], bundle))
        for name in SETS
    }
    print(f"Bundle {bundle.name}, {bundle.fingerprint.hex()}.\n")
    print(table_of_sets(found))
    if arguments.photographs:
        print("\n| photograph | bytes before | bytes now | time now to before |\n| --- |" + " --: |" * 3)
        for path in arguments.photographs:
            print(photograph(path, bundle), flush=True)
    print("\n" + table_of_pictures([row for rows in found.values() for row in rows]))


def rows_of(paths: Sequence[Path], bundle: Bundle) -> Iterator[Row]:
    for path in paths:
        pixels = read_rgb(path)
        webp, avifs = len(written(pixels, "WEBP", lossless=True, method=4, quality=100)), Avifs(pixels)
        with as_photographs():
            before = at_qualities(pixels, bundle)
        for quality, old, new in zip(QUALITIES, before, at_qualities(pixels, bundle), strict=True):
            marks = marks_of(pixels, new[1])
            as_good = {name: avifs.smallest(name, mark) for name, mark in marks.items()}
            yield Row(path.stem, quality, old[0], psnr(pixels, old[1]), new[0], marks, as_good, webp)


@contextmanager
def as_photographs() -> Iterator[None]:
    """All pictures count as photographs."""
    with patch(_LOOKS[0], lambda pixels: None), patch(_LOOKS[1], lambda pixels: None):
        yield


def marks_of(pixels: Pixels, other: Pixels) -> dict[str, float]:
    """Marks by judge; infinite where nothing differs."""
    if np.array_equal(pixels, other):
        return dict.fromkeys(JUDGES, np.inf)
    return {name: judge(pixels, other) for name, judge in JUDGES.items()}


def at_qualities(pixels: Pixels, bundle: Bundle) -> list[tuple[int, Pixels]]:
    """Bytes at each quality, and what they decode to."""
    encoder = PictureEncoder(Picture(pixels), bundle, threads=1)
    files = [encoder.fit(Rate(quality)).data for quality in QUALITIES]
    return [(len(data), decode_picture(data, bundle, threads=1).pixels) for data in files]


def table_of_sets(found: dict[str, list[Row]]) -> str:
    """Sums of sets at qualities; by each judge the ratio of sums, the worst, and how many are over 1.10."""
    head = ["set", "quality", "bytes before", "dB", "bytes now", "exact", *(f"by {name}" for name in JUDGES)]
    lines = [
        summary(name, quality, [row for row in rows if row.quality == quality])
        for name, rows in found.items()
        for quality in QUALITIES
    ]
    return markdown_table(head, lines)


def summary(name: str, quality: int, rows: Sequence[Row]) -> list[object]:
    before, now = sum(row.before for row in rows), sum(row.after for row in rows)
    decibels = np.mean([row.psnr_before for row in rows])
    exact = sum(row.is_exact for row in rows)
    judged = [ratios_by(judge, rows) for judge in JUDGES]
    return [name, quality, before, f"{decibels:.1f}", now, f"{exact} of {len(rows)}", *judged]


def ratios_by(judge: str, rows: Sequence[Row]) -> str:
    ratios = [row.ratio(judge) for row in rows]
    of_sums = sum(row.after for row in rows) / sum(row.smaller(judge) for row in rows)
    return f"{of_sums:.2f}, {max(ratios):.2f}, {sum(ratio > _OVER for ratio in ratios)}"


def table_of_pictures(rows: Sequence[Row]) -> str:
    """All rows; AVIF and ratios by each judge who calls it as good."""
    head = ["picture", "quality", "bytes before", "dB", "bytes now", *JUDGES]
    head += [*(f"AVIF by {name}" for name in JUDGES), "lossless WebP", "ratios"]
    lines: list[list[object]] = []
    for row in rows:
        marks = ["exact"] * 3 if row.is_exact else [f"{abs(mark):.4g}" for mark in row.marks.values()]
        avifs = ["none" if np.isinf(size) else f"{size:.0f}" for size in row.as_good.values()]
        ratios = ", ".join(f"{row.ratio(judge):.2f}" for judge in JUDGES)
        cells = [row.name, row.quality, row.before, f"{row.psnr_before:.1f}", row.after]
        lines.append([*cells, *marks, *avifs, row.webp, ratios])
    return markdown_table(head, lines)


def photograph(path: Path, bundle: Bundle) -> str:
    picture, best, sizes = Picture(read_rgb(path)), {True: np.inf, False: np.inf}, {}
    for _ in range(TIMES):
        for exact in (True, False):
            with nullcontext() if exact else as_photographs():
                start = time.process_time()
                sizes[exact] = len(encode_picture(picture, Rate(75), bundle, threads=1).data)
                best[exact] = min(best[exact], time.process_time() - start)
    return f"| {path.stem} | {sizes[False]} | {sizes[True]} | {best[True] / best[False]:.3f} |"


def written(pixels: Pixels, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
