"""How much of files as people get them a pack can change at all: bytes that are not exact tiles.

    python -m experiments.packs.shares DOMAINS

DOMAINS holds NAME/test. Files of the default bundle at two rate positions; shares.json, from which
`python -m experiments.packs.page` writes a table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
from experiments.packs.run import HERE

from softstair.bundle import Bundle, open_bundle
from softstair.codec import Rate, encode_picture
from softstair.learn.data import Pixels, load_pictures
from softstair.pictures import Picture
from softstair.stream import NO_BUNDLE, read_exact_payload, read_stream

POSITIONS = (72, 104)
DOMAINS = ("screens", "documents", "rendered", "aerial")


class Share(msgspec.Struct, frozen=True):
    """bytes: of all files. learned: those that no exact pixel takes. exact: files of which all is exact."""

    domain: str
    position: int
    pictures: int
    bytes: int
    learned: int
    exact: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("domains", type=Path)
    arguments = parser.parse_args()
    bundle = open_bundle()
    shares = []
    for domain in DOMAINS:
        pictures = load_pictures([arguments.domains / domain / "test"])
        shares += [measured(bundle, domain, pictures, position) for position in POSITIONS]
        print(shares[-len(POSITIONS) :], flush=True)
    (HERE / "shares.json").write_bytes(msgspec.json.format(msgspec.json.encode(shares), indent=1) + b"\n")


def measured(bundle: Bundle, domain: str, pictures: list[Pixels], position: int) -> Share:
    """Of all files of a domain's pictures at a rate position."""
    size = learned = exact = 0
    for pixels in pictures:
        data = encode_picture(Picture(pixels), Rate(position=position), bundle, threads=1).data
        stream = read_stream(data)
        images = sum(len(read_exact_payload(stream.tiles[index], index).image) for index in stream.exact)
        size += len(data)
        learned += len(data) - images
        exact += stream.header.fingerprint == NO_BUNDLE
    return Share(domain, position, len(pictures), size, learned, exact)


if __name__ == "__main__":
    main()
