"""The mean network asked for one phase after the other, as a decoder does.

Four runs of the whole network compute a third more than they must: in each, three quarters of the outputs
are thrown away, and what earlier phases said of the latents is added up again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from softstair import _core
from softstair.quantize.phases import PHASES, PLACES, phase_slices

if TYPE_CHECKING:
    from . import Planes
    from .mean_graph import MeanWeights

Run = Callable[..., "list[Planes]"]


class WholeMean:
    """By the whole network, whatever it is.

    mean: as of ``Networks``. base: its input. channels: of the latents.
    """

    def __init__(self, mean: Callable[[Planes, Planes, Planes], Planes], base: Planes, channels: int) -> None:
        self._mean, self._base = mean, base
        self._known = np.zeros((1, channels, *base.shape[2:]), np.float32)

    def see(self, phase: int, latents: Sequence[Planes]) -> None:
        for place, part in zip(PLACES, latents, strict=True):
            self._known[0][phase_slices(self._known.shape[1], phase, place)] = part

    def expect(self, phase: int) -> list[Planes]:
        mean = self._mean(self._known, self._base, np.eye(1, PHASES, phase, dtype=np.float32))
        return [mean[0][phase_slices(mean.shape[1], phase, place)] for place in PLACES]


class SplitMean:
    """By its parts: what phases say of the latents is summed up, and only what a phase puts out is computed.

    see, expect: run graphs of ``mean_graph``, the second that of a phase.
    """

    def __init__(
        self, weights: MeanWeights, see: Run, expect: Callable[[int, Planes], list[Planes]], base: Planes
    ) -> None:
        self._weights, self._see, self._expect = weights, see, expect
        self._sum = base + weights.known_bias[:, None, None]

    def see(self, phase: int, latents: Sequence[Planes]) -> None:
        inputs = {f"latents{i}": part.reshape(len(part), -1) for i, part in enumerate(latents)}
        inputs |= {f"weight{i}": w for i, w in enumerate(self._weights.of_known[phase])}
        seen = [
            part.reshape(-1, *of.shape[1:]) for part, of in zip(self._see(**inputs), latents, strict=True)
        ]
        _core.add_to_places(seen, self._sum[0])

    def expect(self, phase: int) -> list[Planes]:
        return [part[0] for part in self._expect(phase, self._sum)]
