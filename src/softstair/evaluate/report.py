"""Results as Markdown: every codec and rate, and Softstair's delta rates against the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from softstair.errors import UsageError

from .curve_files import METRICS, Curve, Metric, curves_of
from .curves import delta_rate
from .results import Results


def markdown(results: Results) -> str:
    """Tables: rate and distortion by codec and quality, times, complexity, delta rates by peer.

    Delta rates are over the mean of the pictures' PSNR. A pair that cannot be compared says why.
    """
    machine = results.machine
    reused = f", {results.reused_rows} rows reused" if results.reused_rows else ""
    head = [
        f"# {results.data_set}: {results.pictures} pictures",
        "",
        f"Pixels {results.data_hash[:16]}, softstair {results.softstair}, {machine.processor} "
        f"({machine.machine}, {machine.cores} cores), jobs {results.jobs}{reused}. bpp: whole files. "
        "PSNR: RGB, mean over pictures. MS-SSIM: -10 log10(1 - mean).",
        "",
    ]
    tables = (_codecs, _points, _times, _complexities, _deltas)
    parts = ["\n".join(lines) for table in tables if (lines := list(table(results)))]
    return "\n".join(head) + "\n" + "\n\n".join(parts) + "\n"


def _codecs(results: Results) -> Iterator[str]:
    for codec in results.codecs:
        bundle = "" if codec.bundle is None else f"; bundle {codec.bundle} {codec.fingerprint}"
        yield f"- {codec.name}: {codec.settings}; {codec.version}{bundle}"


def _points(results: Results) -> Iterator[str]:
    yield "| codec | quality | bpp | PSNR, dB | PSNR of mean MSE, dB | MS-SSIM, dB | SSIMULACRA 2 |"
    yield "| --- | --: | --: | --: | --: | --: | --: |"
    for mean in results.means:
        yield (
            f"| {mean.codec} | {mean.quality:g} | {mean.bpp:.4f} | {_db(mean.psnr)} | "
            f"{_db(mean.psnr_of_mean_mse)} | {_db(mean.ms_ssim_db)} | {mean.ssimulacra2:.2f} |"
        )


def _times(results: Results) -> Iterator[str]:
    if not results.timings:
        return
    yield "| codec | quality | pictures timed | threads | encode, ms | decode, ms | load |"
    yield "| --- | --: | --: | --: | --: | --: | --: |"
    for time in results.timings:
        yield (
            f"| {time.codec} | {time.quality:g} | {time.pictures} | {time.threads} | "
            f"{1000 * time.encode_seconds:.1f} | {1000 * time.decode_seconds:.1f} | "
            f"{'-' if time.load is None else f'{time.load:.2f}'} |"
        )


def _complexities(results: Results) -> Iterator[str]:
    if not results.complexity:
        return
    yield "| codec | encoder, kMAC/pixel | decoder, kMAC/pixel | parameters | bundle, bytes |"
    yield "| --- | --: | --: | --: | --: |"
    for cost in results.complexity:
        yield (
            f"| {cost.codec} | {cost.encoder_kmac:.2f} | {cost.decoder_kmac:.2f} | {cost.parameters} | "
            f"{cost.bundle_bytes} |"
        )


def _deltas(results: Results) -> Iterator[str]:
    curves = curves_of(results, METRICS["psnr"])
    own = [curve for curve in curves if curve.own]
    peers = [curve for curve in curves if not curve.own]
    if own and peers:
        yield from delta_table(peers, own, METRICS["psnr"])


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
