"""What runs of training measured when they chose between float32 and bfloat16, from their logs.

python docs/build/precisions.py results/runs/*.jsonl > results/precision.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from softstair.evaluate import markdown_table

HEADS = ("run", "latents", "threads", "float32", "bfloat16", "float32 to bfloat16")


def main(*logs: str) -> None:
    rows = [row for log in sorted(logs) for row in measured(Path(log))]
    print(markdown_table(HEADS, sorted(rows, key=lambda row: float(row[-1]))))


def measured(log: Path) -> list[tuple[str, ...]]:
    """A row for every time that both were timed: seconds of a step."""
    rows, begun = [], {}
    for event in map(json.loads, log.read_text().splitlines()):
        if event["event"] in ("start", "resume"):
            begun |= event
        elif event["event"] == "precision" and event["seconds"]:
            seconds = [event["seconds"][name] for name in ("float32", "bfloat16")]
            about = str(begun["recipe"]["shape"]["latents"]), str(begun["environment"]["threads"])
            rows.append(
                (log.stem, *about, *(f"{one:.3f}" for one in seconds), f"{seconds[0] / seconds[1]:.2f}")
            )
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
