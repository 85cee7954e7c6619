"""What `--pack auto` chooses, with the packs that `experiments.packs.run make` made.

    python -m experiments.packs.auto DATA PACKS... [--every N]

DATA holds domains/NAME/test, kodak/ and photos768/; packs are called DOMAIN-... Counts of what every N-th
picture is given, and median milliseconds of choosing, one thread, go into auto.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path

from softstair.bundle import open_bundle, read_pack
from softstair.codec import Rate, choose_pack
from softstair.learn.data import load_pictures

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("packs", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    bundle = open_bundle()
    packs = [read_pack(path.read_bytes(), path.name) for path in arguments.packs]
    names = {pack.fingerprint: pack.name.partition("-")[0] for pack in packs} | {bundle.fingerprint: "none"}
    sets = {name: arguments.data / "domains" / name / "test" for name in names.values() if name != "none"}
    sets |= {name: arguments.data / name for name in ("kodak", "photos768")}
    counts: dict[str, Counter[str]] = {}
    taken = []
    for kind, folder in sets.items():
        counts[kind] = Counter()
        for pixels in load_pictures([folder])[:: arguments.every]:
            start = time.perf_counter()
            chosen = choose_pack(bundle, packs, pixels, Rate(), 1)
            taken.append(1000 * (time.perf_counter() - start))
            counts[kind][names[chosen.fingerprint]] += 1
        print(kind, dict(counts[kind]), flush=True)
    found = {"bundle": bundle.fingerprint.hex(), "packs": list(names.values()), "counts": counts}
    found["milliseconds"] = round(statistics.median(taken), 1)
    (HERE / "auto.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
