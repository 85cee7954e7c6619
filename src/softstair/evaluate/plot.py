"""Rate-distortion plots as pictures, by matplotlib."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .curve_files import Curve, Metric

FORMATS = ("svg", "png")
_INCHES, _DPI = (9.0, 5.4), 150


def plot_curves(curves: Sequence[Curve], metric: Metric, file_format: str) -> bytes:
    """A picture of curves: our own thick and black, peers thin, published ones dashed and marked as such.

    The rates end where our own curves end, if there are any. Equal curves give equal bytes.

    Args:
        curves: of one data set, at least one.
        file_format: one of ``FORMATS``.
    """
    # Without a salt and with a date no two files would be equal.
    with matplotlib.rc_context({"svg.hashsalt": "softstair"}):
        figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
        axes = figure.add_subplot()
        kinds: Counter[str] = Counter()
        for curve in curves:
            kind = "own" if curve.own else "published" if curve.source else "peer"
            _draw(axes, curve, _style(kind, kinds[kind]))
            kinds[kind] += 1
        axes.set_xlabel("bits per pixel, whole files")
        unit = f", {metric.unit}" if metric.unit else ""
        axes.set_ylabel(f"{metric.label}{unit}, mean over pictures")
        axes.set_title(f"{curves[0].data_set}: rate and {metric.label}", loc="left")
        axes.grid(visible=True, alpha=0.3)
        _limit(axes, curves)
        figure.legend(loc="outside right upper", fontsize="small", frameon=False)
        buffer = io.BytesIO()
        metadata = {"Date": None} if file_format == "svg" else {"Software": None}
        figure.savefig(buffer, format=file_format, metadata=metadata)
    return buffer.getvalue()


def _style(kind: str, number: int) -> dict[str, Any]:
    """Lines that can be told apart: ten colours of a kind, then again with other marks."""
    turn = number // 10
    if kind == "own":
        return {"color": "black", "linewidth": 2.2, "marker": "os^"[number % 3], "markersize": 4, "zorder": 3}
    colour = {"color": f"C{number % 10}", "linewidth": 1.1}
    if kind == "published":
        return colour | {"linestyle": ("--", "-.")[turn % 2]}
    return colour | {"marker": "o^"[turn % 2], "markersize": 3}


def _draw(axes: Axes, curve: Curve, style: dict[str, Any]) -> None:
    points = _finite(curve)
    rates, values = [rate for rate, _ in points], [value for _, value in points]
    axes.plot(rates, values, label=curve.label, **style)


def _limit(axes: Axes, curves: Sequence[Curve]) -> None:
    """The rates, and the values of all points at these rates."""
    rates = [rate for curve in curves if curve.own for rate, _ in curve.points]
    if not rates:
        return
    last = 1.1 * max(rates)
    values = [value for curve in curves for rate, value in _finite(curve) if rate <= last]
    margin = 0.03 * (max(values) - min(values))
    axes.set_xlim(0, last)
    axes.set_ylim(min(values) - margin, max(values) + margin)


def _finite(curve: Curve) -> list[tuple[float, float]]:
    return sorted((rate, value) for rate, value in curve.points if value is not None)
