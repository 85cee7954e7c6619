"""Running a bundle's float networks. None of them decides a symbol."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle

Planes = npt.NDArray[np.float32]


class Networks(Protocol):
    """The graphs of a bundle on some engine. All arrays are float32 and NCHW with N = 1.

    hat: interpolation weights of the rate position, (1, points).
    """

    def analysis(self, picture: Planes) -> Planes:
        """Pixels (1, 3, 16 h, 16 w) in [0, 1] to latents (1, C, h, w)."""

    def hyper_analysis(self, latents: Planes, gain: Planes, hat: Planes) -> Planes:
        """Latents with even sides and gains (1, C, 1, 1) to z (1, Z, h / 2, w / 2), not rounded."""

    def mean_base(self, z_hat: Planes, hat: Planes) -> Planes:
        """z^ to what all phases share, (1, context, 2 h, 2 w)."""

    def mean(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        """Latents decoded so far (zero elsewhere), base and one-hot phase (1, 4) to mu (1, C, h, w)."""

    def synthesis(self, latents: Planes, hat: Planes) -> Planes:
        """Decoded latents to pixels (1, 3, 16 h, 16 w), about [0, 1]."""


def load_networks(bundle: Bundle, threads: int) -> Networks:
    """The networks of a bundle on ONNX Runtime with a number of threads."""
    from .onnx_runtime import OnnxNetworks

    return OnnxNetworks(bundle.graph, threads)
