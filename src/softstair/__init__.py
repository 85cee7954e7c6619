"""Softstair: a learned image codec whose files decode on every machine, on a CPU.

data = softstair.encode(image, quality=75)     # bytes of a .stair file
pixels = softstair.decode(data)                # uint8 (H, W, 3)

What is offered is loaded when it is first asked for, so that the command starts at once.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softstair.bundle import Bundle, open_bundle
    from softstair.calls import StreamInfo, decode, encode, info, latents
    from softstair.codec import Latents, Reader, truncate
    from softstair.errors import (
        BundleError,
        PartialPicture,
        PictureChanged,
        SoftstairError,
        StreamError,
        UsageError,
    )

__version__ = "0.1.0"
__all__ = [
    "Bundle",
    "BundleError",
    "Latents",
    "PartialPicture",
    "PictureChanged",
    "Reader",
    "SoftstairError",
    "StreamError",
    "StreamInfo",
    "UsageError",
    "__version__",
    "decode",
    "encode",
    "info",
    "latents",
    "open_bundle",
    "truncate",
]


# Where what is offered lies, if not among the errors.
_PLACES = dict.fromkeys(("StreamInfo", "decode", "encode", "info", "latents"), "softstair.calls")
_PLACES |= dict.fromkeys(("Latents", "Reader", "truncate"), "softstair.codec")
_PLACES |= dict.fromkeys(("Bundle", "open_bundle"), "softstair.bundle")


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_PLACES.get(name, "softstair.errors")), name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'softstair' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
