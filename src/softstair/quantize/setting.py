"""Everything that a rate position and a mode decide, from the integers of a trained codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from softstair import _core
from softstair.mode import POSITIONS_PER_LAYER, Mode

from .context import Context
from .rates import POSITIONS_PER_OCTAVE, POSITIONS_PER_POINT, hat_weights, interpolate, nearest_point
from .scale_network import ScaleWeights
from .staircase import Staircase, Thresholds, thresholds_at
from .tables import TableSet

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Coding:
    """A mode as encoder and decoder have it.

    staircase: what both know. tables: of y. rate_weight: squared steps that a bit is worth to an
    encoder. thresholds: of every rate point (``staircase.Encoding``); if any, they decide, not a search.
    context_in_search: the search counts bits as the context of a place would have them.
    """

    staircase: Staircase
    tables: TableSet
    rate_weight: float = 0.0
    thresholds: list[list[int]] = field(default_factory=list)
    context_in_search: bool = False


@dataclass(frozen=True)
class Setting:
    """All there is at a rate position in a mode, for both sides.

    model: how the core reads symbols. gain: float32 (C,), of latents where z is computed. step: float32
    (C,), latent units. inverse_step: one over it. grid: float32, where members of the fine grid lie, in
    steps; empty if uniform. hat: float32 (1, points), for the networks. rate_weight: squared steps that
    a bit is worth to an encoder. thresholds: where levels begin for an encoder; None if it searches or
    rounds. z_thresholds: the same for z. context_in_search: as of ``Coding``.
    """

    position: int
    mode: Mode
    model: _core.Model
    gain: Floats
    step: Floats
    inverse_step: Floats
    grid: Floats
    hat: Floats
    rate_weight: float
    thresholds: Thresholds | None
    z_thresholds: Thresholds | None
    context_in_search: bool


@dataclass(frozen=True)
class Integers:
    """The integer parts of a codec: all that decides how symbols are chosen and read.

    scale: the scale network. gains: e_c, int32 (points, C), so that a gain is ``2**((d + e_c) / 32)``.
    base: where table rows begin (``tables.RowRule``). z_tables: a row for every rate point and channel.
    codings: by mode. z_thresholds: of every rate point, as an encoder has them (``staircase.Encoding``).
    context: the context networks, if there are any; tables are measured with them.
    """

    scale: ScaleWeights
    gains: npt.NDArray[np.int32]
    base: int
    z_tables: TableSet
    codings: Mapping[Mode, Coding]
    z_thresholds: list[list[int]] = field(default_factory=list)
    context: Context = field(default_factory=Context)

    @property
    def channels(self) -> int:
        """Number of latents at a place."""
        return int(self.gains.shape[1])

    @property
    def points(self) -> int:
        """Number of rate points; positions run from 0 to 16 * (points - 1)."""
        return len(self.gains)

    @property
    def last_position(self) -> int:
        """The rate position of the finest steps; the coarsest have 0."""
        return (self.points - 1) * POSITIONS_PER_POINT

    def at(self, position: int, mode: Mode, *, simd: bool = True, layer: int = 0) -> Setting:
        """The setting of a rate position in a mode, with or without vector kernels.

        layer: of so many layers on, whose steps are those of the position halved as often.

        Raises:
            ValueError: the parts do not fit each other.
        """
        coding = self.codings[mode]
        finer = position + POSITIONS_PER_LAYER * layer
        exponent = (interpolate(self.gains, position) + finer).astype(np.int32)
        in_steps = exponent - np.int32(coding.staircase.step)
        inverse_step, grid = _power(in_steps), coding.staircase.grid(position)
        z_channels = self.hyper_channels
        place, hyper, signs = self._context if simd else self.context.build(z_channels, simd=False)
        z_tables = self.z_tables.select(nearest_point(position, self.points) * z_channels, z_channels)
        model = _core.Model(
            self.scale.core if simd else self.scale.build(simd=False),
            z_tables.core,
            coding.tables.core,
            self.base,
            coding.staircase.skip,
            interpolate(self.scale.rate_bias, finer),
            in_steps,
            mode.states,
            place,
            hyper,
            self._hyper_rate(position),
            signs,
            self._leaning(mode),
        )
        return Setting(
            finer,
            mode,
            model,
            gain=_power(exponent),
            step=np.float32(1) / inverse_step,
            inverse_step=inverse_step,
            grid=grid,
            hat=hat_weights(finer, self.points),
            rate_weight=coding.rate_weight,
            thresholds=thresholds_at(coding.thresholds, position, grid) if coding.thresholds else None,
            z_thresholds=thresholds_at(self.z_thresholds, position) if self.z_thresholds else None,
            context_in_search=coding.context_in_search,
        )

    @cached_property
    def _context(
        self,
    ) -> tuple[_core.PlaceNetwork | None, _core.HyperNetwork | None, _core.SignNetwork | None]:
        return self.context.build(self.hyper_channels, simd=True)

    def _leaning(self, mode: Mode) -> _core.Tables | None:
        """Tables of a mode for every lean of signs."""
        signs = self._context[2]
        if signs is None:
            return None
        if mode not in self._leaning_of_modes:
            self._leaning_of_modes[mode] = self.codings[mode].tables.core.leaning(signs)
        return self._leaning_of_modes[mode]

    @cached_property
    def _leaning_of_modes(self) -> dict[Mode, _core.Tables]:
        return {}

    @property
    def hyper_channels(self) -> int:
        """Number of channels of z."""
        return int(self.scale.layers["hyper"].weight.shape[1])

    def _hyper_rate(self, position: int) -> npt.NDArray[np.int32]:
        hyper = self.context.hyper
        return np.zeros(0, np.int32) if hyper is None else interpolate(hyper.rate, position)


def _power(exponent: npt.NDArray[np.int32]) -> Floats:
    """2**(exponent / 32)."""
    return np.exp2(exponent.astype(np.float64) / POSITIONS_PER_OCTAVE).astype(np.float32)
