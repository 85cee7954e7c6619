"""ICC profiles for colours that a file tells by numbers alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# x and y of white, red, green and blue.
Chromaticities = tuple[float, ...]
_D65 = (0.3127, 0.3290)
SRGB_PRIMARIES: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# By the code of ITU-T H.273.
PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB_PRIMARIES,
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@dataclass(frozen=True)
class Curve:
    """From samples to light: a power, or sRGB's curve."""

    gamma: float | None = None

    def tag(self) -> bytes:
        """As an ICC parametric curve."""
        if self.gamma is not None:
            return b"para" + bytes(4) + struct.pack(">HHi", 0, 0, _fixed(self.gamma))
        numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        return b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, *map(_fixed, numbers))


def make_profile(name: str, curve: Curve, primaries: Chromaticities | None) -> bytes:
    """A display profile of version 4: grey, or of three primaries.

    Raises:
        ValueError: there is no light of such numbers.
    """
    tags = {b"desc": _text(name), b"cprt": _text("No copyright"), b"wtpt": _xyz(_D50)}
    if primaries is None:
        tags[b"kTRC"] = curve.tag()
    else:
        columns = _adapted(primaries)
        tags |= {key: _xyz(columns[:, at]) for at, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve.tag())
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    placed: dict[bytes, int] = {}
    for key, content in tags.items():
        if content not in placed:
            placed[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        table += key + struct.pack(">II", placed[content], len(content))
    size = start + len(body)
    space = b"GRAY" if primaries is None else b"RGB "
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04300000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *map(_fixed, _D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _adapted(chromaticities: Chromaticities) -> npt.NDArray[np.float64]:
    """XYZ of red, green and blue as columns, under D50."""
    white, *corners = (_light(*chromaticities[at : at + 2]) for at in (0, 2, 4, 6))
    columns = np.array(corners).T
    try:
        columns = columns * np.linalg.solve(columns, white)
    except np.linalg.LinAlgError as error:
        raise ValueError("The primaries lie on a line.") from error
    scale = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    adapted: npt.NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD @ columns
    return adapted


def _light(x: float, y: float) -> npt.NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _fixed(number: float) -> int:
    if not abs(number) < 1 << 15:
        raise ValueError(f"{number} has no place in a profile.")
    return round(float(number) * 65536)


def _xyz(values: npt.ArrayLike) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *map(_fixed, np.asarray(values).tolist()))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded
