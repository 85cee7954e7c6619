"""What training calls distortion: an error a picture that lambda turns into bits."""

from __future__ import annotations

from torch import Tensor

PEAK = 255.0
# Published lambdas of MS-SSIM are about so many times those of squared error at like rates
# (J. Begaint et al., "CompressAI", arXiv 2011.03029, table of training losses).
_MS_SSIM_WEIGHT = 1300.0
SMALLEST_SIDE = {"mse": 1, "ms-ssim": 176}  # five scales of an 11-tap window


def distortion(kind: str, decoded: Tensor, picture: Tensor) -> Tensor:
    """Distortion of every picture, (B,), on the scale of squared grey levels.

    Args:
        kind: ``mse``, or ``ms-ssim``: Z. Wang et al., "Multiscale structural similarity for image
            quality assessment", Asilomar 2003, as 1300 (1 - MS-SSIM).
        decoded, picture: (B, 3, H, W), [0, 1]; sides at least ``SMALLEST_SIDE``.
    """
    if kind == "mse":
        return (decoded - picture).square().mean((1, 2, 3)) * PEAK**2
    from pytorch_msssim import ms_ssim

    similarity: Tensor = ms_ssim(decoded, picture, data_range=1.0, size_average=False)
    return _MS_SSIM_WEIGHT * (1 - similarity)
