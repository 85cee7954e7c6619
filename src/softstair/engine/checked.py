"""Networks whose outputs are looked at once a run, whatever engine runs them.

What a graph states of its shapes binds no engine, and a stranger's graph may give anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softstair.bundle import Bundle
from softstair.errors import CorruptStream, InvalidBundle, SoftstairError
from softstair.quantize.grids import STRIDE
from softstair.tiles import Box

from . import MeanInTurn, Planes, PreviewNetworks

# Latents beyond this are no picture's: where they overflow, it is the stream that made them up.
_LARGEST_LATENT = 1 << 12


class CheckedNetworks:
    """``PreviewNetworks`` that give float32 of the shape that is due, and finite numbers, or raise.

    unchecked: the same, as they are.

    Raises:
        InvalidBundle: by every method, if a graph gives anything else.
        CorruptStream: by every method of a decoder, if latents that no picture has overflow.
    """

    def __init__(self, networks: PreviewNetworks, bundle: Bundle) -> None:
        self.unchecked = networks
        self._channels = bundle.channels
        self._hyper = bundle.integers.scale.layers["hyper"].weight.shape[1]

    def analysis(self, picture: Planes) -> Planes:
        rows, columns = (side // STRIDE for side in picture.shape[2:])
        output = self.unchecked.analysis(picture)
        return _checked("analysis", output, (1, self._channels, rows, columns))

    def hyper_analysis(self, latents: Planes, gain: Planes, hat: Planes) -> Planes:
        rows, columns = (side // 2 for side in latents.shape[2:])
        output = self.unchecked.hyper_analysis(latents, gain, hat)
        return _checked("hyper_analysis", output, (1, self._hyper, rows, columns))

    def mean_base(self, z_hat: Planes, hat: Planes) -> Planes:
        rows, columns = (2 * side for side in z_hat.shape[2:])
        output = self.unchecked.mean_base(z_hat, hat)
        width = output.shape[1] if getattr(output, "ndim", 0) == 4 else 0
        return _checked("mean_base", output, (1, width, rows, columns), z_hat)

    def mean(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        return _checked("mean", self.unchecked.mean(known, base, phase), known.shape, known)

    def mean_in_turn(self, base: Planes, channels: int) -> MeanInTurn:
        return _CheckedInTurn(self.unchecked.mean_in_turn(base, channels))

    def synthesis(self, latents: Planes, hat: Planes, shown: Box | None = None) -> Planes:
        cells = Box(0, 0, *latents.shape[2:]) if shown is None else shown
        output = self.unchecked.synthesis(latents, hat, cells)
        return _checked("synthesis", output, (1, 3, STRIDE * cells.rows, STRIDE * cells.columns), latents)

    def preview(self, latents: Planes, hat: Planes) -> Planes:
        rows, columns = (STRIDE // 4 * side for side in latents.shape[2:])
        output = self.unchecked.preview(latents, hat)
        return _checked("preview", output, (1, 3, rows, columns), latents)

    def icon(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        """As of ``PreviewNetworks``."""
        output = self.unchecked.icon(known, base, phase)
        return _checked("icon", output, (1, known.shape[1] + 3, *known.shape[2:]), known)


class _CheckedInTurn:
    def __init__(self, mean: MeanInTurn) -> None:
        self._mean = mean
        self._largest = 0.0  # of the latents seen

    def see(self, phase: int, latents: Sequence[Planes]) -> None:
        self._largest = max(self._largest, *(float(np.abs(part).max(initial=0)) for part in latents))
        self._mean.see(phase, latents)

    def expect(self, phase: int) -> list[Planes]:
        means = self._mean.expect(phase)
        if not all(np.isfinite(part).all() for part in means):
            raise _not_finite("mean", self._largest)
        return means


def _checked(name: str, output: Planes, shape: tuple[int, ...], decoded: Planes | None = None) -> Planes:
    """The output itself. decoded: latents that it was made of, which a stream may have made up."""
    if not isinstance(output, np.ndarray) or output.dtype != np.float32 or output.shape != shape:
        found = getattr(output, "dtype", type(output).__name__), getattr(output, "shape", ())
        raise InvalidBundle(
            f"The graph {name} of the bundle gives {found[0]} of shape {found[1]} where float32 of shape "
            f"{shape} is due."
        )
    if not np.isfinite(output).all():
        raise _not_finite(name, 0 if decoded is None else float(np.abs(decoded).max()))
    return output


def _not_finite(name: str, largest: float) -> SoftstairError:
    """Whose fault it is. largest: of the latents that a stream made up."""
    if largest > _LARGEST_LATENT:
        return CorruptStream("The payload decodes to numbers that no picture has; the file is damaged.")
    return InvalidBundle(f"The graph {name} of the bundle gives numbers that are not finite.")
