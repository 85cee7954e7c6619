"""MS-SSIM of luma and chroma, for crops too small for the usual windows.

Z. Wang et al., "Multiscale structural similarity for image quality assessment", Asilomar 2003; windows
at the border are renormalised instead of left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..constants import constant
from .windows import blur

_C1, _C2 = 0.01**2, 0.03**2
_POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first
_LEAST = 1e-3  # of a mean under a fractional power
_SHARES = (0.8, 0.1, 0.1)  # of luma and both chromas
# ITU-R BT.601, as in JPEG; chroma around 0.5.
_LUMA_CHROMA = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_CHROMA_SHIFT = (0.0, 0.5, 0.5)


def colour_difference(decoded: Tensor, picture: Tensor) -> Tensor:
    """1 - MS-SSIM, 0.8 of luma's and 0.1 of each chroma's, (B,).

    Args:
        decoded, picture: (B, 3, H, W) in [0, 1].
    """
    shares = constant(_SHARES, picture.device)
    return (1 - ms_ssim(_luma_chroma(decoded), _luma_chroma(picture))) @ shares


def ms_ssim(decoded: Tensor, planes: Tensor) -> Tensor:
    """MS-SSIM of every plane, (B, C), of (B, C, H, W) in [0, 1]."""
    result = torch.ones(planes.shape[:2], device=planes.device)
    for scale, power in enumerate(_POWERS):
        if scale:
            planes, decoded = avg_pool2d(planes, 2), avg_pool2d(decoded, 2)
        luminance, structure = _compare(decoded, planes)
        likeness = structure if scale < len(_POWERS) - 1 else luminance * structure
        result = result * likeness.mean((2, 3)).clamp_min(_LEAST) ** power
    return result


def _compare(decoded: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's comparison of luminance, and of contrast and structure, at every sample."""
    with torch.no_grad():
        mean_1 = blur(planes)
        variance_1 = blur(planes * planes) - mean_1 * mean_1
    mean_2 = blur(decoded)
    variance_2 = blur(decoded * decoded) - mean_2 * mean_2
    covariance = blur(planes * decoded) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + _C1) / (mean_1 * mean_1 + mean_2 * mean_2 + _C1)
    return luminance, (2 * covariance + _C2) / (variance_1 + variance_2 + _C2)


def _luma_chroma(rgb: Tensor) -> Tensor:
    matrix, shift = (constant(numbers, rgb.device).to(rgb.dtype) for numbers in (_LUMA_CHROMA, _CHROMA_SHIFT))
    return torch.einsum("oc,bchw->bohw", matrix, rgb) + shift[:, None, None]
