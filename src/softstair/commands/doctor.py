"""softstair doctor."""

from __future__ import annotations

import platform
import statistics
import sys
import time
from importlib import metadata

import click

_PACKAGES = ("numpy", "onnxruntime", "pillow", "msgspec", "safetensors", "torch")


@click.command("doctor")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Cores to use; all by default.")
def command(jobs: int | None) -> None:
    """Check what runs on this machine, and how fast: a 768x512 picture there and back."""
    import numpy as np

    from softstair import _core, open_bundle
    from softstair.codec import Rate, decode_picture, encode_picture, usable_cores
    from softstair.pictures import Picture

    click.echo(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in _PACKAGES:
        click.echo(f"  {name:12} {_version(name)}")
    click.echo(f"  {'core':12} {'with' if _core.simd_available() else 'without'} vector kernels")
    bundle = open_bundle()
    click.echo(f"Bundle {bundle.name} {bundle.fingerprint.hex()}, {bundle.size / 1e6:.1f} MB")

    threads = jobs or usable_cores()
    rows, columns = np.mgrid[0:512, 0:768]
    wave = 127 + 60 * np.sin(rows / 23)[..., None] * np.cos(columns[..., None] / (17, 29, 41))
    picture = Picture(wave.astype(np.uint8))
    data = b""
    encode, decode = [], []
    for _ in range(4):
        start = time.perf_counter()
        data = encode_picture(picture, Rate(), bundle, threads=threads).data
        middle = time.perf_counter()
        decoded = decode_picture(data, bundle, threads=threads)
        encode.append(middle - start)
        decode.append(time.perf_counter() - middle)
    error = np.square(decoded.pixels.astype(float) - picture.pixels).mean()
    click.echo(
        f"768x512, {threads} threads: encode {1e3 * statistics.median(encode[1:]):.0f} ms, "
        f"decode {1e3 * statistics.median(decode[1:]):.0f} ms, {len(data)} bytes"
    )
    if error > 20:
        click.echo(f"A smooth test picture came back with a mean squared error of {error:.1f}.")
        sys.exit(1)
    click.echo("All is well.")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
