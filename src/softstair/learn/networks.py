"""The networks of the codec.

    pixels --analysis--> y --hyper analysis--> z --round--> z^
    z^, magnitudes of earlier symbols --scale network--> log-scale     (integers)
    z^, latents decoded so far        --mean network--> mu             (float)
    y^ --synthesis--> pixels

Latents y are in latent units, the same at every rate; a step is one over the gain. All tensors
are NCHW; ``hat`` holds the interpolation weights of the rate positions over the rate points.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from softstair.quantize.grids import HIDDEN, MAGNITUDE, OCTAVES, SIGNED, STRIDE, WEIGHT_BITS, Z
from softstair.quantize.phases import PHASES
from softstair.quantize.rates import POSITIONS_PER_OCTAVE, POSITIONS_PER_POINT

from .layers.blocks import SLOPE, Float32, Gated, Residual, convolution, downscale, overlap, upscale
from .layers.fixed import FixedConvolution, FixedPoint, clip, on_grid
from .layers.rates import RateBias, interpolate_fixed
from .layers.rounding import straight_through_grid
from .shape import Shape

PATCH = 4  # side of the stem's space-to-depth patch
HYPER_STRIDE = 2 * STRIDE


class Analysis(nn.Module):
    """g_a: pixels in [0, 1], sides a multiple of 16, to latents at 1/16."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.analysis_inner
        self.stem = nn.Sequential(nn.PixelUnshuffle(PATCH), convolution(3 * PATCH**2, shape.stem))
        self.stem_blocks = _blocks(Residual, shape.stem, inner[0], shape.blocks[0])
        self.to_middle = downscale(shape.stem, shape.middle)
        self.middle_blocks = _blocks(Residual, shape.middle, inner[1], shape.blocks[1])
        self.to_deep = downscale(shape.middle, shape.deep)
        self.deep_blocks = _blocks(Residual, shape.deep, inner[2], shape.blocks[2])
        self.head = Float32(convolution(shape.deep, shape.core, 1))
        self.detail: Float32 | None = None
        if shape.detail:
            self.detail = Float32(downscale(shape.stem, shape.detail, STRIDE // PATCH))

    def forward(self, picture: Tensor) -> Tensor:
        stem = self.stem_blocks(self.stem(picture - 0.5))
        x = self.middle_blocks(self.to_middle(stem))
        core: Tensor = self.head(self.deep_blocks(self.to_deep(x)))
        return core if self.detail is None else with_detail(core, self.detail(stem))


class Synthesis(nn.Module):
    """g_s: decoded latents to pixels, about [0, 1], not clipped."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner, block = shape.synthesis_inner, Gated if shape.gated else Residual
        self.head = Float32(convolution(shape.core, shape.deep, 1))
        self.rate = RateBias(shape.rate_points, shape.deep)
        self.deep_blocks = _blocks(block, shape.deep, inner[2], shape.blocks[2])
        self.to_middle = upscale(shape.deep, shape.middle)
        self.middle_blocks = _blocks(block, shape.middle, inner[1], shape.blocks[1])
        self.to_stem = upscale(shape.middle, shape.stem)
        self.stem_blocks = _blocks(block, shape.stem, inner[0], shape.blocks[0])
        self.stem = nn.Sequential(convolution(shape.stem, 3 * PATCH**2), nn.PixelShuffle(PATCH))
        self.detail: Float32 | None = None
        if shape.detail:
            self.detail = Float32(upscale(shape.detail, shape.stem, STRIDE // PATCH))
        self.middle_overlap = overlap(shape.middle) if shape.overlap else nn.Identity()
        self.stem_overlap = overlap(shape.stem) if shape.overlap else nn.Identity()
        self.groups = [part // PHASES for part in (shape.core, shape.detail)] * PHASES

    def forward(self, latents: Tensor, hat: Tensor) -> Tensor:
        parts = latents.split(self.groups, 1)
        core = latents if self.detail is None else torch.cat(parts[::2], 1)
        x = self.deep_blocks(self.head(core) + self.rate(hat))
        x = self.middle_blocks(self.middle_overlap(self.to_middle(x)))
        x = self.to_stem(x)
        x = x if self.detail is None else x + self.detail(torch.cat(parts[1::2], 1))
        return self.stem(self.stem_blocks(self.stem_overlap(x))) + 0.5


class HyperAnalysis(nn.Module):
    """h_a: latents and their log-magnitudes in steps to z, sides a multiple of two, at 1/32."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.hyper
        self.entry = convolution(2 * shape.latents, width, 1)
        self.rate = RateBias(shape.rate_points, width)
        self.body = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            convolution(width, width),
            nn.LeakyReLU(SLOPE),
            downscale(width, width),
            nn.LeakyReLU(SLOPE),
        )
        self.head = Float32(convolution(width, shape.hyper_latents, 1))
        self.anchor: int | None = None

    def forward(self, latents: Tensor, deviation: Tensor, gain: Tensor, hat: Tensor) -> Tensor:
        if self.anchor is not None:  # z of a network trained at one rate is the same at all rates
            gain = gain * self._steps(hat)[:, None, None, None]
        magnitude = torch.log2(1 + (latents * gain).abs()) - 0.5
        x = self.entry(torch.cat([latents / deviation, magnitude], 1))
        return self.head(self.body(x + self.rate(hat)))

    def _steps(self, hat: Tensor) -> Tensor:
        """Steps of rate positions over the anchor's, (B,); looked up, as graphs of bundles have no powers."""
        assert self.anchor is not None
        points = POSITIONS_PER_POINT * np.arange(hat.shape[1])
        octaves = (self.anchor - np.arange(points[-1] + 1)) / POSITIONS_PER_OCTAVE
        position = hat @ torch.from_numpy(points.astype(np.float32)).to(hat)
        factors = torch.from_numpy(np.exp2(octaves).astype(np.float32)).to(hat)
        return factors.index_select(0, (position + 0.5).long())


class ScaleNetwork(nn.Module):
    """The integer network: z^ to log-scale, and its correction from symbols of earlier phases.

    Log-scales are in octaves here; the integer network counts them in 1/32 octave.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        latents, width = shape.latents, shape.scale
        self.hyper_grid = FixedPoint(Z)
        self.hyper = FixedConvolution(shape.hyper_latents, shape.scale_hyper, 3)
        self.rate = RateBias(shape.rate_points, shape.scale_hyper)
        self.hyper_out = FixedPoint(HIDDEN)
        self.expand = FixedConvolution(shape.scale_hyper, 4 * width, 1)
        self.expand_out = FixedPoint(HIDDEN)
        self.spread = nn.PixelShuffle(2)
        self.mix = FixedConvolution(width, width, 3)
        self.mix_out = FixedPoint(HIDDEN)
        self.log_scale_head = FixedConvolution(width, latents, 1, float32=True)
        self.log_scale_out = FixedPoint(OCTAVES)

        self.neighbours = FixedConvolution(latents, latents, 5, groups=latents)
        self.neighbours_out = FixedPoint(SIGNED)
        self.gather = FixedConvolution(latents, width, 1)
        self.log_scale_entry = FixedConvolution(latents, width, 1)
        self.phase = nn.Parameter(torch.zeros(4, width))
        self.entry_out = FixedPoint(HIDDEN)
        self.local = FixedConvolution(width, width, 3, groups=width)
        self.local_out = FixedPoint(SIGNED)
        self.widen = FixedConvolution(width, width, 1)
        self.widen_out = FixedPoint(HIDDEN)
        self.correction_head = FixedConvolution(width, latents, 1, float32=True)
        self.correction_out = FixedPoint(OCTAVES)
        nn.init.zeros_(self.correction_head.weight)
        nn.init.zeros_(self.correction_head.bias)

    def set_fixed(self, fixed: bool) -> None:
        """Switch between the float network and the one on integer grids."""
        for module in self.modules():
            if isinstance(module, FixedConvolution | FixedPoint):
                module.fixed = fixed

    @property
    def fixed(self) -> bool:
        return self.mix.fixed

    def log_scale(self, z_hat: Tensor, hat: Tensor) -> Tensor:
        """s(z^): z^ (B, Z, h, w) integers to octaves (B, C, 2h, 2w)."""
        x = self.hyper_out(self.hyper(self.hyper_grid(z_hat)) + self.rate_bias(hat))
        x = self.spread(self.expand_out(self.expand(x)))
        return self.log_scale_out(self.log_scale_head(self.mix_out(self.mix(x))))

    def enter(self, scale: Tensor) -> Tensor:
        """What the correction needs of the log-scale in steps; the same in every phase."""
        return self.log_scale_entry(clip(scale, OCTAVES))

    def correction(self, entered: Tensor, magnitude: Tensor, phase: int) -> Tensor:
        """t: from the magnitudes known before ``phase`` (zero elsewhere), octaves (B, C, H, W)."""
        seen = self.gather(self.neighbours_out(self.neighbours(magnitude)))
        x = self.entry_out(seen + entered + self.phase_bias(phase, entered.dtype))
        x = self.widen_out(x + self.widen(self.local_out(self.local(x))))
        return self.correction_out(self.correction_head(x))

    def phase_bias(self, phase: int, dtype: torch.dtype) -> Tensor:
        bias = self.phase[phase].to(dtype)
        if self.fixed:
            bias = straight_through_grid(bias, WEIGHT_BITS)
        return bias[None, :, None, None]

    def rate_bias(self, hat: Tensor) -> Tensor:
        """Bias of the first layer at a rate position, (B, width, 1, 1)."""
        if not self.fixed:
            return self.rate(hat)
        return interpolate_fixed(hat, self.rate.table, WEIGHT_BITS)[:, :, None, None]


def magnitude(symbols: Tensor) -> Tensor:
    """min(log2(1 + |q|), 3) on its grid: what the scale network sees of a symbol."""
    return on_grid(torch.log2(1 + symbols.abs()), MAGNITUDE)


class MeanNetwork(nn.Module):
    """mu of every latent, phase by phase, in float; it moves reconstructions, never symbols."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.context
        self.hyper = convolution(shape.hyper_latents, shape.hyper)
        self.rate = RateBias(shape.rate_points, shape.hyper)
        self.features = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            upscale(shape.hyper, width),
            nn.LeakyReLU(SLOPE),
            convolution(width, width),
        )
        self.known = convolution(shape.latents, width, 1)
        self.phase = nn.Parameter(torch.zeros(4, width))
        self.body = nn.Sequential(nn.LeakyReLU(SLOPE), convolution(width, width), nn.LeakyReLU(SLOPE))
        self.head = Float32(convolution(width, shape.latents, 1))
        nn.init.zeros_(self.head.layer.weight)
        nn.init.zeros_(self.head.layer.bias)

    def base(self, z_hat: Tensor, hat: Tensor) -> Tensor:
        """What every phase uses of z^: (B, Z, h, w) to (B, context, 2h, 2w)."""
        return self.features(self.hyper(z_hat) + self.rate(hat))

    def forward(self, known: Tensor, base: Tensor, deviation: Tensor, phase: Tensor) -> Tensor:
        """mu (B, C, H, W) in latent units.

        Args:
            known: decoded latents, zero where unknown, (B, C, H, W).
            base: of ``base``.
            deviation: typical size of every channel's latents, (1, C, 1, 1).
            phase: one-hot, (1, 4).
        """
        bias = (phase.to(self.phase.dtype) @ self.phase)[:, :, None, None]
        return self.head(self.body(self.known(known / deviation) + base + bias)) * deviation


