"""What the mean network expects of a tile, phase by phase.

Where the picture goes on beyond the tile, the network is shown its mirror image: zeros, which
it knows from the borders of pictures, would cost a decibel or more on the pixels there.
Mirroring y^ around the last position keeps the classes of positions, that is, which channels
are known in a phase.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from softstair import _core
from softstair.engine import MeanInTurn, Networks, Planes
from softstair.quantize.phases import PHASES, PLACES, phase_slices
from softstair.quantize.setting import Setting

from .geometry import Borders

_MIRRORED = 2  # positions of y^, and of z^, that the mean network is shown beyond a tile


class Means:
    """What z^ says of the latents of a tile: what all phases share."""

    def __init__(
        self, networks: Networks, z_hat: Planes, hat: Planes, size: tuple[int, int], borders: Borders
    ) -> None:
        self._networks, self._size, self._borders = networks, size, borders
        rows, columns = size
        if borders.any:
            z_hat = borders.mirrored(z_hat, _MIRRORED, "symmetric")
        base = networks.mean_base(z_hat, hat)
        # z^ covers two positions each: of its margin, only the inner half is needed.
        beyond_top, beyond_left = _MIRRORED * borders.top, _MIRRORED * borders.left
        last_row = 2 * beyond_top + rows + _MIRRORED * borders.bottom
        last_column = 2 * beyond_left + columns + _MIRRORED * borders.right
        self._base = np.ascontiguousarray(base[:, :, beyond_top:last_row, beyond_left:last_column])

    def in_turn(self, channels: int) -> MeansInTurn | MeansOfLine:
        """The means of one phase after the other, from the first one on. channels: of the latents."""
        if min(self._size) < 2:
            return MeansOfLine(self, self._networks.mean)
        mean = self._networks.mean_in_turn(self._base, channels)
        return MeansInTurn(mean, channels, self._size, self._borders)

    def of_phase(
        self, network: Callable[[Planes, Planes, Planes], Planes], decoded: Planes, phase: int
    ) -> Planes:
        """What another network than the mean network makes of y^ (1, C, rows, columns) of earlier phases."""
        if not self._borders.any:
            return np.ascontiguousarray(network(decoded, self._base, _one_hot(phase))[0])
        known = self._borders.mirrored(decoded, _MIRRORED, "reflect")
        made = network(known, self._base, _one_hot(phase))
        return np.ascontiguousarray(self._borders.cut(made, _MIRRORED, *self._size)[0])


class MeansInTurn:
    """Means of one phase after the other.

    Each phase takes in what the one before it decoded and computes what it puts out, no more.
    """

    def __init__(self, mean: MeanInTurn, channels: int, size: tuple[int, int], borders: Borders) -> None:
        self._mean, self._channels, self._borders = mean, channels, borders
        rows, columns = size
        self._rows = _mirrored_lines(rows, borders.top, borders.bottom)
        self._columns = _mirrored_lines(columns, borders.left, borders.right)
        self._first: list[Planes] | None = mean.expect(0)  # of z alone, which a decoder has before any y

    def put_into(self, decoded: Planes, phase: int) -> None:
        """Write mu of a phase to where its y^ will be, given that of all phases before.

        decoded: (1, C, rows, columns).
        """
        top, left = self._start
        for part, place in zip(self.expect(decoded, phase), PLACES, strict=True):
            target = decoded[0][phase_slices(self._channels, phase, place)]
            rows, columns = target.shape[1:]
            target[:] = part[:, top : top + rows, left : left + columns]

    def put_back(self, decoded: Planes, phase: int, symbols: npt.NDArray[np.int16], setting: Setting) -> None:
        """Write y^ of a phase, given that of all phases before. symbols: (rows, columns, C)."""
        means, states = self.expect(decoded, phase), setting.mode.states
        step, planes = setting.step, decoded[0]
        _core.reconstruct_places(phase, symbols, states, setting.grid, means, *self._start, step, planes)

    def expect(self, decoded: Planes, phase: int) -> list[Planes]:
        """mu of a phase by class of positions, with those of the mirror image."""
        if phase:
            self._mean.see(phase - 1, [self._shown(decoded[0], phase - 1, place) for place in PLACES])
        means = self._mean.expect(phase) if self._first is None else self._first
        self._first = None
        return means

    @property
    def _start(self) -> tuple[int, int]:
        """Where the tile begins in planes with a mirror image, of a class."""
        return _MIRRORED // 2 * self._borders.top, _MIRRORED // 2 * self._borders.left

    def _shown(self, decoded: npt.NDArray[np.float32], phase: int, place: tuple[int, int]) -> Planes:
        """y^ of a phase at the places of a class, (C / 4, .., ..), with the mirror image."""
        part = decoded[phase_slices(self._channels, phase, place)]
        if not self._borders.any:
            return np.ascontiguousarray(part)
        rows, columns = self._rows[place[0] :: 2] // 2, self._columns[place[1] :: 2] // 2
        shown = np.empty((len(part), len(rows), len(columns)), np.float32)
        top, left = self._start
        bottom, right = top + part.shape[1], left + part.shape[2]
        shown[:, top:bottom, left:right] = part
        for row in (*range(top), *range(bottom, len(rows))):
            shown[:, row, left:right] = part[:, rows[row]]
        for column in (*range(left), *range(right, len(columns))):
            shown[:, :, column] = shown[:, :, left + columns[column]]
        return shown


class MeansOfLine:
    """The same for a tile of one row or column: its images have classes of positions that it has not."""

    def __init__(self, means: Means, network: Callable[[Planes, Planes, Planes], Planes]) -> None:
        self._means, self._network = means, network

    def put_into(self, decoded: Planes, phase: int) -> None:
        """As of ``MeansInTurn``."""
        mean = self._means.of_phase(self._network, decoded, phase)
        for place in PLACES:
            at = phase_slices(len(mean), phase, place)
            decoded[0][at] = mean[at]

    def put_back(self, decoded: Planes, phase: int, symbols: npt.NDArray[np.int16], setting: Setting) -> None:
        """As of ``MeansInTurn``."""
        self.put_into(decoded, phase)
        put_back(symbols, phase, setting, decoded)


def put_back(symbols: npt.NDArray[np.int16], phase: int, setting: Setting, decoded: Planes) -> None:
    """Add what symbols say to the means of a phase."""
    planes, states = decoded[0], setting.mode.states
    _core.reconstruct_phase(phase, symbols, states, setting.grid, planes, setting.step, planes)


def _mirrored_lines(count: int, before: bool, after: bool) -> npt.NDArray[np.intp]:
    """Which line of a tile each line is that the network is shown."""
    if not before and not after:
        return np.arange(count)
    return np.pad(np.arange(count), (_MIRRORED * before, _MIRRORED * after), mode="reflect")


def _one_hot(phase: int) -> Planes:
    """Zeros once all phases are known."""
    vector = np.zeros((1, PHASES), np.float32)
    vector[:, phase : phase + 1] = 1
    return vector
