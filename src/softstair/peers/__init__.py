"""Codecs that people have, to stand beside Softstair: run for real, found by name, fitted to a size.

Nothing but Pillow is needed; JPEG XL and HEIC are there when their libraries are installed.
"""

from __future__ import annotations

from .catalogue import find_peers, installed_peers
from .codecs import Codec, HeicPeer, JpegXlPeer, Peer, PillowPeer, Pixels
from .fit import Fitted, Fitter

__all__ = [
    "Codec",
    "Fitted",
    "Fitter",
    "HeicPeer",
    "JpegXlPeer",
    "Peer",
    "PillowPeer",
    "Pixels",
    "find_peers",
    "installed_peers",
]
