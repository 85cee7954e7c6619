"""Compile the decoder to WebAssembly: python cpp/wasm/build.py FOLDER (needs the extra wasm).

Two files: softstair.wasm for every browser since 2023, and softstair-relaxed.wasm with fused
multiply-add for those that have relaxed SIMD. The same zig makes the same bytes on every machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FACE = "cpp/wasm/face_wasm"
HEADERS = ("cpp/src", "cpp/decoder")
# What takes the time is compiled for speed, the rest for size.
FAST = (
    "cpp/src/layers",
    "cpp/src/scale_network",
    "cpp/src/context",
    "cpp/src/tile_decoder",
    "cpp/decoder/kernels_portable",
    "cpp/decoder/picture",
    "cpp/decoder/tile_reader",
)
SMALL = (
    "cpp/src/rans",
    "cpp/src/trellis",
    "cpp/src/viterbi_avx2",
    *(
        f"cpp/decoder/{name}"
        for name in (
            "bundle",
            "checksums",
            "entries",
            "face",
            "inflate",
            "json",
            "network",
            "onnx",
            "prefix_code",
            "presence",
            "stream",
            "vp8l",
        )
    ),
)
FEATURES = "generic+simd128+bulk_memory+sign_ext+nontrapping_fptoint"
KERNELS = "cpp/decoder/kernels_portable"  # all that differs between the two
BUILDS = {"softstair": FEATURES, "softstair-relaxed": FEATURES + "+relaxed_simd"}
FLAGS = (
    "-target",
    "wasm32-wasi",
    "-std=c++20",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fdata-sections",
    "-DNDEBUG",
    "-DSOFTSTAIR_SIMD",
)
LINK = ("-mexec-model=reactor", "-Wl,--gc-sections", "-Wl,--strip-all", "-Wl,--export-dynamic")


def zig(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "ziglang", "c++", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True)


def newest_header() -> float:
    return max(path.stat().st_mtime for folder in HEADERS for path in (ROOT / folder).glob("*.[hi]*"))


def build(folder: Path) -> None:
    """Both files into a folder; objects beside them are kept."""
    folder = folder.resolve()
    objects = folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    # The face first: what it defines the libraries need not.
    shared = [compiled(source, FEATURES, objects) for source in (FACE, *FAST, *SMALL) if source != KERNELS]
    for name, features in BUILDS.items():
        kernels = compiled(KERNELS, features, objects, f"{name}-kernels")
        zig(*FLAGS, f"-mcpu={FEATURES}", "-O3", *LINK, *shared, kernels, "-o", folder / f"{name}.wasm")


def compiled(source: str, features: str, folder: Path, name: str | None = None) -> Path:
    """The object file of a source, made anew if that or a header changed."""
    made = folder / f"{name or Path(source).name}.o"
    changed = max(newest_header(), (ROOT / f"{source}.cpp").stat().st_mtime)
    if not made.exists() or made.stat().st_mtime < changed:
        headers = (f"-I{header}" for header in HEADERS)
        speed = "-O3" if source in FAST else "-Os"
        zig(*FLAGS, f"-mcpu={features}", *headers, speed, "-c", f"{source}.cpp", "-o", made)
    return made


if __name__ == "__main__":
    build(Path(sys.argv[1]))
