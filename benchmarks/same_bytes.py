"""Hashes of what Softstair makes, to compare two versions of the code on one machine.

    python benchmarks/same_bytes.py > before.txt      # then change the code, and again
    diff before.txt after.txt

A line for every file: eight pictures in every mode of every shipped bundle at two rate positions, and
what they decode to. With the extra ``learn``, lines for a tiny network that is trained, derived, finetuned
and exported. Where the code means to change nothing, no line differs; between machines lines may, since
float networks choose the latents that are coded. Times go to standard error.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import softstair

ROOT = Path(__file__).resolve().parent.parent
POSITIONS = (40, 104)


def main() -> None:
    start = time.perf_counter()
    for name in ("photo", "photo-psnr"):
        bundle = softstair.open_bundle(name)
        for mode in bundle.modes:
            for label, picture in pictures():
                for position in POSITIONS:
                    data = softstair.encode(
                        picture, rate_position=position, mode=mode, bundle=bundle, threads=1
                    )
                    pixels = softstair.decode(data, bundle=bundle, threads=1)
                    print(name, mode, label, position, len(data), digest(data), digest(pixels.tobytes()))
            print(f"{name} {mode}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    try:
        import torch  # noqa: F401
    except ImportError:
        return
    with tempfile.TemporaryDirectory() as folder:
        for line in learned(Path(folder)):
            print(line, flush=True)
    print(f"learn: {time.perf_counter() - start:.1f} s", file=sys.stderr)


def pictures() -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Crops of a photograph of several sizes, one grey, one with alpha, one of two tiles."""
    with Image.open(ROOT / "examples" / "casa-mila.jpg") as image:
        photo = np.asarray(image.convert("RGB"))
    yield "corner", photo[:128, :192]
    yield "odd", photo[100:233, 200:331]
    yield "narrow", photo[:, 300:317]
    yield "flat", photo[5:22, :256]
    yield "pixel", photo[70:71, 80:81]
    yield "grey", photo[64:192, 64:192, 1]
    yield "alpha", np.dstack([photo[96:224, 96:224], photo[224:96:-1, 96:224, :1]])
    yield "tiles", np.concatenate([photo, photo[:, ::-1]] * 2, 1)[:72]


def learned(folder: Path) -> Iterator[str]:
    """Every stage on a tiny network."""
    sys.path.insert(0, str(ROOT))
    import torch
    from tests.tiny import write_data, write_recipe

    from softstair.learn.export.bundle import export_snapshot
    from softstair.learn.recipe import read_recipe
    from softstair.learn.stages.derive import derive
    from softstair.learn.stages.finetune import finetune
    from softstair.learn.stages.pretrain import pretrain

    torch.set_num_threads(1)
    write_data(folder)
    recipe = read_recipe(write_recipe(folder / "tiny.toml"))
    run = folder / "pretrain"
    pretrain(recipe, folder, run, torch.device("cpu"), time_budget=1e-9)
    pretrain(recipe, folder, run, torch.device("cpu"))
    snapshot = run / "snapshot.safetensors"
    yield f"pretrain {digest(snapshot.read_bytes())}"
    derive(recipe, snapshot, folder, folder / "derive", positions=(80, 96))
    staircases = folder / "derive" / "staircases.json"
    yield f"derive {digest(staircases.read_bytes())}"
    finetune(recipe, snapshot, folder, folder / "finetune")
    tuned = folder / "finetune" / "snapshot.safetensors"
    yield f"finetune {digest(tuned.read_bytes())}"
    for name, one, given in (("tuned", tuned, None), ("derived", snapshot, staircases)):
        bundle = export_snapshot(recipe, one, folder, folder / f"{name}.stairs", staircases=given)
        yield f"{name} {bundle.fingerprint.hex()} {bundle.manifest.encoding}"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


if __name__ == "__main__":
    main()
