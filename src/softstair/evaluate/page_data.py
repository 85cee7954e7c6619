"""What a report page shows beside pictures: curves, delta rates, our position in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from softstair.errors import UsageError

from .curve_files import (
    METRICS,
    PUBLISHED_OVER,
    Curve,
    Metric,
    curves_of,
    measured_metrics,
    published_curves,
)
from .curves import delta_rate
from .results import Results

_EQUAL_BPP = 0.5  # where the page's table of equal PSNR starts
# Published curves are over whole data sets: a folder's name says nothing, its pixels do.


@dataclass(frozen=True)
class CurvePoint:
    """A point of a curve. quality: the codec's own knob, None where published. value: of a metric."""

    quality: float | None
    bpp: float
    value: float


@dataclass(frozen=True)
class Series:
    """A codec of the plots. own: of a bundle. source: of published points, "" where we measured.

    points: by the key of a metric, rates rising; a metric that is not known is left out.
    """

    name: str
    own: bool
    source: str
    points: dict[str, tuple[CurvePoint, ...]]


@dataclass(frozen=True)
class PageDelta:
    """A delta rate, percent, as in ``DeltaRate``; or a sentence why there is none.

    metric: its key. low, high: in its unit. dropped: points left out of both curves.
    """

    metric: str
    test: str
    anchor: str
    published: bool
    pchip: float | None = None
    akima: float | None = None
    low: float | None = None
    high: float | None = None
    overlap: float | None = None
    dropped: int = 0
    refused: str = ""


@dataclass(frozen=True)
class PictureCurve:
    """One picture through one codec: points (bpp, PSNR in dB), rates rising."""

    codec: str
    picture: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Figures:
    """Everything but pictures. results: without rows. rows: their number.

    position: sentences. equal_psnr: dB, where the table of equal PSNR starts.
    """

    results: Results
    rows: int
    position: tuple[str, ...]
    series: tuple[Series, ...]
    deltas: tuple[PageDelta, ...]
    pictures: tuple[PictureCurve, ...]
    equal_psnr: float


def figures(results: Results) -> Figures:
    """What the page shows of results and of published curves over the same pixels."""
    deltas = tuple(delta for metric in measured_metrics(results) for delta in _deltas(results, metric))
    own = [codec.name for codec in results.codecs if codec.bundle is not None]
    return Figures(
        results=replace(results, rows=()),
        rows=len(results.rows),
        position=tuple(sentence for name in own for sentence in _position(name, own, deltas)),
        series=(*_measured(results), *_published(results)),
        deltas=deltas,
        pictures=tuple(_picture_curves(results)),
        equal_psnr=_equal_psnr(results),
    )


def _measured(results: Results) -> Iterator[Series]:
    curves = {key: curves_of(results, metric) for key, metric in METRICS.items()}
    for at, codec in enumerate(results.codecs):
        qualities = [mean.quality for mean in results.means if mean.codec == codec.name]
        yield Series(
            codec.name,
            codec.bundle is not None,
            "",
            {key: _points(curves[key][at], qualities) for key in METRICS},
        )


def _published(results: Results) -> Iterator[Series]:
    curves: dict[tuple[str, str], dict[str, tuple[CurvePoint, ...]]] = {}
    for key, metric in METRICS.items():
        for curve in _published_curves(results, metric):
            points = _points(curve, [None] * len(curve.points))
            curves.setdefault((curve.name, curve.source), {})[key] = points
    for (name, source), by_metric in curves.items():
        yield Series(name, False, source, by_metric)


def _published_curves(results: Results, metric: Metric) -> tuple[Curve, ...]:
    return published_curves(PUBLISHED_OVER.get(results.data_hash, ""), metric)


def _points(curve: Curve, qualities: Sequence[float | None]) -> tuple[CurvePoint, ...]:
    points = [
        CurvePoint(quality, bpp, value)
        for quality, (bpp, value) in zip(qualities, curve.points, strict=True)
        if value is not None
    ]
    return tuple(sorted(points, key=lambda point: point.bpp))


def _deltas(results: Results, metric: Metric) -> Iterator[PageDelta]:
    """Of every measured codec against every other and every published curve."""
    measured, published = curves_of(results, metric), _published_curves(results, metric)
    for test in measured:
        for anchor in (*measured, *published):
            if anchor is not test:
                yield _delta(metric, test, anchor)


def _delta(metric: Metric, test: Curve, anchor: Curve) -> PageDelta:
    empty = PageDelta(metric.key, test.name, anchor.name, bool(anchor.source))
    try:
        found = delta_rate(anchor.points, test.points)
    except UsageError as error:
        return replace(empty, refused=str(error))
    return replace(
        empty,
        pchip=found.pchip,
        akima=found.akima,
        low=found.low,
        high=found.high,
        overlap=found.overlap,
        dropped=found.dropped_anchor + found.dropped_test,
    )


def _position(name: str, own: Sequence[str], deltas: Sequence[PageDelta]) -> Iterator[str]:
    """How a codec stands against peers, and against published curves, by BD-rate (PCHIP)."""
    for key in ("ssimulacra2", "psnr"):
        found = [delta for delta in deltas if (delta.metric, delta.test) == (key, name)]
        peers = [delta for delta in found if not delta.published and delta.anchor not in own]
        yield from _sentence(f"For equal {METRICS[key].label}, {name} needs", peers)
    published = [delta for delta in found if delta.published]
    yield from _sentence(f"Against published curves of PSNR, {name} needs", published)


def _sentence(lead: str, deltas: Sequence[PageDelta]) -> Iterator[str]:
    compared = sorted((delta.pchip, delta.anchor) for delta in deltas if delta.pchip is not None)
    refused = [delta.anchor for delta in deltas if delta.pchip is None]
    if not compared:
        return
    parts = [
        f"{abs(share):.1f}\u00a0% {'fewer' if share < 0 else 'more'}{'' if at else ' bits'} than {anchor}"
        for at, (share, anchor) in enumerate(compared)
    ]
    sentence = f"{lead} {_listed(parts)}"
    yield f"{sentence}; it cannot be compared with {_listed(refused)}." if refused else f"{sentence}."


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _picture_curves(results: Results) -> Iterator[PictureCurve]:
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in results.rows:
        curve = points.setdefault((row.codec, row.picture), [])
        if row.psnr is not None:
            curve.append((row.bpp, row.psnr))
    for (codec, picture), curve in points.items():
        yield PictureCurve(codec, picture, tuple(sorted(curve)))


def _equal_psnr(results: Results) -> float:
    """PSNR, whole dB, of the first codec at the rate nearest to where the table starts."""
    means = [(mean.bpp, mean.psnr) for mean in results.means if mean.codec == results.means[0].codec]
    known = [(abs(bpp - _EQUAL_BPP), psnr) for bpp, psnr in means if psnr is not None]
    return float(round(min(known)[1])) if known else 30.0
