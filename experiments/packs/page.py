"""results/packs.md from rows.json.

python -m experiments.packs.page
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from experiments.packs.run import HERE, RUNGS, Row

from softstair.errors import UsageError
from softstair.evaluate import delta_rate

PAGE = HERE.parents[1] / "results" / "packs.md"
_WORDS = {
    "base": "the bundle as it is",
    "tables": "tables measured anew, nothing trained",
    "biases": "+ gains and integer biases",
    "decoder": "+ low rank, decoder",
    "encoder": "+ low rank, encoder: a pack",
    "full": "all weights trained, no pack",
    "avif": "AVIF, Pillow's default (4:2:0, speed 6)",
}


def main() -> None:
    rows = msgspec.json.decode((HERE / "rows.json").read_bytes(), type=list[Row])
    PAGE.write_text("\n".join(lines(rows)) + "\n")


def lines(rows: list[Row]) -> Iterator[str]:
    yield "# Packs, rung by rung"
    yield ""
    yield "Bits on test pictures at equal PSNR against the bundle as it is (BD-rate, PCHIP, of the sums of"
    yield "all files and all squared errors), the bytes of the pack, and what it cost: minutes allowed, steps"
    yield "until the best ones, seconds of a wall clock on a machine that others shared. What makes them and"
    yield "this page is said in experiments/packs."
    groups = dict.fromkeys((row.domain, row.bundle, row.exact, row.every) for row in rows)
    for domain, bundle, exact, every in groups:
        found = [
            row
            for row in rows
            if (row.domain, row.bundle, row.exact, row.every) == (domain, bundle, exact, every)
        ]
        base = next((row for row in found if row.rung == "base"), None)
        if base is None:
            continue
        which = "all" if every == 1 else f"one in {every} of the"
        coded = "exact tiles where they are smaller" if exact else "no exact tiles"
        yield ""
        yield f"## {domain.capitalize()}"
        yield ""
        yield f"Bundle {bundle}, {which} test pictures: {base.pictures}; {coded}."
        yield ""
        yield "| rung | bits | pack, bytes | minutes | steps | seconds |"
        yield "| --- | --: | --: | --: | --: | --: |"
        for row in sorted(found, key=lambda row: [*RUNGS, "avif"].index(row.rung)):
            bits = "" if row is base else _bits(base, row)
            trained = row.rung not in ("base", "tables", "avif")
            cost = (f"{row.minutes:g}", str(row.steps)) if trained else ("", "")
            size = str(row.bytes) if row.bytes else ""
            seconds = f"{row.seconds:.0f}" if row.bytes else ""
            yield f"| {_WORDS[row.rung]} | {bits} | {size} | {cost[0]} | {cost[1]} | {seconds} |"


def _bits(base: Row, row: Row) -> str:
    try:
        return f"{delta_rate(base.points, row.points).pchip:+.1f} %"
    except UsageError:
        return "does not compare"


if __name__ == "__main__":
    main()
