"""Compile the decoder to WebAssembly: python cpp/wasm/build.py FOLDER (needs the extra wasm, and npx).

Two files: softstair.wasm for every browser since 2023, and softstair-relaxed.wasm with fused
multiply-add for those that have relaxed SIMD. The same zig and Binaryen make the same bytes on every
machine. Everything is compiled anew: an object that was kept once ended in a file of no source.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADERS = ("cpp/src", "cpp/decoder")
FACE = "cpp/wasm/face_wasm"
KERNELS = "cpp/decoder/kernels_portable"  # all that differs between the two
# What takes the time is compiled for speed, the rest for size.
FAST = (KERNELS, "cpp/src/layers", "cpp/src/place_field", "cpp/src/level_reader")
# Their loops say themselves which of them are worth unrolling.
ROLLED = (KERNELS, "cpp/src/place_field")
SMALL = (
    *(
        f"cpp/src/{name}"
        for name in (
            "context",
            "pixels",
            "rans",
            "refinement",
            "scale_network",
            "tile_decoder",
            "trellis",
            "viterbi_avx2",
        )
    ),
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
            "picture",
            "prefix_code",
            "presence",
            "stream",
            "tile_reader",
            "vp8l",
        )
    ),
)
FEATURES = "generic+simd128+bulk_memory+sign_ext+nontrapping_fptoint"
BUILDS = {"softstair": FEATURES, "softstair-relaxed": FEATURES + "+relaxed_simd"}
FLAGS = (
    "-target",
    "wasm32-wasi",
    "-std=c++20",
    "-flto",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-fno-exceptions",  # nothing is thrown, see the face
    "-fno-rtti",
    "-ffunction-sections",
    "-fdata-sections",
    "-DNDEBUG",
    "-DSOFTSTAIR_SIMD",
    "-DSOFTSTAIR_BROWSER",
)
# To zig -Oz is -Os; its Clang knows better.
SIZE = ("-Os", "-Xclang", "-Oz")
EXPORTS = (
    "stair_alloc",
    "stair_block_free",
    "stair_bundle_fingerprint",
    "stair_dealloc",
    "stair_error_text",
    "stair_info",
    "stair_js_decode",
    "stair_js_open",
    "stair_metadata",
    "stair_symbol_hash",
)
LINK = ("-mexec-model=reactor", "-Wl,--gc-sections", "-Wl,--strip-all")
# Binaryen as npm has it: a fifth less after what LLVM leaves.
BINARYEN = ("npx", "--yes", "--package", "binaryen@132.0.0", "wasm-opt")
SHRINK = (
    "--flatten",
    "--rereloop",
    "-Oz",
    "-Oz",
    "--low-memory-unused",
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--enable-mutable-globals",
    "--enable-relaxed-simd",
)


def run(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], cwd=ROOT, check=True)


def zig(*arguments: str | Path) -> None:
    run(sys.executable, "-m", "ziglang", "c++", *FLAGS, *arguments)


def build(folder: Path) -> None:
    """Both files into a folder."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        objects = Path(scratch)
        # The face first: what it defines the libraries need not.
        shared = [
            compiled(source, FEATURES, objects) for source in (FACE, *FAST, *SMALL) if source != KERNELS
        ]
        for name, features in BUILDS.items():
            kernels = compiled(KERNELS, features, objects, f"{name}-kernels")
            linked, exports = objects / f"{name}.wasm", [f"-Wl,--export={export}" for export in EXPORTS]
            zig(f"-mcpu={FEATURES}", "-Os", *LINK, *exports, *shared, kernels, "-o", linked)
            run(*BINARYEN, *SHRINK, linked, "-o", folder / linked.name)


def compiled(source: str, features: str, folder: Path, name: str | None = None) -> Path:
    """The object file of a source."""
    made = folder / f"{name or Path(source).name}.o"
    headers = [f"-I{header}" for header in HEADERS]
    speed = ("-O2",) if source in FAST else SIZE
    loops = ("-fno-unroll-loops",) if source in ROLLED else ()
    zig(f"-mcpu={features}", *headers, *speed, *loops, "-c", f"{source}.cpp", "-o", made)
    return made


if __name__ == "__main__":
    build(Path(sys.argv[1]))
