"""STanH: a staircase whose levels and thresholds are learned.

A. Presta, E. Tartaglione, A. Fiandrotti, M. Grangetto: STanH: parametric quantization for variable
rate learned image compression. IEEE Trans. Image Processing 2025 (arXiv 2410.00557). A quantizer is
a sum of hyperbolic tangents, one for every threshold; as the inverse temperature grows it becomes
the hard staircase that a codec uses:

    soft(u) = sum_i  w_i / 2 tanh(beta / w_i (u - b_i))         hard(u) = c_k,  b_k < u <= b_{k+1}

with levels c_k, c_0 = 0, gaps w_i = c_i - c_{i-1}, and thresholds b_i between them. Where the
published code does otherwise this follows the mathematics: the probability of a level is the mass
between its learned thresholds, outer levels own their tails, and nothing that was trained changes
by use.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mass = Callable[[Tensor, Tensor], Tensor]  # probability between a lower and an upper bound, steps
Price = Callable[[Tensor], Tensor]  # bits of levels, given their indices

_SMALLEST_GAP = 0.25
_LOWEST_PLACE, _HIGHEST_PLACE = 0.3, 0.9  # of a threshold in its gap
_LEAST_MASS = 1e-9
_SQRT_HALF = math.sqrt(0.5)


class STanH(nn.Module):
    """A staircase in steps that starts as rounding.

    The first ``learned`` gaps and thresholds to either side of zero are parameters; farther out
    levels lie a step apart and thresholds half-way, so that no value saturates. Zero is a level.
    Gaps stay above a quarter of a step and thresholds inside their gaps, whatever is learned.

        stanh = STanH(learned=4)
        value, bits = stanh(residual, gaussian_mass(sigma))

    Args:
        learned: levels to either side of zero that are learned, at least one.
        groups: of channels, each with a staircase of its own; channels (dimension 1) are dealt to
            them in order.
        symmetric: one set of numbers for both signs, or one for each.

    Attributes:
        beta: inverse temperature in training, relative to the gap; ``math.inf`` makes training hard
            in the forward pass, with the gradient of ``tail_beta``.

    Raises:
        ValueError: nothing to learn.
    """

    tail_beta = 20.0

    def __init__(self, learned: int = 4, *, groups: int = 1, symmetric: bool = True) -> None:
        super().__init__()
        if learned < 1 or groups < 1:
            raise ValueError(
                f"A staircase learns at least one level in one group, not {learned} in {groups}."
            )
        shape = (1 if symmetric else 2, groups, learned)
        self.learned, self.groups, self.symmetric = learned, groups, symmetric
        middle = (0.5 - _LOWEST_PLACE) / (_HIGHEST_PLACE - _LOWEST_PLACE)
        self.gap = nn.Parameter(torch.full(shape, math.log(math.expm1(1 - _SMALLEST_GAP))))
        self.place = nn.Parameter(torch.full(shape, math.log(middle / (1 - middle))))
        self.beta = 3.0

    def gaps(self) -> Tensor:
        """w_1, w_2, ..: (sides, groups, learned), steps."""
        return _SMALLEST_GAP + F.softplus(self.gap)

    def levels(self) -> Tensor:
        """Magnitudes of c_0 = 0, c_1, ..: (sides, groups, learned + 1), steps, rising."""
        return F.pad(self.gaps().cumsum(-1), (1, 0))

    def thresholds(self) -> Tensor:
        """Magnitudes of b_1, b_2, ..: (sides, groups, learned), steps, each between two levels."""
        rho = _LOWEST_PLACE + (_HIGHEST_PLACE - _LOWEST_PLACE) * torch.sigmoid(self.place)
        return self.levels()[..., :-1] + rho * self.gaps()

    def forward(self, residual: Tensor, mass: Mass) -> tuple[Tensor, Tensor]:
        """Quantize.

        Args:
            residual: (B, C, ...), what is left of latents without their means, steps.
            mass: of the residual's density between two bounds; ``gaussian_mass``, or
                ``LogisticMixture.mass``.

        Returns:
            Quantized residual and bits, both of the residual's shape. In training both are soft, with
            gradients to residual, levels and thresholds; in evaluation both are hard.
        """
        return self.priced(residual, lambda index: self.bits(index, mass))

    def priced(self, residual: Tensor, price: Price) -> tuple[Tensor, Tensor]:
        """Quantize, where levels cost what somebody else says: tables, say, that were measured."""
        index = self.index(residual)
        hard = self.level(index)
        if not self.training:
            return hard, price(index)
        beta = self.beta if math.isfinite(self.beta) else self.tail_beta
        value = self._soft(residual, index, beta)
        if not math.isfinite(self.beta):
            value = value + (hard - value).detach()
        return value, self._soft_bits(residual, index, price, beta)

    @torch.no_grad()
    def index(self, residual: Tensor) -> Tensor:
        """The hard level k of every value, int64; values on a threshold go towards zero."""
        side = residual < 0
        magnitude = residual.abs()
        thresholds = self._of(self.thresholds(), residual, side)
        near = (magnitude[..., None] > thresholds).sum(-1)
        outermost = self._of(self.levels(), residual, side)[..., -1]
        far = (torch.ceil(magnitude - outermost + 0.5) - 1).clamp_min(0).long()
        index = near + far
        return torch.where(side, -index, index)

    def level(self, index: Tensor) -> Tensor:
        """Where level k lies, steps."""
        count = index.abs()
        inside = self._pick(self.levels(), index, index < 0, count.clamp_max(self.learned))
        value = inside + (count - self.learned).clamp_min(0)
        return torch.where(index < 0, -value, value)

    def bits(self, index: Tensor, mass: Mass) -> Tensor:
        """What level k costs: the mass between its thresholds."""
        return -torch.log2(mass(self.threshold(index), self.threshold(index + 1)).clamp_min(_LEAST_MASS))

    def threshold(self, index: Tensor) -> Tensor:
        """b_i, between the levels i - 1 and i, for any integers i."""
        below = index <= 0
        count = torch.where(below, 1 - index, index)
        inside = self._pick(self.thresholds(), index, below, (count - 1).clamp_max(self.learned - 1))
        last = self._pick(self.levels(), index, below, torch.full_like(count, self.learned))
        outside = last + (count - self.learned) - 0.5
        value = torch.where(count <= self.learned, inside, outside)
        return torch.where(below, -value, value)

    def _gap(self, index: Tensor) -> Tensor:
        """w_i, from level i - 1 to level i."""
        below = index <= 0
        count = torch.where(below, 1 - index, index)
        inside = self._pick(self.gaps(), index, below, (count - 1).clamp_max(self.learned - 1))
        return torch.where(count <= self.learned, inside, torch.ones_like(inside))

    def _rise(self, residual: Tensor, index: Tensor, beta: float) -> Tensor:
        """How far past the threshold b_i a value is, 0 to 1."""
        return 0.5 + 0.5 * torch.tanh(beta / self._gap(index) * (residual - self.threshold(index)))

    def _soft(self, residual: Tensor, index: Tensor, beta: float) -> Tensor:
        """The sum of tangents; those beyond the four nearest thresholds are saturated."""
        value = self.level(index - 2)
        for near in range(-1, 3):
            value = value + self._gap(index + near) * self._rise(residual, index + near, beta)
        return value

    def _soft_bits(self, residual: Tensor, index: Tensor, price: Price, beta: float) -> Tensor:
        """Bits of a level and its two neighbours, weighted by how much a value belongs to each.

        So thresholds feel what it costs to send mass to the other side of them.
        """
        rises = [self._rise(residual, index + near, beta) for near in range(-1, 3)]
        members = [rises[at] - rises[at + 1] for at in range(3)]
        total = sum(members[1:], members[0])
        bits = [price(index + near) for near in (-1, 0, 1)]
        return sum((m * b for m, b in zip(members, bits, strict=True)), torch.zeros_like(residual)) / total

    def _of(self, table: Tensor, like: Tensor, side: Tensor) -> Tensor:
        """The numbers of a value's group and side, (B, C, ..., count)."""
        rows = table.flatten(0, 1)
        result: Tensor = rows[self._row(like, side)]
        return result

    def _pick(self, table: Tensor, like: Tensor, side: Tensor, at: Tensor) -> Tensor:
        """One number of a value's group and side."""
        count = table.shape[-1]
        result: Tensor = table.flatten()[self._row(like, side) * count + at]
        return result

    def _row(self, like: Tensor, side: Tensor) -> Tensor:
        channels = like.shape[1]
        group = torch.arange(channels, device=like.device) * self.groups // channels
        group = group.view(1, channels, *([1] * (like.ndim - 2))).expand(like.shape)
        return group if self.symmetric else group + self.groups * side.long()


