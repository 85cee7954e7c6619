"""Symbols of many crops, as networks of the same place are trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair.quantize.context import MEAN_PLACES, NEAR
from softstair.quantize.grids import MAGNITUDE
from softstair.quantize.phases import PHASES, phase_map

MOST_HALF_STEPS = 127  # that are told apart
_CLASSES = 4  # places of a square of 2x2
_PHASES = phase_map(PHASES, 2, 2).reshape(PHASES, _CLASSES)  # of a group, by class of place


@dataclass(frozen=True)
class Sample:
    """A tile as a search decided it, phase by phase: int16 (4, h, w, C / 4), zero where nothing is coded.

    position: its rate. rows: of the scale network; -1 where nothing is coded. levels, quantizers: as they
    are coded.
    """

    position: int
    rows: npt.NDArray[np.int16]
    levels: npt.NDArray[np.int16]
    quantizers: npt.NDArray[np.int16]


class Symbols:
    """Symbols of samples of one size, with room for neighbours.

    Places of a group that one phase codes lie together: (groups, crops * 4 * (h / 2 + 1) * (w / 2 + 2), G),
    with a line above and columns beside them where nothing is coded.
    """

    def __init__(self, samples: Iterable[Sample], states: int) -> None:
        """states: of the trellis that chose them."""
        self.quantizers = 1 if states == 1 else 2
        codes, half_steps, positions = [], [], []
        for sample in samples:
            self._sides = tuple(side // 2 for side in sample.rows.shape[1:3])
            planes = _by_group(sample, states)
            codes.append(planes[0])
            half_steps.append(planes[1])
            positions.append(sample.position)
        self.positions = torch.tensor(positions)
        self._codes, self._half_steps = torch.cat(codes, 1), torch.cat(half_steps, 1)
        self.group = self._codes.shape[2]
        # Both sides of a trellis: magnitude_of in cpp/src/scale_network.hpp.
        unit = float(1 << MAGNITUDE.bits)
        steps = torch.arange(MOST_HALF_STEPS + 1) / 2
        self.magnitudes = (
            torch.floor(torch.log2(1 + steps).clamp(max=MAGNITUDE.high / unit) * unit + 0.5) / unit
        )

    @property
    def near(self) -> list[int]:
        """How far away the places of ``NEAR`` are."""
        return [down // 2 * (self._sides[1] + 2) + right // 2 for down, right in NEAR]

    def drawn(self, count: int, shares: Tensor | None = None) -> Tensor:
        """So many places, (N,); of crops by their shares."""
        crops = len(self.positions)
        crop = (
            torch.randint(crops, (count,))
            if shares is None
            else torch.multinomial(shares, count, replacement=True)
        )
        height, width = self._sides
        line = crop * _CLASSES + torch.randint(_CLASSES, (count,))
        line = line * (height + 1) + 1 + torch.randint(height, (count,))
        return line * (width + 2) + 1 + torch.randint(width, (count,))

    def at(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows (-1 where nothing is coded), magnitudes of levels, quantizers, half steps: (groups, N, G)."""
        codes, half_steps = self._codes[:, places].long(), self._half_steps[:, places].long()
        rows = torch.div(codes, self.quantizers, rounding_mode="floor")
        return rows, (half_steps.abs() + 1) // 2, codes - rows * self.quantizers, half_steps

    def phases_of(self, places: Tensor) -> Tensor:
        """In which phase each group is coded there, (groups, N)."""
        place = self.line_of(places) // (self._sides[0] + 1) % _CLASSES
        return torch.from_numpy(_PHASES)[:, place]

    def line_of(self, places: Tensor) -> Tensor:
        """The number of their line among all."""
        return places // (self._sides[1] + 2)

    def density(self) -> Tensor:
        """How many symbols are not zero, of each crop."""
        there = [(group != 0).unflatten(0, (len(self.positions), -1)) for group in self._half_steps]
        return torch.stack([one.sum((1, 2)) for one in there]).sum(0) / there[0][0].numel() / PHASES

    def counts(self, rows: int) -> Tensor:
        """How often each row has symbols of so many half steps, (rows, MOST_HALF_STEPS + 1)."""
        total = torch.zeros(rows * (MOST_HALF_STEPS + 1), dtype=torch.float64)
        for codes, half_steps in zip(self._codes, self._half_steps, strict=True):
            for some in torch.arange(len(codes)).split(100_000):
                coded = codes[some] >= 0
                row = codes[some][coded].long() // self.quantizers
                seen = row * (MOST_HALF_STEPS + 1) + half_steps[some][coded].abs().long()
                total += torch.bincount(seen, minlength=len(total))
        return total.reshape(rows, -1)

    def means(self, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Running means of what symbols are seen as, in a crop before each line: (2, groups, lines, G).

        of: what they are seen as, from rows and half steps.
        """
        height, width = self._sides
        crops, places = len(self.positions), _CLASSES * (height + 1) * (width + 2)
        result = torch.zeros(
            len(MEAN_PLACES), PHASES, crops, _CLASSES, height + 1, self.group, dtype=torch.half
        )
        keeps = torch.tensor([1 - 0.5**bits for bits in MEAN_PLACES])
        weights = (1 - keeps) * keeps ** torch.arange(width - 1, -1, -1)[:, None]  # of the places of a line
        for crop in range(crops):
            rows, _, _, half_steps = self.at(torch.arange(crop * places, (crop + 1) * places))
            seen = of(rows, half_steps).unflatten(1, (_CLASSES, height + 1, width + 2))
            result[:, :, crop] = torch.einsum("gchwi,wk->kgchi", seen[:, :, :, 1:-1], weights)
        keep = (keeps**width)[:, None, None]
        for group in range(PHASES):
            mean = torch.zeros(len(MEAN_PLACES), crops, self.group)
            for place in np.argsort(_PHASES[group]):  # phase by phase
                for line in range(1, height + 1):
                    of_line = result[:, group, :, place, line].float()
                    result[:, group, :, place, line] = mean
                    mean = keep * mean + of_line
        return result.flatten(2, 4)


def _by_group(sample: Sample, states: int) -> tuple[Tensor, Tensor]:
    """Codes, int16, and half steps, int8, of a sample's places as ``Symbols`` holds them.

    A code is a row and a quantizer, as in tables; -1 where nothing is coded.
    """
    _, height, width, group = (int(side) for side in sample.rows.shape)
    quantizers = 1 if states == 1 else 2
    # Both sides of a trellis: index_of in cpp/src/trellis.hpp.
    half_steps = 2 * sample.levels.astype(np.int32)
    if states > 1:
        half_steps -= np.sign(sample.levels) * sample.quantizers
    codes = np.where(sample.rows < 0, -1, quantizers * sample.rows + sample.quantizers).astype(np.int16)
    half_steps = np.clip(half_steps, -MOST_HALF_STEPS, MOST_HALF_STEPS).astype(np.int8)
    planes = []
    for values, nothing in ((codes, -1), (half_steps, 0)):
        plane = np.full((PHASES, _CLASSES, height // 2 + 1, width // 2 + 2, group), nothing, values.dtype)
        for of_group in range(PHASES):
            for place in range(_CLASSES):
                row, column = divmod(place, 2)
                of_phase = values[_PHASES[of_group, place], row : height // 2 * 2 : 2]
                plane[of_group, place, 1:, 1:-1] = of_phase[:, column : width // 2 * 2 : 2]
        planes.append(torch.from_numpy(plane).flatten(1, 3))
    return planes[0], planes[1]