class Preview(nn.Module):
    """y^ (B, C, h, w) to pictures of a quarter (B, 3, 4h, 4w), about [0, 1]: 0.28 kMAC a pixel.

    deviation: typical size of every channel's latents, (1, C, 1, 1).
    """

    deviation: Tensor

    def __init__(self, channels: int, points: int, deviation: Tensor) -> None:
        super().__init__()
        width, outputs = 64, 3 * PATCH**2
        self.register_buffer("deviation", deviation)
        self.entry = convolution(channels, width, 1)
        self.rate = RateBias(points, width)
        self.around = nn.Sequential(
            nn.LeakyReLU(SLOPE), convolution(width, width), nn.LeakyReLU(SLOPE), convolution(width, width, 1)
        )
        self.head = upscale(width, 3, STRIDE // PATCH)
        with torch.no_grad():  # begins as what its entry makes of a place alone
            self.around[3].weight.zero_()
            self.around[3].bias.zero_()
            self.head[0].weight.copy_(torch.eye(outputs, width)[..., None, None])
            self.head[0].bias.fill_(0.5)

    def forward(self, latents: Tensor, hat: Tensor) -> Tensor:
        x = self.entry(latents / self.deviation) + self.rate(hat)
        result: Tensor = self.head(x + self.around(x))
        return result


class Icon(nn.Module):
    """Some latents of places, what z^ says and a phase to mu of these and to colours, (B, L + 3, h, w).

    It is in the mean network's place for these latents alone: 0.11 kMAC a pixel for a call. Colours are
    means of 16 x 16 pixels, about [0, 1], once all latents are known; phase is zeros then.

    deviation: typical size of every latent, (1, L, 1, 1). context: planes of base.
    """

    deviation: Tensor

    def __init__(self, context: int, deviation: Tensor) -> None:
        super().__init__()
        latents, width, inner = deviation.shape[1], 44, 40
        self.register_buffer("deviation", deviation)
        self.known = convolution(latents, width, 1)
        self.base = convolution(context, width, 1)
        self.phase = nn.Parameter(torch.zeros(PHASES, width))
        self.body = nn.Sequential(nn.LeakyReLU(SLOPE), convolution(width, inner), nn.LeakyReLU(SLOPE))
        self.mean = convolution(inner, latents, 1)
        self.colour, self.shade = convolution(latents, 3, 1), convolution(inner, 3, 1)

    def forward(self, known: Tensor, base: Tensor, phase: Tensor) -> Tensor:
        seen = known / self.deviation
        x = self.body(self.known(seen) + self.base(base) + (phase @ self.phase)[:, :, None, None])
        return torch.cat([self.mean(x) * self.deviation, self.colour(seen) + self.shade(x)], 1)


def with_detail(core: Tensor, detail: Tensor) -> Tensor:
    """All latents: every phase's group of channels is a quarter of either."""
    groups = zip(core.chunk(PHASES, 1), detail.chunk(PHASES, 1), strict=True)
    return torch.cat([part for group in groups for part in group], 1)


def _blocks(block: type[nn.Module], channels: int, inner: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(block(channels, inner) for _ in range(count)))
