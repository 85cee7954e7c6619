"""Softstair as a codec to be measured, with what its own tables say of its payload."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path

import softstair
from softstair import _core
from softstair.bundle import Bundle, open_bundle, to_json
from softstair.codec import Encoded, Rate, choose_mode, decode_picture, encode_picture
from softstair.errors import BundleError, UsageError
from softstair.pictures import picture_from
from softstair.quantize.grids import STRIDE
from softstair.quantize.rates import POSITIONS_PER_POINT

from .data import Pixels


@dataclass(frozen=True)
class Softstair:
    """A bundle with rate positions; ``softstair_codec`` makes one.

    source: of the bundle, as for ``open_bundle``. bundle, fingerprint: its name and what decides
    decoding, hex. qualities: rate positions.
    """

    name: str
    settings: str
    version: str
    qualities: tuple[float, ...]
    source: str | None
    bundle: str
    fingerprint: str
    mode: str
    threads: int

    @property
    def cells(self) -> int:
        """Pixels a side that a latent stands for."""
        return STRIDE

    def encode_counted(self, pixels: Pixels, quality: float) -> Encoded:
        """A .stair file with its payload's bytes and what the tables charge for them, in bits."""
        rate = Rate(position=int(quality))
        return encode_picture(picture_from(pixels), rate, self.open(), mode=self.mode, threads=self.threads)

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """A .stair file at a rate position."""
        return self.encode_counted(pixels, quality).data

    def decode(self, data: bytes) -> Pixels:
        """Pixels of a .stair file, uint8 (H, W, 3)."""
        return decode_picture(data, self.open(), threads=self.threads).rgb

    def open(self) -> Bundle:
        """The bundle.

        Raises:
            BundleError: it is missing, damaged or no longer the one that the run began with.
        """
        bundle = open_bundle(self.source)
        if bundle.fingerprint.hex() != self.fingerprint:
            raise BundleError(
                f"Bundle {bundle.origin} was {self.fingerprint} when the run began and is "
                f"{bundle.fingerprint.hex()} now; start again."
            )
        return bundle


def softstair_codec(
    source: str | Path | None = None,
    positions: Iterable[int] | None = None,
    *,
    mode: str | None = None,
    threads: int = 1,
) -> Softstair:
    """Softstair with a bundle, to be measured.

    Args:
        source: of the bundle, as for ``open_bundle``; by default the shipped one.
        positions: rate positions, 1/32 octave of step size; by default all rate points.
        mode: how symbols are chosen; by default the bundle's own.
        threads: of the networks, for a picture.

    Raises:
        BundleError: the bundle is missing or damaged.
        UsageError: a mode or a rate position that the bundle does not have, or no position.
    """
    origin = None if source is None else str(source)
    bundle = open_bundle(origin)
    mode, last = choose_mode(bundle, mode=mode), bundle.last_position
    chosen = tuple(range(0, last + 1, POSITIONS_PER_POINT) if positions is None else positions)
    if not chosen or any(not 0 <= position <= last for position in chosen):
        raise UsageError(f"Rate positions must be from 0 to {last}, not {list(chosen)}; name at least one.")
    encoder = hashlib.sha256(bundle.graph("analysis") + bundle.graph("hyper_analysis"))
    encoder.update(to_json(bundle.manifest.encoding))
    return Softstair(
        name=f"softstair-{bundle.name}-{mode}",
        settings=f"mode {mode}, by rate position, networks with threads={threads}",
        version=(
            f"softstair {softstair.__version__} code {_code_hash()}, encoder "
            f"{encoder.hexdigest()[:16]}, onnxruntime {version_of('onnxruntime')}"
        ),
        qualities=tuple(map(float, chosen)),
        source=origin,
        bundle=bundle.name,
        fingerprint=bundle.fingerprint.hex(),
        mode=mode,
        threads=threads,
    )


def _code_hash() -> str:
    """Of all code that encodes and decodes: rows measured with other code are not reused."""
    root = Path(softstair.__file__).parent
    paths = [*(root / f"{name}.py" for name in ("stream", "mode")), Path(_core.__file__)]
    for folder in ("bundle", "codec", "engine", "quantize"):
        paths += sorted((root / folder).glob("*.py"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]
