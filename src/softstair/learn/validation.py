"""What a codec would cost now: rounded symbols, table rows, 8-bit pictures; bits are estimates.

The estimate prices symbols with the model's Gaussian at the row's scale; real files use measured
tables and are a little smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from softstair.quantize.grids import ROWS_PER_OCTAVE

from .codec import Codec
from .layers.densities import SIGMA_MAX, SIGMA_MIN, gaussian_bits
from .layers.rates import hat_weights
from .networks import HYPER_STRIDE
from .processes import Processes


@dataclass(frozen=True)
class HeldOutPoint:
    """Means over pictures at one rate position: bits per pixel and PSNR in dB (RGB, 8 bit)."""

    position: int
    bpp: float
    z_bpp: float
    psnr: float


@torch.no_grad()
def validate(
    codec: Codec,
    pictures: list[npt.NDArray[np.uint8]],
    positions: list[int],
    processes: Processes | None = None,
) -> list[HeldOutPoint]:
    """Code pictures (H, W, 3) at rate positions; the mean of every figure over the pictures.

    Several processes share the pictures, so that none waits while another does all the work.
    """
    processes = processes or Processes(codec.deviation.device)
    sums = torch.zeros(len(positions), 3, dtype=torch.float64, device=processes.device)
    for index in processes.share(len(pictures)):
        rows = [_code(codec, pictures[index], position) for position in positions]
        sums += torch.tensor(rows, dtype=torch.float64, device=processes.device)
    processes.add([sums])
    means = (sums / len(pictures)).tolist()
    return [HeldOutPoint(position, *row) for position, row in zip(positions, means, strict=True)]


def _code(codec: Codec, pixels: npt.NDArray[np.uint8], position: int) -> tuple[float, float, float]:
    height, width = pixels.shape[:2]
    device = codec.deviation.device
    picture = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].to(device)
    padding = (0, -width % HYPER_STRIDE, 0, -height % HYPER_STRIDE)
    padded = F.pad(picture.float() / 255, padding, mode="replicate")
    at = torch.tensor([position], device=device)
    decoded, y_bits, z_bits = reconstruct(codec, padded, at)
    rounded = (decoded.clamp(0, 1) * 255).round()[0, :, :height, :width]
    error = (rounded - picture[0].float()).square().mean().item()
    area = height * width
    return (y_bits + z_bits) / area, z_bits / area, 10 * float(np.log10(255**2 / error))


def reconstruct(codec: Codec, picture: Tensor, position: Tensor) -> tuple[Tensor, float, float]:
    """Decode rounded latents of (1, 3, H, W); returns the picture and the bits of y and z."""
    hat = hat_weights(position, codec.shape.rate_points)
    octaves = codec.gains.log2(position, hat)
    y = codec.analysis(picture)
    z_hat = codec.hyper_analysis(y, codec.deviation, torch.exp2(octaves), hat).round()
    decoded, mean, log_scale = codec.quantize(y, z_hat, octaves, hat)
    symbols = ((y - mean) * torch.exp2(octaves)).round()
    row = (log_scale * ROWS_PER_OCTAVE).round() / ROWS_PER_OCTAVE
    sigma = torch.exp2(row).clamp(SIGMA_MIN, SIGMA_MAX)
    y_bits = gaussian_bits(symbols, sigma).sum().item()
    z_bits = codec.z_density.bits(z_hat, hat).sum().item()
    return codec.synthesis(decoded, hat).float(), y_bits, z_bits
