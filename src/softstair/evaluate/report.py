"""Results as Markdown: every codec and rate, and Softstair's delta rates against the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from softstair.errors import UsageError

from .curve_files import METRICS, Curve, Metric, curves_of, measured_metrics
from .curves import delta_rate
from .results import Mean, Results

_DETAILED = ("ssimulacra2", "psnr")
# What judges say, where they were asked: title, field of a mean, digits.
_MARKS = (
    ("butteraugli, 3-norm", "butteraugli", 3),
    ("butteraugli, maximum", "butteraugli_max", 2),
    ("ColorVideoVDP, JOD", "cvvdp", 3),
    ("grid", "grid", 2),
)


def markdown(results: Results) -> str:
    """Tables: rate and distortion by codec and quality, times, complexity, delta rates by peer.

    Delta rates are over means of the pictures. A pair that cannot be compared says why.
    """
    machine = results.machine
    reused = f", {results.reused_rows} rows reused" if results.reused_rows else ""
    head = [
        f"# {results.data_set}: {results.pictures} pictures",
        "",
        f"Pixels {results.data_hash[:16]}, softstair {results.softstair}, {machine.processor} "
        f"({machine.machine}, {machine.cores} cores), jobs {results.jobs}{reused}. bpp: whole files. "
        "PSNR: RGB, mean over pictures. MS-SSIM: -10 log10(1 - mean). Bits at equal quality are BD-rates "
        "of the test against the anchor, by PCHIP.",
        "",
    ]
    tables = (_codecs, _points, _times, _complexities, _deltas)
    parts = ["\n".join(lines) for table in tables if (lines := list(table(results)))]
    return "\n".join(head) + "\n" + "\n\n".join(parts) + "\n"


def markdown_table(heads: Sequence[str], rows: Iterable[Iterable[object]], *, words: int = 1) -> str:
    """A table as Markdown. words: how many of the first columns hold words; numbers stand to the right."""
    lines = [heads, ["---"] * words + ["--:"] * (len(heads) - words), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _codecs(results: Results) -> Iterator[str]:
    for codec in results.codecs:
        bundle = "" if codec.bundle is None else f"; bundle {codec.bundle} {codec.fingerprint}"
        yield f"- {codec.name}: {codec.settings}; {codec.version}{bundle}"


def _points(results: Results) -> Iterator[str]:
    columns: list[tuple[str, Callable[[Mean], str]]] = [
        ("bpp", lambda mean: f"{mean.bpp:.4f}"),
        ("PSNR, dB", lambda mean: _db(mean.psnr)),
        ("PSNR of mean MSE, dB", lambda mean: _db(mean.psnr_of_mean_mse)),
        ("MS-SSIM, dB", lambda mean: _db(mean.ms_ssim_db)),
        ("SSIMULACRA 2", lambda mean: f"{mean.ssimulacra2:.2f}"),
    ]
    for title, field, digits in _MARKS:
        if any(getattr(mean, field) is not None for mean in results.means):
            columns.append((title, partial(_mark, field=field, digits=digits)))
    rows = ([mean.codec, f"{mean.quality:g}", *(cell(mean) for _, cell in columns)] for mean in results.means)
    yield markdown_table(["codec", "quality", *(title for title, _ in columns)], rows)


def _mark(mean: Mean, field: str, digits: int) -> str:
    value = getattr(mean, field)
    return "-" if value is None else f"{value:.{digits}f}"


def _times(results: Results) -> Iterator[str]:
    if not results.timings:
        return
    heads = ("codec", "quality", "pictures timed", "threads", "encode, ms", "decode, ms", "load")
    rows = []
    for time in results.timings:
        seconds = (f"{1000 * one:.1f}" for one in (time.encode_seconds, time.decode_seconds))
        load = "-" if time.load is None else f"{time.load:.2f}"
        rows.append((time.codec, f"{time.quality:g}", time.pictures, time.threads, *seconds, load))
    yield markdown_table(heads, rows)


def _complexities(results: Results) -> Iterator[str]:
    if not results.complexity:
        return
    heads = ("codec", "encoder, kMAC/pixel", "decoder, kMAC/pixel", "parameters", "bundle, bytes")
    rows = (
        (one.codec, f"{one.encoder_kmac:.2f}", f"{one.decoder_kmac:.2f}", one.parameters, one.bundle_bytes)
        for one in results.complexity
    )
    yield markdown_table(heads, rows)


def _deltas(results: Results) -> Iterator[str]:
    """All metrics at a glance, then two of them in full."""
    own = [codec.name for codec in results.codecs if codec.bundle is not None]
    peers = [codec.name for codec in results.codecs if codec.bundle is None]
    if not own or not peers:
        return
    metrics = measured_metrics(results)
    curves = {metric.key: {curve.name: curve for curve in curves_of(results, metric)} for metric in metrics}
    rows = (
        [test, anchor, *(_share(of[anchor], of[test]) for of in curves.values())]
        for anchor in peers
        for test in own
    )
    yield markdown_table(["test", "anchor", *(metric.label for metric in metrics)], rows, words=2)
    for key in _DETAILED:
        of = curves[key]
        yield ""
        yield from delta_table([of[name] for name in peers], [of[name] for name in own], METRICS[key])


def _share(anchor: Curve, test: Curve) -> str:
    try:
        return f"{delta_rate(anchor.points, test.points).pchip:+.2f} %"
    except UsageError:
        return "-"


def delta_table(anchors: Iterable[Curve], tests: Iterable[Curve], metric: Metric) -> list[str]:
    """Lines of a table: the delta rate of every test against every anchor, or why there is none."""
    unit = f", {metric.unit}" if metric.unit else ""
    lines = [
        f"| test | anchor | BD-rate PCHIP | BD-rate Akima | over {metric.label}{unit} | "
        "of test's range | points dropped, test + anchor |",
        "| --- | --- | --: | --: | --- | --: | --: |",
    ]
    tests = list(tests)
    return lines + [_delta(anchor, test) for anchor in anchors for test in tests]


def _delta(anchor: Curve, test: Curve) -> str:
    try:
        delta = delta_rate(anchor.points, test.points)
    except UsageError as error:
        return f"| {test.label} | {anchor.label} | - | - | {error} | - | - |"
    return (
        f"| {test.label} | {anchor.label} | {delta.pchip:+.2f} % | {delta.akima:+.2f} % | "
        f"{delta.low:.2f} to {delta.high:.2f} | {delta.overlap:.0%} | "
        f"{delta.dropped_test} + {delta.dropped_anchor} |"
    )


def _db(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"
