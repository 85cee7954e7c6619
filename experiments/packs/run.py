"""The ladder: what every part of a pack is worth on pictures of a domain that it was not made of.

    python -m experiments.packs.run make DOMAINS [--domains screens ...] [--rungs tables ...] [--minutes M]
    python -m experiments.packs.run measure DOMAINS [--domains ...] [--rungs ...] [--minutes M] [--every N]
        [--exact] [--photographs FOLDER | --learned]
    both: [--bundle BUNDLE]

DOMAINS holds NAME/adapt and NAME/test. `make` adapts a bundle, by default the default one, as far as each
rung goes, and puts packs into runs/packs. `measure` codes every N-th test picture with them at four rate
positions; sums of bytes, the PSNR of all squared errors and means of SSIMULACRA 2 go into rows.json, from
which `python -m experiments.packs.page` writes results/packs.md. What is there for the same bundle, minutes
and pictures is not made or measured again. Without --exact nothing is coded exactly, so that bytes are those
of the networks and tables alone; with it files are as people get them. --photographs: pictures of a folder in
place of the domains', coded with the packs of these. --learned: those that packs were learned from, which no
pack can be expected to do better on others than on.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import torch
from PIL import Image

from softstair.bundle import Bundle, Pack, merged, open_bundle, read_pack, to_json, write_pack
from softstair.codec import Rate, decode_picture, encode_picture
from softstair.evaluate.metrics import ssimulacra2
from softstair.learn.data import Pixels, load_pictures
from softstair.learn.stages.adapt import Adaptation, Part, split, trained, with_context, with_tables
from softstair.pictures import Picture

HERE = Path(__file__).parent
POSITIONS = (40, 72, 104, 136)
AVIF_QUALITIES = (30, 50, 65, 80, 90)
RUNGS: dict[str, tuple[Part, ...]] = {
    "base": (),
    "tables": (),
    "context": (),
    "biases": ("biases",),
    "decoder": ("biases", "decoder"),
    "encoder": ("biases", "decoder", "encoder"),
    "pack": ("biases", "decoder", "encoder"),
    "full": ("full",),
}
_UNTRAINED = ("avif", "base", "tables", "context")
_WITH_CONTEXT = {"context": "tables", "pack": "encoder"}  # rungs that are another one and context networks
_LOOKS = ("look_at_cells", "find_ink")  # of softstair.codec.encoder: they say None of photographs
_RUNS = Path("runs/packs")
TEST, LEARNED = "test", "learned"  # sets of pictures


class Row(msgspec.Struct, frozen=True):
    """A rung on pictures, or AVIF.

    domain: what the pack is for. set: TEST, LEARNED or a folder's name. pictures: how many. bytes: of the
    pack. seconds: of a wall clock, to make it. points: bytes of all files, dB of their mean squared error and
    mean SSIMULACRA 2.
    """

    domain: str
    rung: str
    bundle: str
    minutes: float
    set: str
    pictures: int
    exact: bool
    steps: int
    bytes: int
    seconds: float
    points: list[tuple[float, float, float]]

    @property
    def key(self) -> tuple[object, ...]:
        """What is measured once."""
        return self.domain, self.rung, self.bundle, self.minutes, self.set, self.pictures, self.exact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["make", "measure"])
    parser.add_argument("root", type=Path)
    parser.add_argument("--domains", nargs="+", default=["screens", "rendered", "documents", "aerial"])
    parser.add_argument("--rungs", nargs="+", default=[*RUNGS, "avif"], choices=[*RUNGS, "avif"])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--learned", action="store_true")
    parser.add_argument("--bundle")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = open_bundle(arguments.bundle)
    for domain in arguments.domains:
        for rung in arguments.rungs:
            minutes = 0 if rung in _UNTRAINED else arguments.minutes
            if arguments.what == "make" and rung not in ("avif", "base"):
                make(bundle, arguments.root, domain, rung, minutes)
            elif arguments.what == "measure":
                measure(bundle, domain, rung, minutes, arguments)


def make(bundle: Bundle, root: Path, domain: str, rung: str, minutes: float) -> None:
    """A rung's pack, if it is not there."""
    path = _path(bundle, domain, rung, minutes)
    if path.exists():
        return
    start = time.monotonic()
    learning, held_back = split(load_pictures([root / domain / "adapt"]))
    settings = Adaptation(f"{domain}-{rung}", "unknown", minutes, RUNGS[rung])

    def say(line: str) -> None:
        print(domain, rung, line, flush=True)

    adapters, integers, steps = trained(bundle, learning, held_back, path.with_suffix(".run"), settings, say)
    pack = with_tables(bundle, adapters, integers, learning, settings, {"steps": steps})
    if rung in _WITH_CONTEXT:
        without = _path(bundle, domain, _WITH_CONTEXT[rung], minutes)
        _write(pack, without, steps, time.monotonic() - start)
        pack = with_context(bundle, pack, learning, held_back, say)
    _write(pack, path, steps, time.monotonic() - start)
    say("done")


