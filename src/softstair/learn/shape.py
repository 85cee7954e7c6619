"""The widths that define a network; part of a recipe and of a bundle's manifest."""

from __future__ import annotations

import msgspec

from softstair.quantize.rates import POSITIONS_PER_POINT

# Widths of the entropy model come in as many channels as kernels of the core take at once.
CODED_IN = {"latents": 64, "hyper_latents": 2, "scale_hyper": 16, "scale": 16}


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Channel counts of every part. Resolutions are relative to the picture.

    Transforms run at 1/4 (`stem`), 1/8 (`middle`) and 1/16 (`deep`, latents); z lies at 1/32.
    The inner widths of the residual blocks at the three resolutions say how the multiplications
    are spent; the encoder may take more of them than the decoder. gated: the synthesis' blocks
    multiply halves of 1x1 and depthwise convolutions, for fewer milliseconds, instead of dense ones.

    detail: how many of the latents lie between 1/4 and 1/16 with nothing but a 1x1 convolution on
    either side. They hold what does not pass the widths of `middle` and `deep`, which bounds what high
    rates can reach, for next to no multiplications.

    overlap: a depthwise convolution after every up-scaling of the synthesis, so that what neighbouring
    latents make overlaps (as in lapped transforms: H. S. Malvar, "Signal Processing with Lapped
    Transforms", 1992) and their lattice does not show.
    """

    stem: int = 64
    middle: int = 128
    deep: int = 256
    analysis_inner: tuple[int, int, int] = (64, 128, 192)
    synthesis_inner: tuple[int, int, int] = (32, 64, 128)
    blocks: tuple[int, int, int] = (1, 2, 1)
    gated: bool = False
    overlap: bool = False
    latents: int = 256
    detail: int = 0
    hyper_latents: int = 48
    hyper: int = 128
    context: int = 128
    scale_hyper: int = 128
    scale: int = 64
    rate_points: int = 11

    def __post_init__(self) -> None:
        if self.latents % 4:
            raise ValueError(f"latents must be a multiple of four, not {self.latents}")
        if self.detail % 4 or not 0 <= self.detail < self.latents:
            raise ValueError(f"detail must be a multiple of four below latents, not {self.detail}")

    @property
    def core(self) -> int:
        """Latents that are not detail."""
        return self.latents - self.detail

    @property
    def positions(self) -> range:
        """Rate positions of the rate points."""
        return range(0, self.rate_points * POSITIONS_PER_POINT, POSITIONS_PER_POINT)
