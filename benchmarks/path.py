"""Milliseconds by stage and peak memory of the whole path, as a Markdown table.

    python benchmarks/path.py PICTURE... [--threads 1 2] [--runs 9] [--position 80] [--model BUNDLE]

Every (picture, threads) pair runs in a process of its own, so that peak memory is its own; times
are medians after one run to warm up. With two threads, symbols are read a phase ahead of the means, so that
stages add up to more than the total. `cold` is the whole command, start of Python included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from softstair import open_bundle
from softstair.codec import Rate, decode_picture, encode_picture
from softstair.codec.tile import TileCoder
from softstair.pictures import Picture

STAGES = {
    "analyse": "analysis",
    "code": "entropy networks and coder",
    "open_tile": "symbols",
    "read_phase": "symbols",
    "means_of": "means",
    "put_back": "means",
    "synthesise": "synthesis",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--position", type=int, default=80)
    parser.add_argument("--model", help="the shipped one by default")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments)))
        return
    print("| picture | threads | encode ms: analysis | entropy networks and coder | total |", end=" ")
    print("decode ms: symbols | means | synthesis | total | peak MB encode | decode |")
    print("|" + " --- |" * 11)
    for picture in arguments.pictures:
        for threads in arguments.threads:
            print(row(picture, threads, arguments), flush=True)
    cold(arguments.pictures[0], model_option(arguments.model))


def model_option(bundle: str | None) -> list[str]:
    return [] if bundle is None else ["--model", bundle]


def row(picture: Path, threads: int, arguments: argparse.Namespace) -> str:
    command = [sys.executable, __file__, str(picture), "--one", "--threads", str(threads)]
    command += ["--runs", str(arguments.runs), "--position", str(arguments.position)]
    command += model_option(arguments.model)
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ms = {name: f"{1e3 * value:.1f}" for name, value in result["seconds"].items()}
    return (
        f"| {result['size']} | {threads} | {ms['analysis']} | "
        f"{ms['entropy networks and coder']} | {ms['encode']} | "
        f"{ms['symbols']} | {ms['means']} | {ms['synthesis']} | {ms['decode']} | "
        f"{result['encode_mb']:.0f} | {result['decode_mb']:.0f} |"
    )


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Decoding comes first, from a file another process made, so that both peaks are seen."""
    path, threads, runs = arguments.pictures[0], arguments.threads[0], arguments.runs
    with Image.open(path) as image:
        picture = Picture(np.asarray(image.convert("RGB")))
    data = encode_elsewhere(path, arguments.position, model_option(arguments.model))
    bundle, rate = open_bundle(arguments.model), Rate(position=arguments.position)
    times: dict[str, list[float]] = {name: [] for name in {*STAGES.values(), "decode", "encode"}}
    spent = watch_stages()

    def run(name: str, action: Callable[[], object]) -> None:
        spent.clear()
        start = time.perf_counter()
        action()
        times[name].append(time.perf_counter() - start)
        for stage, seconds in spent.items():
            times[stage].append(seconds)

    for _ in range(runs + 1):
        run("decode", lambda: decode_picture(data, bundle, threads=threads))
    decode_mb = peak()
    for _ in range(runs + 1):
        run("encode", lambda: encode_picture(picture, rate, bundle, threads=threads))
    height, width = picture.pixels.shape[:2]
    return {
        "size": f"{width}x{height}",
        "seconds": {name: statistics.median(values[1:]) for name, values in times.items()},
        "decode_mb": decode_mb,
        "encode_mb": peak(),
    }


def watch_stages() -> Counter[str]:
    """Seconds by stage, summed over tiles, windows and threads; to be cleared before a run."""
    spent: Counter[str] = Counter()

    def watched(name: str, method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            start = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                spent[name] += time.perf_counter() - start

        return call

    for method, name in STAGES.items():
        setattr(TileCoder, method, watched(name, getattr(TileCoder, method)))
    return spent


def encode_elsewhere(path: Path, position: int, options: list[str]) -> bytes:
    """The file, made in a process of its own so that encoding does not count as decoding memory."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "picture.stair"
        command = [sys.executable, "-c", "from softstair.commands import main; main()", "encode", str(path)]
        subprocess.run(
            [*command, "-o", str(out), "--rate-position", str(position), *options],
            check=True,
            capture_output=True,
        )
        return out.read_bytes()


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cold(picture: Path, options: list[str], runs: int = 5) -> None:
    """Whole commands, from nothing to files."""
    base = [sys.executable, "-c", "from softstair.commands import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        stream, out = Path(folder) / "p.stair", Path(folder) / "p.jpg"
        for name, command in (
            ("encode", ["encode", str(picture), "-o", str(stream), "--force", "-q", "50"]),
            ("decode", ["decode", str(stream), "-o", str(out), "--force"]),
        ):
            seconds = []
            for _ in range(runs):
                start = time.perf_counter()
                subprocess.run([*base, *command, *options], check=True, capture_output=True)
                seconds.append(time.perf_counter() - start)
            print(f"\ncold `softstair {name}` of {picture.name}: {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
