"""The decoder for browsers against ONNX Runtime, and what a page has to load: results/web.md.

python benchmarks/web.py PHOTO LARGE > results/web.md

PHOTO: of 768x512 pixels. LARGE: of 4000x3000 or more, cut to that; doubled, it stands for 24 megapixels
as well. Needs Node and npx. Times are CPU times of one thread, in turn, the least of several; WebAssembly
runs in V8, as in Chromium.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import softstair
from softstair.bundle import CONTEXT, Bundle
from softstair.codec import decode_view
from softstair.codec.decoder import View
from softstair.share import decoder_bundle

JS = Path(softstair.__file__).parent / "js"
NODE = shutil.which("node") or sys.exit("This needs Node.")
ROUNDS = 7
ALLOWED = (1e9, 5e8)  # the limit of the package, and about the least that 24 megapixels need
BUILDS = {
    "SIMD": ([], "softstair.wasm"),
    "relaxed SIMD": (["--experimental-wasm-relaxed-simd"], "softstair-relaxed.wasm"),
}
LOADED = ("index.js", "platform-browser.js", "worker.js", "serve.js", "core.js", "png.js")
MINIFY = ("npx", "--yes", "terser@5.51.4", "--module", "--compress", "--mangle", "--")
BUNDLES = ("photo", "photo-psnr")
MOST_BYTES = 60_000  # asked for, beside the bundle


class Decoder:
    """A Node process with one build, bundle and stream, and bytes that it may take."""

    def __init__(self, build: str, bundle: Path, stream: Path, allowed: float = 1e9) -> None:
        flags, wasm = BUILDS[build]
        command = [NODE, *flags, Path(__file__).with_suffix(".mjs"), JS / wasm, bundle, stream, str(allowed)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self._answer()

    def decode(self) -> float:
        """CPU milliseconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer()["cpu"])

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer


def native(data: bytes, bundle: Bundle) -> float:
    """CPU milliseconds of the Python package on one thread."""
    before = time.process_time()
    decode_view(data, View(), bundle, threads=1)
    return 1000 * (time.process_time() - before)


def brotli_bytes(paths: list[Path]) -> int:
    script = (
        "const z=require('zlib'),fs=require('fs');let n=0;"
        "for(const f of process.argv.slice(1))n+=z.brotliCompressSync(fs.readFileSync(f)).length;console.log(n)"  # noqa: E501
    )
    return int(
        subprocess.run([NODE, "-e", script, *paths], capture_output=True, text=True, check=True).stdout
    )


def minified(folder: Path) -> list[Path]:
    """What a page loads of the package, as bundlers ship it."""
    made = []
    for file in LOADED:
        text = subprocess.run([*MINIFY, JS / file], capture_output=True, text=True, check=True).stdout
        made.append(folder / file)
        made[-1].write_text(text)
    return made


def without_context(bundle: Bundle) -> Bundle:
    """The bundle without its context networks: what these take is what else it takes less."""
    entries = {name: content for name, content in bundle.entries.items() if name != CONTEXT}
    return Bundle(entries, bundle.origin)


def times(name: str, bundle: Bundle, pixels: np.ndarray, folder: Path) -> str:
    file, stream = folder / f"{name}.stairs", folder / f"{name}.stair"
    file.write_bytes(decoder_bundle(bundle))
    data = softstair.encode(pixels, quality=50, bundle=bundle)
    stream.write_bytes(data)
    decoders = {build: Decoder(build, file, stream) for build in BUILDS}
    native(data, bundle)
    least = dict.fromkeys(("native", *BUILDS), float("inf"))
    for _ in range(ROUNDS):
        least["native"] = min(least["native"], native(data, bundle))
        for build, decoder in decoders.items():
            least[build] = min(least[build], decoder.decode())
    cells = [f"{least['native']:.0f}"]
    cells += [f"{least[build]:.0f} ({least[build] / least['native']:.1f})" for build in BUILDS]
    cells += [f"{decoder.first['first']:.0f}" for decoder in decoders.values()]
    for decoder in decoders.values():
        decoder.close()
    return f"| {name} | {' | '.join(cells)} | {brotli_bytes([file]) / 1e6:.2f} |"


def memory(pixels: np.ndarray, stream: Path, bundle: Path, allowed: float) -> str:
    decoder = Decoder("SIMD", bundle, stream, allowed)
    decoder.close()
    megapixels, first = pixels.shape[0] * pixels.shape[1] / 1e6, decoder.first
    cells = (f"{allowed / 1e6:.0f}", f"{first['memory'] / 1e6:.0f}", f"{first['cpu'] / 1000:.1f}")
    return f"| {megapixels:.1f} | {' | '.join(cells)} |"


def main(photo: str, large: str) -> None:
    with tempfile.TemporaryDirectory() as scratch, Image.open(photo) as small, Image.open(large) as big:
        folder = Path(scratch)
        pixels, many = np.asarray(small.convert("RGB")), np.asarray(big.convert("RGB"))
        print("# The decoder for browsers\n\nWritten by `python benchmarks/web.py PHOTO LARGE`.\n")
        print(
            f"CPU milliseconds of one thread at {pixels.shape[1]}x{pixels.shape[0]}, least of {ROUNDS} in turn; in"  # noqa: E501
        )
        print(
            "brackets, times native ONNX Runtime. First picture: wall-clock milliseconds in a new process from"  # noqa: E501
        )
        print("reading the files on, compilation included. The bundle's decoder, compressed by brotli.\n")
        print("| bundle | native | SIMD | relaxed SIMD | first, SIMD | first, relaxed | bundle, MB |")
        print("| --- | --: | --: | --: | --: | --: | --: |")
        bundles = {name: softstair.open_bundle(name) for name in BUNDLES}
        bundles["photo without context"] = without_context(bundles["photo"])
        for name, bundle in bundles.items():
            print(times(name, bundle, pixels, folder), flush=True)
        loaded = brotli_bytes([JS / "softstair.wasm"]), brotli_bytes(minified(folder))
        wasm, script, most = (f"{count / 1e3:.1f} kB" for count in (*loaded, MOST_BYTES))
        print(
            f"\nBeside the bundle a page loads {sum(loaded) / 1e3:.1f} kB by brotli (asked: {most} at most):"
        )
        print(f"{wasm} of WebAssembly and {script} of JavaScript, minified.\n")
        print("Memory of the WebAssembly instance at its largest, where a page allows it as many MB, and CPU")
        print("seconds of all of it, reading and compiling included, by photo:\n")
        print("| megapixels | allowed | MB | seconds |\n| --: | --: | --: | --: |")
        many = many[:3000, :4000]
        for picture in (pixels, many, np.concatenate([many, many])):
            stream = folder / "large.stair"
            stream.write_bytes(
                softstair.encode(picture, quality=30, effort=1, bundle=softstair.open_bundle("photo"))
            )
            for allowed in ALLOWED:
                print(memory(picture, stream, folder / "photo.stairs", allowed), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
