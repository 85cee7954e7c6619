"""What derivations cost by the runs' own judgement: held-out crops, tables measured on training crops.

    python -m experiments.anchors.held_out experiments/anchors/plan-scratch.toml -o ROWS.json
    python -m experiments.anchors.held_out experiments/anchors/plan-scratch.toml --table ROWS.json

The first collects what the stage ``derive`` wrote into the logs of a plan that is trained, with each of its
seeds: at every rate point bits a pixel and PSNR of twelve crops of 256 with steps alone, and with what was
learned. Rows of seeds that are not here stay as they are. The second compares them at the plan's ratios of
the anchor's rate: with steps alone of the same anchor, and, from the lowest anchor's rate to the highest's,
with a network trained at that rate, between anchors by interpolation.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from experiments.anchors.run import Plan, Point, extra_bits, published
from experiments.harness import Row, asked, over_seeds, read_rows, write_rows

from softstair.evaluate import markdown_table

ALONE, LEARNED = "steps alone", "learned"
JUDGED = {ALONE: "rounding", LEARNED: "learned"}  # in the log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("plan", type=Path)
    path = parser.parse_known_args()[0].plan
    plan = msgspec.toml.decode(path.read_bytes(), type=Plan)
    arguments = asked(parser, partial(table, plan))
    runs = (path.parent / plan.runs).resolve()
    plans = [
        msgspec.structs.replace(plan, runs=str(one)) for one in sorted(runs.parent.glob(f"{runs.name}*"))
    ]
    found = [row for one in plans for row in collected(one, path.parent)]
    seeds = {row["seed"] for row in found}
    kept = [row for row in read_rows(arguments.output) if row["seed"] not in seeds]
    write_rows(arguments.output, sorted(kept + found, key=lambda row: int(row["seed"])))


def collected(plan: Plan, folder: Path) -> list[Row]:
    """A row a derived rate point, of networks that are derived already."""
    rows = []
    for name, network in plan.network.items():
        if network.of is None or not (folder / plan.runs / name / "log.jsonl").exists():
            continue
        trained, derived = events(folder / plan.runs / network.of), events(folder / plan.runs / name)
        start, steps = trained[0], trained[0]["recipe"]["pretrain"]["steps"]
        end = next(one for one in trained if one["event"] == "validate" and one["step"] == steps)
        about = {
            "of": network.of,
            "anchor": plan.network[network.of].anchor,
            "kind": network.kind,
            "seed": start["recipe"]["seed"],
            "steps": steps,
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
    seeds = sorted({row["seed"] for row in rows})
    heads = [f"{ratio:g}" for ratio in plan.ratios]
    of_seeds = [compared(plan, [row for row in rows if row["seed"] == seed]) for seed in seeds]
    leads, losses = (
        [[name, *(shown([lines[name][i] for lines in part]) for i in range(len(heads)))] for name in part[0]]
        for part in zip(*of_seeds, strict=True)
    )
    for line in leads:
        line.insert(1, f"{rate_of_anchor(rows, line[0]):.3f}")
    several = f", means of seeds {', '.join(map(str, seeds))} and each" if len(seeds) > 1 else ""
    return (
        f"Against steps alone of the same anchor, by rate over the anchor's{several}:\n\n"
        f"{markdown_table(['', 'bpp of the anchor', *heads], leads)}\n\n"
        f"Against a network trained at that rate, steps alone{several}:\n\n"
        f"{markdown_table(['', *heads], [*losses, published(plan)])}\n"
    )


def compared(plan: Plan, rows: list[Row]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Extra bits in per cent at the plan's ratios, of rows of one seed, by name of a line of either table."""
    networks = dict.fromkeys(row["network"] for row in rows)
    anchors = {row["of"]: row[ALONE] for row in rows if row["position"] == row["anchor"]}
    trained = plan.system[plan.reference]
    reference = sorted((float(bpp), float(psnr)) for of, (bpp, psnr) in anchors.items() if of in trained)
    leads, losses = {}, {}
    for name in networks:
        own = [row for row in rows if row["network"] == name]
        of = own[0]["of"]
        rates = [ratio * anchors[of][0] for ratio in plan.ratios]
        alone, learned = curve(own, ALONE), curve(own, LEARNED)
        leads[name] = [extra_bits(alone, learned, rate) for rate in rates]
        losses[f"{of}, {ALONE}"] = [extra_bits(reference, alone, rate) for rate in rates]
        losses[name] = [extra_bits(reference, learned, rate) for rate in rates]
    return leads, losses


def rate_of_anchor(rows: list[Row], network: str) -> float:
    """Bits a pixel of steps alone at the position that a network's anchor was trained at, mean of seeds."""
    own = [row for row in rows if row["network"] == network and row["position"] == row["anchor"]]
    return statistics.mean(float(row[ALONE][0]) for row in own)


def shown(values: list[float]) -> str:
    """Extra bits over seeds; a dash where a seed has no such rate."""
    if any(math.isnan(value) for value in values):
        return "-"
    return over_seeds(values) if len(values) > 1 else f"{values[0]:+.1f} %"


def curve(rows: list[Row], key: str) -> list[Point]:
    return sorted((float(row[key][0]), float(row[key][1])) for row in rows)


if __name__ == "__main__":
    main()