def _write(pack: Pack, path: Path, steps: int, seconds: float) -> None:
    about = {"steps": steps, "seconds": seconds}
    manifest = msgspec.structs.replace(pack.manifest, provenance=about)
    write_pack(path, {**pack.entries, "pack.json": to_json(manifest)})


def _path(bundle: Bundle, domain: str, rung: str, minutes: float) -> Path:
    _RUNS.mkdir(parents=True, exist_ok=True)
    return _RUNS / f"{bundle.fingerprint.hex()}-{domain}-{rung}-{minutes:g}.pack"


def measure(bundle: Bundle, domain: str, rung: str, minutes: float, arguments: argparse.Namespace) -> None:
    """A row, if it is not there."""
    name, pictures = _pictures(domain, arguments)
    fingerprint, path = bundle.fingerprint.hex(), HERE / "rows.json"
    wanted = Row(domain, rung, fingerprint, minutes, name, len(pictures), arguments.exact, *(0, 0, 0.0, []))
    if any(row.key == wanted.key for row in _rows(path)):
        return
    changed, replaced = bundle, msgspec.structs.replace
    if rung not in ("base", "avif"):
        pack = read_pack(_path(bundle, domain, rung, minutes).read_bytes(), rung)
        changed, about = merged(bundle, pack), pack.manifest.provenance
        wanted = replaced(wanted, steps=about["steps"], bytes=pack.size, seconds=about["seconds"])
    with nullifying(arguments.exact):
        points = avif(pictures) if rung == "avif" else files(changed, pictures)
    rows = [*_rows(path), replaced(wanted, points=points)]  # read again: others may have written meanwhile
    path.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    print(domain, rung, name, points, flush=True)


def _pictures(domain: str, arguments: argparse.Namespace) -> tuple[str, list[Pixels]]:
    """What a row is measured on, and its name."""
    if arguments.photographs is not None:
        name, found = arguments.photographs.name, load_pictures([arguments.photographs])
    elif arguments.learned:
        name, found = LEARNED, split(load_pictures([arguments.root / domain / "adapt"]))[0]
    else:
        name, found = TEST, load_pictures([arguments.root / domain / "test"])
    return name, found[:: arguments.every]


def _rows(path: Path) -> list[Row]:
    return msgspec.json.decode(path.read_bytes(), type=list[Row]) if path.exists() else []


@contextmanager
def nullifying(exact: bool) -> Iterator[None]:
    """Without exact tiles, unless they are wanted."""
    if exact:
        yield
        return
    with patch.multiple("softstair.codec.encoder", **dict.fromkeys(_LOOKS, lambda *_: None)):
        yield


def files(bundle: Bundle, pictures: Sequence[Pixels]) -> list[tuple[float, float, float]]:
    def code(pixels: Pixels, position: float) -> tuple[int, Pixels]:
        rate = Rate(position=int(position))
        data = encode_picture(Picture(pixels), rate, bundle, threads=1).data
        return len(data), decode_picture(data, bundle, threads=1).rgb

    return curve(pictures, POSITIONS, code)


def avif(pictures: Sequence[Pixels]) -> list[tuple[float, float, float]]:
    """Pillow's default, 4:2:0 at speed 6."""

    def code(pixels: Pixels, quality: float) -> tuple[int, Pixels]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "AVIF", quality=int(quality))
        with Image.open(buffer) as image:
            return buffer.tell(), np.asarray(image.convert("RGB"))

    return curve(pictures, AVIF_QUALITIES, code)


def curve(
    pictures: Sequence[Pixels],
    qualities: Sequence[float],
    code: Callable[[Pixels, float], tuple[int, Pixels]],
) -> list[tuple[float, float, float]]:
    """Bytes of all files, dB of the squared error of all their samples, mean SSIMULACRA 2."""
    points = []
    for quality in qualities:
        size, error, score = 0, 0.0, 0.0
        for pixels in pictures:
            length, decoded = code(pixels, quality)
            size += length
            error += np.square(decoded.astype(np.float64) - pixels).sum()
            score += ssimulacra2(pixels, decoded) / len(pictures)
        mean = error / sum(pixels.size for pixels in pictures)
        points.append((float(size), 10 * math.log10(255**2 / mean), score))
    return points


if __name__ == "__main__":
    main()
