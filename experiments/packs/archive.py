"""An archive made with a pack, opened with the flattened bundle by an installation of its own.

    python -m experiments.packs.archive PACK PICTURES OTHER

Every picture is encoded with the pack; OTHER, a virtual environment that holds softstair without any extra
and has no pack, decodes all files with what `softstair pack flatten` writes. Its pixels must be those that
the pack gives here. archive.json says how many there were.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

import softstair
from softstair.bundle import open_bundle, packed_bundle
from softstair.learn.data import load_pictures

HERE = Path(__file__).parent


def main(pack: str, pictures: str, other: str) -> None:
    bundle = open_bundle(pack=pack)
    with tempfile.TemporaryDirectory() as folder:
        archive, opened = Path(folder) / "archive", Path(folder) / "opened"
        archive.mkdir()
        flat = archive / "flat.stairs"
        flat.write_bytes(packed_bundle(bundle.entries))
        expected = []
        for index, pixels in enumerate(load_pictures([Path(pictures)])):
            data = softstair.encode(pixels, bundle=bundle)
            (archive / f"{index:03d}.stair").write_bytes(data)
            expected.append(softstair.decode(data, bundle=bundle))
        command = [Path(other).absolute() / "bin" / "softstair", "decode", archive, "-o", opened]
        bare = {"PATH": os.environ["PATH"], "HOME": folder}
        subprocess.run([*command, "--model", flat], check=True, env=bare, cwd=folder)
        found = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(opened.glob("*.png"))]
        same = sum(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        row = {
            "pack": bundle.name,
            "bundle": bundle.fingerprint.hex(),
            "flattened, bytes": flat.stat().st_size,
            "files": len(expected),
            "bytes": sum(path.stat().st_size for path in archive.glob("*.stair")),
            "the same pixels": same,
        }
    print(row)
    (HERE / "archive.json").write_bytes(msgspec.json.format(msgspec.json.encode(row), indent=1) + b"\n")
    if same != len(expected):
        raise SystemExit("Pixels differ.")


if __name__ == "__main__":
    main(*sys.argv[1:])
