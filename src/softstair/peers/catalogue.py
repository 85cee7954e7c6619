"""Which peers are installed, with which settings and at which qualities they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import version as version_of
from importlib.util import find_spec
from typing import Any

import PIL
from PIL import AvifImagePlugin, features

from softstair.errors import UsageError

from .codecs import CHOSEN_CELLS, HeicPeer, JpegXlPeer, Peer, PillowPeer

# About 0.1 to 2 bpp on Kodak.
_AVIF_QUALITIES = (12, 20, 30, 40, 50, 60, 70, 80, 88)
_AVIF_PSNR_QUALITIES = (8, 15, 25, 35, 45, 55, 65, 75, 82)
_HEIC_QUALITIES = (15, 20, 25, 30, 35, 40, 45, 50, 55, 60)
_JPEG_QUALITIES = (4, 7, 10, 20, 30, 45, 60, 75, 85, 91)
_WEBP_QUALITIES = (0, 5, 15, 30, 50, 70, 80, 88, 93)
_JPEG_2000_RATIOS = (240.0, 160.0, 96.0, 60.0, 40.0, 28.0, 20.0, 15.0, 12.0)
_JPEG_XL_DISTANCES = (24.0, 15.0, 10.0, 7.0, 5.0, 3.5, 2.5, 1.7, 1.2, 0.8)


def installed_peers() -> tuple[Peer, ...]:
    """All peers that this installation can run, each with qualities of about 0.1 to 2 bpp on Kodak.

    AVIF and HEIC run with their default tune, which does not aim at PSNR, but for the peer
    avif-444-psnr.
    """
    return tuple(peer for family in _installed_families().values() for peer in family)


def find_peers(names: Iterable[str]) -> tuple[Peer, ...]:
    """Peers by name, in the order asked for; each once.

    Args:
        names: of peers such as avif-444, of families such as avif, or ``all``.

    Raises:
        UsageError: a name is unknown, or what it needs is not installed.
    """
    families = _installed_families()
    known = {peer.name: [peer] for family in families.values() for peer in family}
    known |= families | {"all": list(installed_peers())}
    known |= {alias: families[name] for alias, name in _ALIASES.items() if name in families}
    wanted = list(names)
    if missing := [name for name in wanted if name not in known]:
        raise UsageError(f"No peer is called {', '.join(missing)}; installed are {', '.join(known)}.")
    return tuple(dict.fromkeys(peer for name in wanted for peer in known[name]))


def _installed_families() -> dict[str, list[Peer]]:
    return {name: build() for name, available, build in _FAMILIES if available()}


def _jpegs() -> list[Peer]:
    library = f"libjpeg-turbo {features.version('libjpeg_turbo') or 'absent'}"
    return [
        PillowPeer(
            f"jpeg-{digits}",
            f"{subsampling}, optimize, progressive",
            f"Pillow {PIL.__version__}, {library}",
            _JPEG_QUALITIES,
            "JPEG",
            (("subsampling", subsampling), ("optimize", True), ("progressive", True)),
            cells=8,
        )
        for digits, subsampling in (("420", "4:2:0"), ("444", "4:4:4"))
    ]


def _webp() -> list[Peer]:
    library = f"Pillow {PIL.__version__}, libwebp {features.version('webp')}"
    options = (("method", 6),)
    return [PillowPeer("webp", "lossy 4:2:0, method 6", library, _WEBP_QUALITIES, "WEBP", options, cells=16)]


def _avifs() -> list[Peer]:
    aom = AvifImagePlugin.get_codec_version("aom")
    library = f"Pillow {PIL.__version__}, libavif {features.version('avif')}, aom {aom}"
    common = (("codec", "aom"), ("max_threads", 1), ("autotiling", False))
    psnr = (("advanced", (("tune", "psnr"),)),)
    variants: list[tuple[str, str, int, str, tuple[int, ...], tuple[tuple[str, Any], ...]]] = [
        ("avif-420", "4:2:0", 6, "default tune", _AVIF_QUALITIES, ()),
        ("avif-444", "4:4:4", 6, "default tune", _AVIF_QUALITIES, ()),
        ("avif-420-s2", "4:2:0", 2, "default tune", _AVIF_QUALITIES, ()),
        ("avif-444-s2", "4:4:4", 2, "default tune", _AVIF_QUALITIES, ()),
        ("avif-444-psnr", "4:4:4", 6, "tune=psnr", _AVIF_PSNR_QUALITIES, psnr),
    ]
    return [
        PillowPeer(
            name,
            f"{subsampling}, speed {speed}, {tune}, one thread, one tile",
            library,
            qualities,
            "AVIF",
            (("subsampling", subsampling), ("speed", speed), *common, *more),
            cells=CHOSEN_CELLS,
        )
        for name, subsampling, speed, tune, qualities, more in variants
    ]


def _jpeg_2000() -> list[Peer]:
    library = f"Pillow {PIL.__version__}, OpenJPEG {features.version('jpg_2000')}"
    settings = "9-7 wavelet, by compression ratio, JP2 file"
    options = (("irreversible", True),)
    return [
        PillowPeer("jpeg2000", settings, library, _JPEG_2000_RATIOS, "JPEG2000", options),
    ]


def _jpeg_xl() -> list[Peer]:
    imagecodecs = import_module("imagecodecs")
    if not imagecodecs.JPEGXL.available:
        return []
    library = f"imagecodecs {imagecodecs.__version__}, {imagecodecs.jpegxl_version()}"
    return [
        JpegXlPeer(
            f"jxl-e{effort}",
            f"VarDCT, effort {effort}, by distance, one thread",
            library,
            _JPEG_XL_DISTANCES,
            effort,
        )
        for effort in (7, 9)
    ]


def _heics() -> list[Peer]:
    pillow_heif = import_module("pillow_heif")
    encoder = pillow_heif.libheif_info()["HEIF"]
    if not encoder:
        return []
    library = f"pillow-heif {version_of('pillow-heif')}, libheif {pillow_heif.libheif_version()}, {encoder}"
    return [
        HeicPeer(
            f"heic-{digits}", f"{name}, default preset and tune, one thread", library, _HEIC_QUALITIES, name
        )
        for digits, name in (("420", "4:2:0"), ("444", "4:4:4"))
    ]


_ALIASES = {"jp2": "jpeg2000"}
_FAMILIES: tuple[tuple[str, Callable[[], bool], Callable[[], list[Peer]]], ...] = (
    ("jpeg", lambda: bool(features.check("jpg")), _jpegs),
    ("jpeg2000", lambda: bool(features.check("jpg_2000")), _jpeg_2000),
    ("webp", lambda: bool(features.check("webp")), _webp),
    ("avif", lambda: bool(features.check("avif")), _avifs),
    ("jxl", lambda: find_spec("imagecodecs") is not None, _jpeg_xl),
    ("heic", lambda: find_spec("pillow_heif") is not None, _heics),
)
