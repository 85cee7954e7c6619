"""What derivations cost by the runs' own judgement: held-out crops, tables measured on training crops.

    python -m experiments.anchors.held_out experiments/anchors/plan-scratch.toml -o ROWS.json
    python -m experiments.anchors.held_out experiments/anchors/plan-scratch.toml --table ROWS.json

The first collects what the stage ``derive`` wrote into the logs of a plan that is trained: at every rate
point bits a pixel and PSNR of twelve crops of 256 with steps alone, and with what was learned. The second
compares them at the plan's ratios of the anchor's rate: with steps alone of the same anchor, and, from the
lowest anchor's rate to the highest's, with a network trained at that rate, between anchors by interpolation.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from experiments.anchors.run import Plan, Point, cell, published
from experiments.harness import Row, asked, write_rows

from softstair.evaluate import markdown_table

ALONE, LEARNED = "steps alone", "learned"
JUDGED = {ALONE: "rounding", LEARNED: "learned"}  # in the log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("plan", type=Path)
    path = parser.parse_known_args()[0].plan
    plan = msgspec.toml.decode(path.read_bytes(), type=Plan)
    arguments = asked(parser, partial(table, plan))
    write_rows(arguments.output, collected(plan, path.parent))


def collected(plan: Plan, folder: Path) -> list[Row]:
    """A row a derived rate point, of networks that are derived already."""
    rows = []
    for name, network in plan.network.items():
        if network.of is None or not (folder / plan.runs / name / "log.jsonl").exists():
            continue
        trained, derived = events(folder / plan.runs / network.of), events(folder / plan.runs / name)
        (start, *_, end) = trained
        about = {
            "of": network.of,
            "anchor": plan.network[network.of].anchor,
            "kind": network.kind,
            "seed": start["recipe"]["seed"],
            "steps": start["recipe"]["pretrain"]["steps"],
            "minutes": round((end["time"] - start["time"]) / 60, 1),
        }
        for event in derived:
            if event["event"] == "derive":
                points = {key: [event[of][unit] for unit in ("bpp", "psnr")] for key, of in JUDGED.items()}
                at = {"position": event["position"], "seconds": event["seconds"]}
                rows.append({"network": name, **about, **at, **points})
    return rows


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def table(plan: Plan, rows: list[Row]) -> str:
    """Two tables: against steps alone of the same anchor, and against networks of that rate."""
    networks = dict.fromkeys(row["network"] for row in rows)
    anchors = {row["of"]: row[ALONE] for row in rows if row["position"] == row["anchor"]}
    trained = plan.system[plan.reference]
    reference = sorted((float(bpp), float(psnr)) for of, (bpp, psnr) in anchors.items() if of in trained)
    heads = [f"{ratio:g}" for ratio in plan.ratios]
    leads, losses = [], []
    for name in networks:
        own = [row for row in rows if row["network"] == name]
        of = own[0]["of"]
        rates = [ratio * anchors[of][0] for ratio in plan.ratios]
        alone, learned = curve(own, ALONE), curve(own, LEARNED)
        leads.append([name, f"{anchors[of][0]:.3f}", *(cell(alone, learned, rate) for rate in rates)])
        if not any(line[0] == f"{of}, {ALONE}" for line in losses):
            losses.append([f"{of}, {ALONE}", *(cell(reference, alone, rate) for rate in rates)])
        losses.append([name, *(cell(reference, learned, rate) for rate in rates)])
    losses.append(published(plan))
    return (
        "Against steps alone of the same anchor, by rate over the anchor's:\n\n"
        f"{markdown_table(['', 'bpp of the anchor', *heads], leads)}\n\n"
        "Against a network trained at that rate, steps alone:\n\n"
        f"{markdown_table(['', *heads], losses)}\n"
    )


def curve(rows: list[Row], key: str) -> list[Point]:
    return sorted((float(row[key][0]), float(row[key][1])) for row in rows)


if __name__ == "__main__":
    main()
