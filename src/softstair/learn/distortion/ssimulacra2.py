"""SSIMULACRA 2 as a differentiable distortion.

J. Sneyers, "SSIMULACRA 2", Cloudinary 2022; constants are those of libjxl's ``ssimulacra2`` and of the
package of that name. Blurs are Gaussian windows, renormalised at borders, where libjxl has a recursive
filter of the same deviation: scores of small pictures differ by up to three points.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..constants import constant
from .windows import blur

SCALES = 6
_TRAINED_SCALES = 5  # crops of 96 pixels and more have as many
_C2 = 0.0009
_OPSIN = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
_BIAS = 0.0037930732552754493
_SUM_FACTOR = 0.9562382616834844
# By channel (X, Y, B), scale, norm (mean, 4-norm) and kind of error (structure, added, lost).
_WEIGHTS = (
    0.0, 0.0007376606707406586, 0.0, 0.0, 0.0007793481682867309, 0.0, 0.0, 0.0004371155730107379, 0.0,
    1.1041726426657346, 0.00066284834129271, 0.00015231632783718752, 0.0, 0.0016406437456599754, 0.0,
    1.8422455520539298, 11.441172603757666, 0.0, 0.0007989109436015163, 0.000176816438078653, 0.0,
    1.8787594979546387, 10.94906990605142, 0.0, 0.0007289346991508072, 0.9677937080626833, 0.0,
    0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053, 0.0004550992113792063, 0.0, 0.0,
    0.0013648766163243398, 0.0, 0.0, 0.0, 0.0, 0.0, 7.466890328078848, 0.0, 17.445833984131262,
    0.0006235601634041466, 0.0, 0.0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264,
    225.20515300849274, 0.0, 0.0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985,
    176.39317598450694, 0.0, 0.0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408, 0.0, 0.0,
    0.0, 34.77906344483772, 44.835625328877896, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    0.0008680556573291698, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0005313191874358747, 0.0, 0.00016533814161379112,
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0004179171803251336, 0.0017290828234722833, 0.0, 0.0020827005846636437,
    0.0, 0.0, 8.826982764996862, 23.19243343998926, 0.0, 95.1080498811086, 0.9863978034400682,
    0.9834382792465353, 0.0012286405048278493, 171.2667255897307, 0.9807858872435379, 0.0, 0.0, 0.0,
    0.0005130064588990679, 0.0, 0.00010854057858411537,
)  # fmt: skip


def terms(decoded: Tensor, picture: Tensor, scales: int = _TRAINED_SCALES) -> Tensor:
    """The errors that the score weighs, (B, 3, scales, 2, 3): by channel, scale, norm and kind.

    Args:
        decoded, picture: float32 (B, 3, H, W), sRGB in [0, 1], sides divisible by 2**(scales - 1).
    """
    with torch.no_grad():
        reference = _linear(picture)
    other = _linear(decoded)
    result = []
    for scale in range(scales):
        if scale:
            reference, other = avg_pool2d(reference, 2), avg_pool2d(other, 2)
        maps = _errors(_xyb(other), _xyb(reference))
        result.append(torch.stack([_norms(one) for one in maps], 3))
    return torch.stack(result, 2)


def weighted_sum(errors: Tensor) -> Tensor:
    """The published weights' sum of ``terms``, (B,); 0 for equal pictures."""
    weights = constant(_WEIGHTS, errors.device).view(3, SCALES, 2, 3)
    return (errors * weights[:, : errors.shape[2]]).sum((1, 2, 3, 4)) * _SUM_FACTOR


def score(decoded: Tensor, picture: Tensor) -> Tensor:
    """The published score, (B,); 100 for equal pictures."""
    x = weighted_sum(terms(decoded, picture, SCALES))
    x = 2.326765642916932 * x - 0.020884521182843837 * x**2 + 6.248496625763138e-05 * x**3
    return 100 - 10 * x.clamp_min(0) ** 0.6276336467831387


def _errors(other: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps of the loss of structure, of edges that were added and of edges that were lost."""
    with torch.no_grad():
        mean_1 = blur(reference)
        variance_1 = blur(reference * reference) - mean_1 * mean_1
        edge = 1 + (reference - mean_1).abs()
    mean_2 = blur(other)
    variance_2 = blur(other * other) - mean_2 * mean_2
    covariance = blur(reference * other) - mean_1 * mean_2
    likeness = (2 * covariance + _C2) / (variance_1 + variance_2 + _C2)
    structure = 1 - (1 - (mean_1 - mean_2).square()) * likeness
    ratio = (1 + (other - mean_2).abs()) / edge - 1
    return structure.clamp_min(0), ratio.clamp_min(0), (-ratio).clamp_min(0)


def _norms(errors: Tensor) -> Tensor:
    """(B, 3, h, w) to (B, 3, 2): mean and 4-norm, whose slope at zero is kept finite."""
    fourth = (errors.square().square().mean((2, 3)) + 1e-12) ** 0.25 - 1e-3
    return torch.stack([errors.mean((2, 3)), fourth], 2)


def _linear(srgb: Tensor) -> Tensor:
    high = ((srgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= 0.04045, srgb / 12.92, high)


def _xyb(linear: Tensor) -> Tensor:
    """libjxl's XYB, moved so that all channels are positive."""
    mixed = torch.einsum("oc,bchw->bohw", constant(_OPSIN, linear.device).to(linear.dtype), linear) + _BIAS
    root = mixed.clamp_min(1e-4) ** (1 / 3) - _BIAS ** (1 / 3)
    x, y, b = 0.5 * (root[:, 0] - root[:, 1]), 0.5 * (root[:, 0] + root[:, 1]), root[:, 2]
    return torch.stack([14 * x + 0.42, y + 0.01, b - y + 0.55], 1)
