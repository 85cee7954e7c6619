"""results/packs.md from rows.json.

python -m experiments.packs.page
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from experiments.packs.run import HERE, LEARNED, RUNGS, TEST, Row
from experiments.packs.shares import Share

from softstair.errors import UsageError
from softstair.evaluate import delta_rate

PAGE = HERE.parents[1] / "results" / "packs.md"
DEFAULT, SLIM = "55088ec0d5abfb97", "eaa94627f1cae708"
_WORDS = {
    "base": "the bundle as it is",
    "tables": "tables measured anew, nothing trained",
    "context": "and context networks learned anew",
    "biases": "tables, + gains and integer biases",
    "decoder": "+ signs of changes, decoder",
    "encoder": "+ signs of changes, encoder",
    "pack": "and context networks learned anew: a pack",
    "full": "all weights trained, no pack",
    "avif": "AVIF, Pillow's default (4:2:0, speed 6)",
}


def main() -> None:
    rows = msgspec.json.decode((HERE / "rows.json").read_bytes(), type=list[Row])
    PAGE.write_text("\n".join(lines(rows)) + "\n")


def lines(rows: list[Row]) -> Iterator[str]:
    yield "# Packs, rung by rung"
    yield ""
    yield "Bits against the bundle as it is, at equal PSNR (BD-rate, PCHIP, of the sums of all files and of"
    yield "all squared errors) and at equal SSIMULACRA 2 (of the means), the bytes of the pack, and what it"
    yield "cost: minutes allowed, steps until the best ones, seconds of a wall clock on a machine that others"
    yield "shared. Curves end where quality no longer grows with the rate. What makes them and this page is"
    yield "said in experiments/packs."
    yield from _domains(rows)
    yield from _learned(rows)
    yield from _shares()
    yield from _slim(rows)
    yield from _photographs(rows)
    yield from _archive()


def _domains(rows: list[Row]) -> Iterator[str]:
    for domain, bundle, exact, pictures in _groups(rows, TEST):
        found = [row for row in rows if (*_group(row), row.set) == (domain, bundle, exact, pictures, TEST)]
        base = next((row for row in found if row.rung == "base"), None)
        if base is None:
            continue
        coded = "exact tiles where they are smaller" if exact else "no exact tiles"
        yield ""
        yield f"## {domain.capitalize()}" + (", as people get them" if exact else "")
        yield ""
        yield f"Bundle {bundle}, {pictures} test pictures; {coded}."
        yield ""
        yield "| rung | PSNR | SSIMULACRA 2 | pack, bytes | minutes | steps | seconds |"
        yield "| --- | --: | --: | --: | --: | --: | --: |"
        for row in sorted(found, key=lambda row: [*RUNGS, "avif"].index(row.rung)):
            trained = row.rung not in ("base", "tables", "context", "avif")
            cost = (f"{row.minutes:g}", str(row.steps)) if trained else ("", "")
            size = str(row.bytes) if row.bytes else ""
            seconds = f"{row.seconds:.0f}" if row.bytes else ""
            bits = " | ".join("" if row is base else _bits(base, row, judge) for judge in (1, 2))
            yield f"| {_WORDS[row.rung]} | {bits} | {size} | {cost[0]} | {cost[1]} | {seconds} |"


def _slim(rows: list[Row]) -> Iterator[str]:
    """A bundle with fewer multiplications and a pack for it, against the default bundle without one."""
    slim = [row for row in rows if row.bundle == SLIM and row.rung != "avif"]
    if not slim:
        return
    yield ""
    yield "## A slim bundle, against the default one without a pack"
    yield ""
    yield f"Bundle {SLIM}, of experiments/packs/slim.py; times are in [units-slim.md](units-slim.md)."
    yield ""
    yield "| domain | pictures | rung | PSNR | SSIMULACRA 2 |"
    yield "| --- | --: | --- | --: | --: |"
    for row in slim:
        bits = " | ".join(_bits(_base(rows, row, DEFAULT), row, judge) for judge in (1, 2))
        yield f"| {row.domain} | {row.pictures} | {_WORDS[row.rung]} | {bits} |"


def _learned(rows: list[Row]) -> Iterator[str]:
    """What packs gain where they should gain most."""
    found = [row for row in rows if row.set == LEARNED and row.rung not in ("base", "avif")]
    if not found:
        return
    yield ""
    yield "## On the pictures that packs were learned from"
    yield ""
    yield "No exact tiles. What is not gained here will not be on other pictures."
    yield ""
    yield "| domain | pictures | rung | PSNR | SSIMULACRA 2 | minutes |"
    yield "| --- | --: | --- | --: | --: | --: |"
    for row in found:
        bits = " | ".join(_bits(_base(rows, row, row.bundle), row, judge) for judge in (1, 2))
        yield f"| {row.domain} | {row.pictures} | {_WORDS[row.rung]} | {bits} | {row.minutes:g} |"


def _shares() -> Iterator[str]:
    """What `shares.py` found."""
    path = HERE / "shares.json"
    if not path.exists():
        return
    yield ""
    yield "## What of files as people get them is learned"
    yield ""
    yield "The default bundle. All else are exact tiles, which no network changes."
    yield ""
    yield "| domain | rate position | files | wholly exact | bytes | of these learned |"
    yield "| --- | --: | --: | --: | --: | --: |"
    for one in msgspec.json.decode(path.read_bytes(), type=list[Share]):
        share = f"{one.learned / one.bytes:.0%}"
        yield f"| {one.domain} | {one.position} | {one.pictures} | {one.exact} | {one.bytes} | {share} |"


def _archive() -> Iterator[str]:
    """What `archive.py` found."""
    path = HERE / "archive.json"
    if not path.exists():
        return
    yield ""
    yield "## An archive, opened from a flattened bundle"
    yield ""
    yield "By an installation without extras that has no pack; pixels are compared with those of the pack."
    yield ""
    found = msgspec.json.decode(path.read_bytes())
    yield "| " + " | ".join(found) + " |"
    yield "|" + " --- |" * len(found)
    yield "| " + " | ".join(map(str, found.values())) + " |"


def _photographs(rows: list[Row]) -> Iterator[str]:
    """What packs cost photographs."""
    found = [row for row in rows if row.set not in (TEST, LEARNED) and row.rung not in ("base", "avif")]
    if not found:
        return
    yield ""
    yield "## Photographs with the pack of another domain"
    yield ""
    yield "| pack | pictures | PSNR | SSIMULACRA 2 |"
    yield "| --- | --- | --: | --: |"
    for row in found:
        bits = " | ".join(_bits(_base(rows, row, row.bundle), row, judge) for judge in (1, 2))
        yield f"| {row.domain}, {row.minutes:g} minutes | {row.pictures} of {row.set} | {bits} |"


def _base(rows: list[Row], row: Row, bundle: str) -> Row:
    """The row of a bundle as it is, on the same pictures."""
    wanted = msgspec.structs.replace(row, rung="base", bundle=bundle, minutes=0)
    return next(one for one in rows if one.key == wanted.key)


def _group(row: Row) -> tuple[str, str, bool, int]:
    return row.domain, row.bundle, row.exact, row.pictures


def _groups(rows: list[Row], name: str) -> dict[tuple[str, str, bool, int], None]:
    return dict.fromkeys(_group(row) for row in rows if row.set == name)


def _bits(base: Row, row: Row, judge: int) -> str:
    try:
        return f"{delta_rate(_curve(base, judge), _curve(row, judge)).pchip:+.1f} %"
    except UsageError:
        return "does not compare"


def _curve(row: Row, judge: int) -> list[tuple[float, float]]:
    """Bytes and quality, as far as quality grows."""
    found: list[tuple[float, float]] = []
    for point in row.points:
        if found and point[judge] <= found[-1][1]:
            break
        found.append((point[0], point[judge]))
    return found


if __name__ == "__main__":
    main()
