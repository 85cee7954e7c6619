"""Results that nobody measured, for tests of what is made of results."""

from __future__ import annotations

from softstair.evaluate.curve_files import PUBLISHED_OVER
from softstair.evaluate.machine import Machine
from softstair.evaluate.results import (
    SCHEMA,
    CodecUsed,
    Complexity,
    Part,
    Results,
    Row,
    Timing,
    average,
)

MACHINE = Machine("x86_64", "a processor", 2, "3.11", "2.0", "1.20", 0.1)


def example_results() -> Results:
    """Two pictures: "ours" by a bundle; "jpeg" as good at 10 % more rate; "few" at two rates."""
    rates = (0.125, 0.25, 0.5, 1.0, 2.0)
    rows = [
        row
        for codec, more, count in (("ours", 1.0, 5), ("jpeg", 1.1, 5), ("few", 1.0, 2))
        for index, rate in enumerate(rates[:count])
        for row in _rows(codec, index, more * rate)
    ]
    return Results(
        schema=SCHEMA,
        data_set="kodak",
        data_hash=next(iter(PUBLISHED_OVER)),
        pictures=2,
        machine=MACHINE,
        softstair="0",
        jobs=1,
        reused_rows=0,
        codecs=(
            CodecUsed("ours", "by rate position", "1", "tiny", "8241261d2eeb30fd", "scalar"),
            CodecUsed("jpeg", "4:2:0", "1"),
            CodecUsed("few", "4:2:0", "1"),
        ),
        complexity=(
            Complexity("ours", "8241261d2eeb30fd", 1.5, 1.0, 100, 400, (Part("synthesis", 1.0, 100),)),
        ),
        timings=(Timing("ours", 0.0, 2, 1, 0.1, 0.05, 0.0),),
        means=average(rows),
        rows=tuple(rows),
    )


def _rows(codec: str, index: int, rate: float) -> list[Row]:
    return [
        Row(
            codec=codec,
            quality=float(index),
            picture=f"{picture}.png",
            width=400,
            height=200,
            file_bytes=round(rate * 10_000),
            bpp=rate,
            mse=100 / 2**index,
            psnr=28 + 3.0 * index + picture,
            ms_ssim=1 - 0.1 / 2**index,
            ssimulacra2=20 + 15.0 * index,
            butteraugli=4 / 1.5**index,
            butteraugli_max=16 / 1.4**index,
            cvvdp=10 - 2 / 1.6**index,
            smooth=0.25,
            grid_across=1.5,
            grid_beside=1.0,
            payload_bytes=round(rate * 10_000) - 30 if codec == "ours" else None,
            table_bits=8 * round(rate * 10_000) - 250.0 if codec == "ours" else None,
        )
        for picture in range(2)
    ]
