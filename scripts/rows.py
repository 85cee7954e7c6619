"""What scripts measure on a data set: files, coded and decoded, and rows that a run goes on from."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle
from softstair.codec import decode_picture
from softstair.codec.tile import Analysed, Decide, TileCoder
from softstair.evaluate import DataSet, hash_pixels, ms_ssim, psnr
from softstair.stream import Colour, Header, Stream, write_stream


def ms_ssim_db(reference: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    return float(-10 * np.log10(1 - ms_ssim(reference, other)))


METRICS = {"psnr": psnr, "ms_ssim": ms_ssim_db}


def measure_file(
    coder: TileCoder,
    analysed: Analysed,
    pixels: npt.NDArray[np.uint8],
    position: int,
    bundle: Bundle,
    decide: Decide | None = None,
    metric: str = "psnr",
) -> dict[str, float]:
    """Bits a pixel of one file, and its quality read back; the analysis serves many.

    metric: one of ``METRICS``, in dB.
    """
    height, width = pixels.shape[:2]
    payload = coder.code(analysed, position, decide).payload
    header = Header(bundle.fingerprint, width, height, Colour.RGB, coder.mode, position)
    data = write_stream(Stream(header, (payload,)))
    decoded = decode_picture(data, bundle, threads=1).rgb
    value = METRICS[metric](pixels, decoded)
    return {"bpp": round(8 * len(data) / (height * width), 5), metric: round(value, 4)}


def mean_curves(rows: list[dict[str, Any]], *keys: str) -> dict[tuple[str, ...], list[tuple[float, float]]]:
    """Mean bits a pixel and PSNR over pictures by what ``keys`` name, along rate positions."""
    points = defaultdict(list)
    for row in rows:
        points[tuple(row[key] for key in keys), row["position"]].append((row["bpp"], row["psnr"]))
    curves = defaultdict(list)
    for (name, _), values in sorted(points.items()):
        curves[name].append(tuple(map(float, np.mean(values, axis=0))))
    return dict(curves)


class Rows:
    """Measured rows of a file.

    Args:
        path: of the file. Rows of other pictures, or of what ``made_of`` did not name, are forgotten.
        made_of: what else decides the rows.
    """

    def __init__(self, path: Path, data_set: DataSet, made_of: dict[str, str] | None = None) -> None:
        self._path = path
        self._head = {"data_set": data_set.name, "data_hash": hash_pixels(data_set), **(made_of or {})}
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            before = json.loads(path.read_text())
            rows = before.pop("rows")
            if before == self._head:
                self.rows = rows

    def save(self) -> None:
        """Write all rows, one a line."""
        head = json.dumps(self._head, indent=1)[:-2]
        lines = ",\n".join(json.dumps(row) for row in self.rows)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(f'{head},\n "rows": [\n{lines}\n]}}\n')
