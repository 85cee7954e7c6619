"""A picture: pixels with what belongs to them, and what there is to say of how it was read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from softstair.stream import Metadata

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Note:
    """What a person should know of a picture that was read or written.

    kind: a few words that are the same for all pictures of which this is to be said. text: one
    sentence without the picture's name.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Picture:
    """An 8-bit picture.

    pixels: uint8 (H, W, 3), or (H, W) for grey. alpha: uint8 (H, W) or None. notes: what is not
    as the source had it.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[Note, ...] = field(default=(), compare=False)

    @property
    def is_grey(self) -> bool:
        return self.pixels.ndim == 2

    @property
    def rgb(self) -> Pixels:
        """Pixels as (H, W, 3)."""
        if self.is_grey:
            return np.repeat(self.pixels[..., None], 3, axis=2)
        return self.pixels

    @property
    def array(self) -> Pixels:
        """Pixels with alpha as a last channel where there is one."""
        if self.alpha is None:
            return self.pixels
        colour = self.pixels[..., None] if self.is_grey else self.pixels
        return np.concatenate([colour, self.alpha[..., None]], axis=2)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels (H, W, ...) as a viewer shows them that finds an EXIF orientation of 1 to 8."""
    mirrored = pixels[:, ::-1] if orientation in (2, 4, 5, 7) else pixels
    quarters = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(mirrored, quarters))
