"""What a picture can be looked at as, and what is known of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from softstair.pictures import Picture

from .display import upright
from .facts import Facts

ORIGINAL, OWN, FILE = "original", "softstair", "file"

Check = Callable[[], None]  # raises where the work is not wanted any more


@dataclass(frozen=True)
class Choice:
    """A view that can be asked for. settings: of its codec, for people to read."""

    codec: str
    label: str
    settings: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures of a view.

    position: the rate position that it belongs to; None where it has nothing to do with it. knob:
    the codec's own setting, in words. bpp: bits per pixel. psnr: dB (RGB), over what can be seen;
    None where equal or without an original. encode_ms, decode_ms: in this process, networks loaded.
    """

    codec: str
    position: int | None
    knob: str
    file_bytes: int
    bpp: float
    psnr: float | None = None
    encode_ms: float | None = None
    decode_ms: float | None = None


@dataclass(frozen=True)
class View:
    """A picture as a codec brings it back."""

    figures: Figures
    picture: Picture


@dataclass(frozen=True)
class Description:
    """A picture for the page. width, height: pixels, as it is seen. facts: names and values."""

    name: str
    width: int
    height: int
    facts: Facts
    choices: tuple[Choice, ...]


Maker = Callable[[int, Check], View]  # of a rate position
Makers = dict[str, tuple[Choice, Maker]]  # by codec, in the order of the page


def describe(name: str, picture: Picture, facts: Facts, makers: Makers) -> Description:
    """What the page says of a picture before anything is coded."""
    height, width = upright(picture).pixels.shape[:2]
    return Description(name, width, height, facts, tuple(choice for choice, _ in makers.values()))
