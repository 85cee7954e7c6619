"""What training calls distortion: an error a picture that lambda turns into bits.

All kinds are on the scale of squared grey levels, so that the same lambdas give like rates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..constants import constant
from . import lattice, similarity, ssimulacra2

PEAK = 255.0
SMALLEST_SIDE = {"mse": 1, "ms-ssim": 176, "eye": 96}  # what all scales of a kind can see
Mixture = tuple[float, float, float]
MIXTURE: Mixture = (0.4, 0.4, 0.2)

# Published lambdas of MS-SSIM are about so many times those of squared error at like rates
# (J. Begaint et al., "CompressAI", arXiv 2011.03029, table of training losses).
_MS_SSIM_WEIGHT = 1300.0
# Factors of the parts of `eye`: with them rates stay within a fifth of those of squared error.
_SSIMULACRA2_WEIGHT, _SSIMULACRA2_POWER = 10.8, 0.8
_SIMILARITY_WEIGHT = 1700.0


def distortion(
    kind: str, decoded: Tensor, picture: Tensor, mixture: Mixture = MIXTURE, across: float = 0.0
) -> Tensor:
    """Distortion of every picture, (B,), on the scale of squared grey levels.

    Args:
        kind: ``mse``; ``ms-ssim``, Z. Wang et al., "Multiscale structural similarity for image
            quality assessment", Asilomar 2003, as 1300 (1 - MS-SSIM); or ``eye``.
        decoded, picture: float32 (B, 3, H, W), [0, 1]; sides at least ``SMALLEST_SIDE``.
        mixture: shares of the parts of ``eye``: terms of SSIMULACRA 2, MS-SSIM of luma and chroma,
            squared error. The last must not be zero: the others see pictures clipped to [0, 1], and it
            alone pulls back what lies beyond.
        across: what ``eye`` counts squared errors of steps across the lines of the lattice by
            (``lattice``), beside the parts.
    """
    if kind == "mse":
        return _squared_error(decoded, picture)
    if kind == "eye":
        mixed = torch.stack(_eye_parts(decoded, picture), 1) @ constant(mixture, picture.device)
        return mixed + across * PEAK**2 * lattice.steps_across(decoded, picture) if across else mixed
    from pytorch_msssim import ms_ssim

    likeness: Tensor = ms_ssim(decoded, picture, data_range=1.0, size_average=False)
    return _MS_SSIM_WEIGHT * (1 - likeness)


def _eye_parts(decoded: Tensor, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    shown = decoded.clamp(0, 1)
    raw = ssimulacra2.weighted_sum(ssimulacra2.terms(shown, picture))
    return (
        _SSIMULACRA2_WEIGHT * (raw + 0.01) ** _SSIMULACRA2_POWER,
        _SIMILARITY_WEIGHT * similarity.colour_difference(shown, picture),
        _squared_error(decoded, picture),
    )


def _squared_error(decoded: Tensor, picture: Tensor) -> Tensor:
    return (decoded - picture).square().mean((1, 2, 3)) * PEAK**2
