"""Rate-distortion curves out of files: results of ours, and tables of published points.

A curve is named ``FILE.json``, ``FILE.json::CODEC``, ``FILE.csv::DATASET``,
``FILE.csv::DATASET::CODEC`` or ``FILE.csv::DATASET::CODEC::VARIANT``; what is left away stands for
all. A variant may be shortened to any part of it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TextIO

from softstair.errors import UsageError

from .curves import Point
from .results import Mean, Results, read_results

SEPARATOR = "::"
MEASURED = "measured"  # the source of points of a table that were not published
# Whole data sets that published curves are over, by ``hash_pixels``: a folder's name says nothing.
PUBLISHED_OVER = {"9cddff24a5fcf59e78301cf040060bafe47782d98c140f51fda9662cf33c0334": "kodak"}
_COLUMNS = {"dataset", "codec", "variant", "bpp", "psnr_db", "ms_ssim", "source_repo"}


@dataclass(frozen=True)
class Metric:
    """What curves show over the rate, higher for better pictures.

    key: on the command line. label, unit: for people. value: of a mean, None where it is infinite
    or was not measured.
    """

    key: str
    label: str
    unit: str
    value: Callable[[Mean], float | None]


def _decibels(distance: float | None) -> float | None:
    """-10 log10 of a distance; None for none."""
    return -10 * math.log10(distance) if distance else None


METRICS = {
    metric.key: metric
    for metric in (
        Metric("ssimulacra2", "SSIMULACRA 2", "", lambda mean: mean.ssimulacra2),
        Metric("psnr", "PSNR", "dB", lambda mean: mean.psnr),
        Metric("ms-ssim", "MS-SSIM", "dB", lambda mean: mean.ms_ssim_db),
        Metric("butteraugli", "butteraugli, 3-norm", "dB", lambda mean: _decibels(mean.butteraugli)),
        Metric("butteraugli-max", "butteraugli, maximum", "dB", lambda mean: _decibels(mean.butteraugli_max)),
        Metric(
            "cvvdp",
            "ColorVideoVDP",
            "dB",
            lambda mean: None if mean.cvvdp is None else _decibels(10 - mean.cvvdp),
        ),
    )
}


@dataclass(frozen=True)
class Curve:
    """A codec's points (bits per pixel, value of a metric; None where it is infinite).

    pixels: ``hash_pixels`` of the data set, None where a table does not tell. own: of a bundle.
    source: of published points, "" where we measured.
    """

    name: str
    points: tuple[Point, ...]
    data_set: str
    pixels: str | None
    own: bool
    source: str

    @property
    def label(self) -> str:
        """The name, marked where the points are published and not measured."""
        return f"{self.name} (published)" if self.source else self.name


def curves_of(results: Results, metric: Metric) -> tuple[Curve, ...]:
    """One curve for every codec, over means of the pictures."""
    return tuple(
        Curve(
            name=codec.name,
            points=tuple(
                (mean.bpp, metric.value(mean)) for mean in results.means if mean.codec == codec.name
            ),
            data_set=results.data_set,
            pixels=results.data_hash,
            own=codec.bundle is not None,
            source="",
        )
        for codec in results.codecs
    )


def measured_metrics(results: Results) -> tuple[Metric, ...]:
    """The metrics of which results have a value; an older file knows fewer judges."""
    return tuple(
        metric for metric in METRICS.values() if any(metric.value(mean) is not None for mean in results.means)
    )


def read_curves(place: str, metric: Metric) -> tuple[Curve, ...]:
    """The curves that a place names; see the top of this file.

    Raises:
        UsageError: no such file, data set, codec or variant, or none of their points has the metric.
    """
    name, *selection = place.split(SEPARATOR)
    path = Path(name)
    if path.suffix.lower() == ".csv":
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return _of_table(file, place, selection, metric)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, csv.Error) as error:
            raise UsageError(f"{path} is not a table of points: {error}.") from error
    curves = curves_of(read_results(path), metric)
    chosen = tuple(curve for curve in curves if [curve.name] == selection or not selection)
    if not chosen:
        raise UsageError(
            f"{place} names no codec in {path}; it has {', '.join(curve.name for curve in curves)}."
        )
    measured = tuple(curve for curve in chosen if any(value is not None for _, value in curve.points))
    if not measured:
        raise UsageError(f"{place} has no {metric.label}; softstair eval with --judges all adds it.")
    return measured


def published_curves(data_set: str, metric: Metric = METRICS["psnr"]) -> tuple[Curve, ...]:
    """The published curves that come with Softstair, of a data set by its name.

    Only Kodak has some. A curve without the metric is left out.
    """
    table = resources.files(__package__).joinpath("published.csv")
    points = csv.DictReader(table.read_text("utf-8").splitlines())
    rows = [row for row in points if row["dataset"] == data_set]
    return tuple(_curves_of_rows(rows, metric, label="label"))


def published_beside(curve: Curve, metric: Metric) -> tuple[Curve, ...]:
    """The published curves over the pictures of a curve: by its pixels or, of a table, by name."""
    name = curve.data_set if curve.pixels is None else PUBLISHED_OVER.get(curve.pixels, "")
    return published_curves(name, metric)


def check_same_pictures(curves: Iterable[Curve]) -> None:
    """Refuse curves of different pictures.

    Raises:
        UsageError: their data sets have different names or different pixels.
    """
    given = list(curves)
    names = sorted({curve.data_set for curve in given})
    if len(names) > 1:
        raise UsageError(f"Curves over different pictures cannot be compared: {' and '.join(names)}.")
    if len({curve.pixels for curve in given} - {None}) > 1:
        raise UsageError(f"The files hold results of different pictures, all called {names[0]}.")


def _of_table(file: TextIO, place: str, selection: Sequence[str], metric: Metric) -> tuple[Curve, ...]:
    table = csv.DictReader(file)
    if missing := _COLUMNS - set(table.fieldnames or ()):
        raise ValueError(f"columns {', '.join(sorted(missing))} are missing")
    rows = list(table)
    if not 1 <= len(selection) <= 3:
        raise UsageError(
            f"{place} must name a data set, and may name a codec and a variant, each after {SEPARATOR}; "
            f"the data sets are {', '.join(sorted({row['dataset'] for row in rows}))}."
        )
    for column, wanted in zip(("dataset", "codec", "variant"), selection, strict=False):
        exact = [row for row in rows if row[column] == wanted]
        parts = [row for row in rows if column == "variant" and wanted in row[column]]
        if not (found := exact or parts):
            known = ", ".join(sorted({row[column] for row in rows}))
            raise UsageError(f"{place} names no {column} of the table; it has {known}.")
        rows = found
    curves = tuple(_curves_of_rows(rows, metric))
    if not curves:
        raise UsageError(f"{place} has no {metric.label}.")
    return curves


def _curves_of_rows(
    rows: Iterable[dict[str, str]], metric: Metric, label: str | None = None
) -> Iterator[Curve]:
    """Curves by codec, variant and source. label: the column of their names, else codec and variant."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["codec"], row["variant"], row["source_repo"]), []).append(row)
    for (codec, variant, source), group in groups.items():
        points = tuple(
            (float(row["bpp"]), value) for row in group if (value := _value(row, metric)) is not None
        )
        if points:
            yield Curve(
                name=group[0][label] if label else ", ".join(filter(None, (codec, variant))),
                points=points,
                data_set=group[0]["dataset"],
                pixels=None,
                own=False,
                source="" if source == MEASURED else source,
            )


def _value(row: dict[str, str], metric: Metric) -> float | None:
    if metric.key == "psnr" and row["psnr_db"]:
        return float(row["psnr_db"])
    if metric.key == "ms-ssim" and row["ms_ssim"] and float(row["ms_ssim"]) < 1:
        return -10 * math.log10(1 - float(row["ms_ssim"]))
    return None