def gaussian_mass(sigma: Tensor) -> Mass:
    """The mass of N(0, sigma) between two bounds; all in steps, accurate in both tails."""

    def mass(lower: Tensor, upper: Tensor) -> Tensor:
        # Mirrored to where both bounds are small numbers of erfc, not nearly equal large ones.
        mirrored = lower > 0
        low, high = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
        scale = _SQRT_HALF / sigma
        return 0.5 * (torch.erfc(-high * scale) - torch.erfc(-low * scale))

    return mass


class Geometric:
    """Inverse temperature that grows geometrically, then a hard end.

    beta(step) = start (end / start)^(step / (share * steps)), then ``math.inf``.
    """

    def __init__(self, steps: int, *, start: float = 3.0, end: float = 20.0, share: float = 0.7) -> None:
        self.steps, self.start, self.end, self.share = steps, start, end, share

    def beta(self, step: int) -> float:
        progress = step / (self.share * self.steps)
        return math.inf if progress >= 1 else self.start * (self.end / self.start) ** progress


class GapDriven:
    """The paper's policy: beta grows with how far the soft staircase is from the hard one.

    After every step

        beta <- beta + factor * |MSE(u, soft(u)) - MSE(u, hard(u))|
    """

    def __init__(self, *, start: float = 10.0, factor: float = 15.0) -> None:
        self.value, self.factor = start, factor

    def observe(self, residual: Tensor, soft: Tensor, hard: Tensor) -> None:
        """Take in one batch: residuals and both quantizations of them."""
        gap = (residual - soft).square().mean() - (residual - hard).square().mean()
        self.value += self.factor * abs(gap.item())

    def beta(self, step: int) -> float:
        return self.value
