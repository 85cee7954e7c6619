"""The whole codec as one torch module: what training optimises and export takes apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from softstair.quantize.phases import PHASES, phase_map
from softstair.quantize.rates import POSITIONS_PER_POINT

from .layers.densities import SIGMA_MAX, SIGMA_MIN, LogisticMixture, gaussian_bits
from .layers.rates import Gains, RateBias, hat_weights
from .layers.rounding import straight_through_round
from .networks import Analysis, HyperAnalysis, MeanNetwork, ScaleNetwork, Synthesis, magnitude
from .noise import Noise
from .shape import Shape


@dataclass(frozen=True)
class Passage:
    """One pass of pictures through the codec.

    picture: decoded, (B, 3, H, W), about [0, 1]. y_bits, z_bits: bits a picture, (B,).
    """

    picture: Tensor
    y_bits: Tensor
    z_bits: Tensor


class Walk(NamedTuple):
    """What the four phases make of latents, each (B, C, h, w): y^, mu, and log-scale in steps."""

    decoded: Tensor
    mean: Tensor
    log_scale: Tensor


Decide = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Codec(nn.Module):
    """Transforms, entropy networks, gains and densities of one bundle.

    analysis_of and so on make its parts of a shape; other designs replace them in a class of their own.
    """

    analysis_of: type[Analysis] = Analysis
    synthesis_of: type[Synthesis] = Synthesis
    mean_network_of: type[MeanNetwork] = MeanNetwork
    scale_network_of: type[ScaleNetwork] = ScaleNetwork
    deviation: Tensor
    phases: Tensor  # of the latents of two rows and columns, which are those of all

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.analysis = self.analysis_of(shape)
        self.synthesis = self.synthesis_of(shape)
        self.hyper_analysis = HyperAnalysis(shape)
        self.scale_network = self.scale_network_of(shape)
        self.mean_network = self.mean_network_of(shape)
        self.gains = Gains(shape.rate_points, shape.latents)
        self.z_density = LogisticMixture(shape.rate_points, shape.hyper_latents)
        self.register_buffer("deviation", torch.ones(1, shape.latents, 1, 1))
        self.register_buffer("phases", torch.from_numpy(phase_map(shape.latents, 2, 2)), persistent=False)

    def set_fixed(self, fixed: bool) -> None:
        """Switch the scale network and the gains to the grids of the integer path."""
        self.scale_network.set_fixed(fixed)
        self.gains.integer = fixed

    @torch.no_grad()
    def pin(self, anchor: int) -> None:
        """Give all rate points what the one at position ``anchor`` learned.

        From then on rates differ by their steps alone: z, means, log-scales in latent units and
        synthesis are the anchor's.
        """
        biases = [module.table for module in self.modules() if isinstance(module, RateBias)]
        for table in (*biases, self.gains.offset, *self.z_density.parameters()):
            table.copy_(table[anchor // POSITIONS_PER_POINT].expand_as(table).clone())
        self.hyper_analysis.anchor = anchor

    def forward(self, picture: Tensor, position: Tensor, noise: Noise | None) -> Passage:
        """A training pass: noise for the rate, straight-through rounding for everything else.

        Args:
            picture: (B, 3, H, W) in [0, 1], sides multiples of 32.
            position: rate position of every picture, int64 (B,).
            noise: what rounding does to the density of fine latents; None is straight-through
                rounding for the rate, too.
        """
        hat = hat_weights(position, self.shape.rate_points)
        octaves = self.gains.log2(position, hat)
        gain = torch.exp2(octaves)
        y = self.analysis(picture)
        z = self.hyper_analysis(y, self.deviation, gain, hat)
        rounded = straight_through_round(z)
        z_bits = self.z_density.bits(rounded if noise is None else z + noise.z, hat)
        walk = self.quantize(y, rounded, octaves, hat)
        sigma = torch.exp2(walk.log_scale).clamp(SIGMA_MIN, SIGMA_MAX)
        residual = (y - walk.mean) * gain
        priced = straight_through_round(residual) if noise is None else residual + noise.y
        y_bits = gaussian_bits(priced, sigma)
        decoded = self.synthesis(walk.decoded, hat).float()
        return Passage(decoded, y_bits.sum((1, 2, 3)), z_bits.sum((1, 2, 3)))

    def quantize(self, y: Tensor, z_hat: Tensor, octaves: Tensor, hat: Tensor) -> Walk:
        """Run the four phases on y, (B, C, h, w).

        Rounding is straight-through, so gradients reach y and the context of later phases.
        """
        gain, step = torch.exp2(octaves), torch.exp2(-octaves)

        def decide(mean: Tensor, log_scale: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            symbols = straight_through_round((y - mean.detach()) * gain)
            return mean.detach() + symbols * step, magnitude(symbols.detach())

        return self.walk(y, z_hat, octaves, hat, decide)

    def reconstruct(
        self, symbols: Tensor, values: Tensor, z_hat: Tensor, octaves: Tensor, hat: Tensor
    ) -> Walk:
        """Run the four phases on symbols that are given.

        Unlike ``quantize`` it lets gradients through the means: symbols stay, y^ moves.

        Args:
            symbols: q in steps, (B, C, h, w). values: where they lie, in steps.
            z_hat: (B, Z, h / 2, w / 2). octaves: log2 of one over the step, (B, C, 1, 1).
        """
        magnitudes, offset = magnitude(symbols), values * torch.exp2(-octaves)
        return self.walk(
            symbols, z_hat, octaves, hat, lambda mean, log_scale, mask: (mean + offset, magnitudes)
        )

    def walk(self, like: Tensor, z_hat: Tensor, octaves: Tensor, hat: Tensor, decide: Decide) -> Walk:
        """Run the four phases: each sees what the ones before it decided.

        Args:
            like: of the shape and dtype of y, (B, C, h, w).
            z_hat, octaves, hat: as for ``reconstruct``.
            decide: y^ and magnitudes of symbols, from a phase's means, log-scales in steps and mask.
        """
        scale = self.log_scale(z_hat, octaves, hat)
        entered, base = self.scale_network.enter(scale), self.mean_network.base(z_hat, hat)
        decoded, seen, means, log_scales = (torch.zeros_like(like) for _ in range(4))
        for phase, mask in enumerate(self.phase_masks(like)):
            one_hot = torch.eye(PHASES, device=like.device)[phase][None]
            mean = self.mean_network(decoded, base, self.deviation, one_hot)
            log_scale = scale + self.scale_network.correction(entered, seen, phase)
            latents, magnitudes = decide(mean, log_scale, mask)
            decoded = decoded + latents * mask
            seen = seen + magnitudes * mask
            means = means + mean * mask
            log_scales = log_scales + log_scale * mask
        return Walk(decoded, means, log_scales)

    def log_scale(self, z_hat: Tensor, octaves: Tensor, hat: Tensor) -> Tensor:
        """s(z^) + d + e_c, octaves in steps, cut to the size of y."""
        scale = self.scale_network.log_scale(z_hat, hat)
        return scale.to(octaves.dtype) + octaves

    def phase_masks(self, y: Tensor) -> list[Tensor]:
        height, width = y.shape[2:]
        phases = self.phases.tile(1, height // 2 + 1, width // 2 + 1)[:, :height, :width]
        return [(phases == phase).to(y.dtype)[None] for phase in range(PHASES)]
