"""Results as Markdown: every codec and rate, and Softstair's delta rates against the others."""

from __future__ import annotations

from collections.abc import Iterator

from softstair.errors import UsageError

from .curves import Point, delta_rate
from .results import Results


def markdown(results: Results) -> str:
    """Two tables: bpp, PSNR and MS-SSIM by codec and quality; delta rates by peer.

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
    return "\n".join([*head, *_codecs(results), "", *_points(results), "", *_deltas(results)]) + "\n"


def _codecs(results: Results) -> Iterator[str]:
    for codec in results.codecs:
        bundle = "" if codec.bundle is None else f"; bundle {codec.bundle} {codec.fingerprint}"
        yield f"- {codec.name}: {codec.settings}; {codec.version}{bundle}"


def _points(results: Results) -> Iterator[str]:
    yield "| codec | quality | bpp | PSNR, dB | PSNR of mean MSE, dB | MS-SSIM, dB | enc., ms | dec., ms |"
    yield "| --- | --: | --: | --: | --: | --: | --: | --: |"
    for mean in results.means:
        mark = "*" if mean.under_load else ""
        yield (
            f"| {mean.codec} | {mean.quality:g} | {mean.bpp:.4f} | {_db(mean.psnr)} | "
            f"{_db(mean.psnr_of_mean_mse)} | {_db(mean.ms_ssim_db)} | "
            f"{1000 * mean.encode_seconds:.0f}{mark} | {1000 * mean.decode_seconds:.0f}{mark} |"
        )
    if any(mean.under_load for mean in results.means):
        yield ""
        yield "\\* taken while other pictures were coded"


def _deltas(results: Results) -> Iterator[str]:
    own = [codec.name for codec in results.codecs if codec.bundle is not None]
    peers = [codec.name for codec in results.codecs if codec.bundle is None]
    if not own or not peers:
        return
    yield "| test | anchor | BD-rate PCHIP | BD-rate Akima | over, dB | of test's range | points dropped |"
    yield "| --- | --- | --: | --: | --- | --: | --: |"
    for test in own:
        for anchor in peers:
            yield _delta(results, anchor, test)


def _delta(results: Results, anchor: str, test: str) -> str:
    try:
        delta = delta_rate(_curve(results, anchor), _curve(results, test))
    except UsageError as error:
        return f"| {test} | {anchor} | - | - | {error} | - | - |"
    return (
        f"| {test} | {anchor} | {delta.pchip:+.2f} % | {delta.akima:+.2f} % | "
        f"{delta.low:.2f} to {delta.high:.2f} | {delta.overlap:.0%} | "
        f"{delta.dropped_test} + {delta.dropped_anchor} |"
    )


def _curve(results: Results, codec: str) -> list[Point]:
    return [(mean.bpp, mean.psnr) for mean in results.means if mean.codec == codec]


def _db(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"
