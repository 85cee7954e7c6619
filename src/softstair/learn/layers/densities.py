"""Densities that price symbols during training.

Both integrate over the unit interval around a symbol, the additive-noise relaxation of Balle et
al., "End-to-end optimized image compression", ICLR 2017, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .rates import interpolate
from .rounding import lower_bound
from .stanh import Mass

SIGMA_MIN, SIGMA_MAX = 0.11, 256.0
_LIKELIHOOD_MIN = 1e-9
_SQRT_HALF = 0.7071067811865476


def gaussian_bits(residual: Tensor, sigma: Tensor) -> Tensor:
    """Bits of the unit interval around ``residual`` under N(0, sigma); both in steps."""
    magnitude = residual.abs()
    scale = _SQRT_HALF / sigma
    inside = torch.erfc((magnitude - 0.5) * scale) - torch.erfc((magnitude + 0.5) * scale)
    return -torch.log2(lower_bound(0.5 * inside, _LIKELIHOOD_MIN))


class LogisticMixture(nn.Module):
    """A mixture of logistics for every channel of z and every rate point.

    It takes the place of the factorized prior of Balle et al., "Variational image compression
    with a scale hyperprior", ICLR 2018, appendix 6.1; the codec tabulates it.
    """

    def __init__(self, points: int, channels: int, components: int = 3) -> None:
        super().__init__()
        shape = (points, channels, components)
        self.logit = nn.Parameter(torch.zeros(shape))
        self.mean = nn.Parameter(torch.linspace(-1.5, 1.5, components).expand(shape).clone())
        self.log_scale = nn.Parameter(torch.zeros(shape))

    def mass(self, hat: Tensor) -> Mass:
        """Probability between two bounds (B, C, h, w) at rates whose hat weights are (B, points)."""
        logit, mean, log_scale = (
            interpolate(hat, table)[:, :, None, None, :] for table in (self.logit, self.mean, self.log_scale)
        )
        share, inverse = torch.softmax(logit, -1), torch.exp(-log_scale)

        def between(lower: Tensor, upper: Tensor) -> Tensor:
            # Mirrored below the mean, where sigmoids are small numbers, not nearly equal large ones.
            low, high = lower[..., None] - mean, upper[..., None] - mean
            mirrored = low + high > 0
            low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
            return ((torch.sigmoid(high * inverse) - torch.sigmoid(low * inverse)) * share).sum(-1)

        return between

    def probability(self, symbol: Tensor, hat: Tensor) -> Tensor:
        """Probability of the unit interval around ``symbol`` (B, C, h, w), hat (B, points)."""
        return self.mass(hat)(symbol - 0.5, symbol + 0.5)

    def bits(self, symbol: Tensor, hat: Tensor) -> Tensor:
        """Bits of every symbol, same shape as ``symbol``."""
        return -torch.log2(lower_bound(self.probability(symbol, hat), _LIKELIHOOD_MIN))
