"""The start of training: a linear codec made of principal components, with z alive.

Every downscaling keeps the leading components of its patches, synthesis is the transpose,
residual blocks are almost the identity, and the entropy networks start from measured
deviations. Before the first step this codes photographs at 30 dB and 1 bit a pixel, where a
random start needs hundreds of steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softstair.quantize.grids import STRIDE

from .codec import Codec
from .layers.blocks import Residual
from .layers.rates import hat_weights
from .networks import PATCH

_UNIFORM_STEP = 26.0  # step**2 * lambda of a good uniform quantizer, grey levels and bits
_NOISE = 0.02  # what is left of the random start of a 1x1 convolution
_Z_DEVIATION = 1.5


@torch.no_grad()
def start_from_components(codec: Codec, pictures: Tensor, base: float) -> None:
    """Set all weights of a fresh codec from pictures (B, 3, H, W) in [0, 1]; B * H * W over 1e6.

    ``base`` is lambda at rate position 0; latents get the unit of its step.
    """
    for block in codec.modules():
        if isinstance(block, Residual):
            block.second.weight.mul_(0.05)
            nn.init.zeros_(block.second.bias)
    analysis, synthesis = codec.analysis, codec.synthesis
    patches = F.pixel_unshuffle(pictures - 0.5, PATCH)
    components = _components(patches, min(codec.shape.stem, patches.shape[1]))
    _lay(analysis.stem[1], components)
    _lay(synthesis.stem[0], components.T)
    signal, width = torch.einsum("oi,bihw->bohw", components, patches), codec.shape.stem
    fine = signal
    stages = [
        (analysis.to_middle[1], synthesis.to_stem[0]),
        (analysis.to_deep[1], synthesis.to_middle[0]),
    ]
    for down, up in stages:
        kept_before = signal.shape[1]
        patches = F.pixel_unshuffle(signal, 2)
        kept = min(down.out_channels, patches.shape[1])
        components = _components(patches, kept)
        signal = torch.einsum("oi,bihw->bohw", components, patches)
        wide = torch.zeros(down.out_channels, width, 4)
        wide[:kept, :kept_before] = components.view(kept, kept_before, 4)
        _lay(down, wide.flatten(1))
        _lay(up, wide.flatten(1).T)
        width = down.out_channels
    components = _components(signal, min(codec.shape.core, signal.shape[1]))
    unit = 255.0 / (_UNIFORM_STEP / base) ** 0.5  # latents in steps of rate position 0
    _lay(analysis.head.layer, components * unit)
    _lay(synthesis.head.layer, components.T / unit)
    if analysis.detail is not None and synthesis.detail is not None:
        core = torch.einsum("oi,bihw->bohw", components, signal)
        components = _untold(F.pixel_unshuffle(fine, STRIDE // PATCH), core, codec.shape.detail)
        wide = torch.zeros(len(components), codec.shape.stem, (STRIDE // PATCH) ** 2)
        wide[:, : fine.shape[1]] = components.view(len(components), fine.shape[1], -1)
        _lay(analysis.detail.layer[1], wide.flatten(1) * unit)
        _lay(synthesis.detail.layer[0], wide.flatten(1).T / unit)
    calibrate(codec, pictures)


@torch.no_grad()
def calibrate(codec: Codec, pictures: Tensor) -> None:
    """Fit the entropy networks' constants to the latents of pictures: deviations, means, z alive."""
    y = codec.analysis(pictures)
    deviation = (y - y.mean((0, 2, 3), keepdim=True)).std((0, 2, 3)).clamp_min(1e-3)
    codec.deviation.copy_(deviation[None, :, None, None])
    head = codec.scale_network.log_scale_head
    head.weight.mul_(0.3)
    head.bias.copy_(torch.log2(deviation))
    codec.mean_network.head.layer.bias.copy_(y.mean((0, 2, 3)) / deviation)

    middle = (codec.shape.rate_points - 1) * 8
    position = torch.full((len(pictures),), middle)
    hat = hat_weights(position, codec.shape.rate_points)
    gain = torch.exp2(codec.gains.log2(position, hat))
    z_head = codec.hyper_analysis.head.layer
    nn.init.zeros_(z_head.bias)
    z = codec.hyper_analysis(y, codec.deviation, gain, hat)
    z_head.weight.mul_((_Z_DEVIATION / z.std((0, 2, 3)).clamp_min(1e-4))[:, None, None, None])
    z = codec.hyper_analysis(y, codec.deviation, gain, hat)
    z_head.bias.copy_(-z.mean((0, 2, 3)))


def _components(signal: Tensor, count: int) -> Tensor:
    """The leading principal components of the channels, (count, channels), orthonormal rows."""
    samples = signal.transpose(0, 1).flatten(1).double()
    samples = samples - samples.mean(1, keepdim=True)
    _, vectors = torch.linalg.eigh(samples @ samples.T / samples.shape[1])
    return vectors.flip(1)[:, :count].T.float()


def _untold(patches: Tensor, core: Tensor, count: int) -> Tensor:
    """The leading components of what patches hold and ``core``, channels of the same places, does not."""
    wanted, known = (x.transpose(0, 1).flatten(1).double() for x in (patches, core))
    wanted, known = (x - x.mean(1, keepdim=True) for x in (wanted, known))
    told = torch.linalg.lstsq(known.T, wanted.T).solution.T.float()
    return _components(patches - torch.einsum("oi,bihw->bohw", told, core), count)


def _lay(layer: nn.Conv2d, matrix: Tensor) -> None:
    """Put a linear map into a convolution's centre and leave a little of its random start."""
    outputs, inputs = matrix.shape
    centre = layer.kernel_size[0] // 2
    layer.weight.mul_(_NOISE if centre == 0 else 3 * _NOISE)
    layer.weight[:, :, centre, centre] *= 0.3
    layer.weight[:outputs, :inputs, centre, centre] += matrix
    nn.init.zeros_(layer.bias)
