"""Running a bundle's float networks. None of them decides a symbol when a stream is decoded.

ONNX Runtime runs them, unless ``SOFTSTAIR_ENGINE`` asks for OpenVINO: that saves a few hundredths
of the time and costs more than that to start (docs/engines.md).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from softstair import _core
from softstair.bundle import Bundle
from softstair.errors import UsageError
from softstair.mode import Mode
from softstair.tiles import Box

if TYPE_CHECKING:
    from .checked import CheckedNetworks

Planes = npt.NDArray[np.float32]
ENGINE_VARIABLE = "SOFTSTAIR_ENGINE"


class Engine(StrEnum):
    """What runs the networks."""

    ONNX_RUNTIME = "onnxruntime"
    OPENVINO = "openvino"


class MeanInTurn(Protocol):
    """The mean network on one tile, which is asked for one phase after the other.

    Latents of a phase lie at positions of four classes, a quarter of the channels at each: (C / 4, .., ..)
    in the order of ``quantize.phases.PLACES``.
    """

    def see(self, phase: int, latents: Sequence[Planes]) -> None:
        """y^ of a phase."""

    def expect(self, phase: int) -> list[Planes]:
        """mu of a phase, of what was seen."""


class Networks(Protocol):
    """The graphs of a bundle on some engine. All arrays are float32 and NCHW with N = 1.

    hat: interpolation weights of the rate position, (1, points). Any number of threads may call.
    """

    def analysis(self, picture: Planes) -> Planes:
        """Pixels (1, 3, 16 h, 16 w) in [0, 1] to latents (1, C, h, w)."""

    def hyper_analysis(self, latents: Planes, gain: Planes, hat: Planes) -> Planes:
        """Latents with even sides and gains (1, C, 1, 1) to z (1, Z, h / 2, w / 2), not rounded."""

    def mean_base(self, z_hat: Planes, hat: Planes) -> Planes:
        """z^ to what all phases share, (1, context, 2 h, 2 w)."""

    def mean(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        """Latents decoded so far (zero elsewhere), base and one-hot phase (1, 4) to mu (1, C, h, w)."""

    def mean_in_turn(self, base: Planes, channels: int) -> MeanInTurn:
        """The same phase by phase on a tile of its own. channels: C."""

    def synthesis(self, latents: Planes, hat: Planes, shown: Box | None = None) -> Planes:
        """Decoded latents to pixels (1, 3, 16 h, 16 w), about [0, 1]; of some cells if not of all."""


class PreviewNetworks(Networks, Protocol):
    """Those of a bundle that may have the graphs preview and icon."""

    def preview(self, latents: Planes, hat: Planes) -> Planes:
        """Decoded latents to pixels of a quarter, (1, 3, 4 h, 4 w), about [0, 1]."""

    def icon(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        """As ``mean``, of the first latents of every group (``codec.icon``), to mu of these and three planes
        more: means of 16 x 16 pixels, about [0, 1], once all latents are known. phase is zeros then.
        """


@cache
def openvino_installed() -> bool:
    """Whether the extra openvino is there, without importing it."""
    return find_spec("openvino") is not None


def choose_engine() -> Engine:
    """The engine that SOFTSTAIR_ENGINE asks for; ONNX Runtime if it asks for none.

    Raises:
        UsageError: no such engine, or it is not installed.
    """
    wanted = os.environ.get(ENGINE_VARIABLE) or Engine.ONNX_RUNTIME
    try:
        engine = Engine(wanted)
    except ValueError as error:
        raise UsageError(f"{ENGINE_VARIABLE} can be {' or '.join(Engine)}, not {wanted}.") from error
    if engine is Engine.OPENVINO and not openvino_installed():
        raise UsageError(
            f"{ENGINE_VARIABLE} asks for OpenVINO, which is not installed: pip install 'softstair[openvino]'."
        )
    return engine


def load_networks(bundle: Bundle, threads: int, engine: Engine, mode: Mode | None = None) -> CheckedNetworks:
    """The networks of a bundle on an engine with a number of threads; the synthesis is a mode's."""
    from .checked import CheckedNetworks

    return CheckedNetworks(_start(bundle, threads, engine, mode), bundle)


def in_layers(bundle: Bundle, mode: Mode) -> bool:
    """Whether the synthesis of a mode is run layer by layer, which takes half the memory."""
    from .synthesis_graph import synthesis_layers

    return synthesis_layers(bundle.graph("synthesis", mode)) is not None


def release_memory() -> None:
    """Give back to the system what allocators and ONNX Runtime keep for runs to come."""
    if runtime := sys.modules.get(f"{__name__}.onnx_runtime"):
        runtime.release_arena()
    _core.release_memory()


def _start(bundle: Bundle, threads: int, engine: Engine, mode: Mode | None) -> PreviewNetworks:
    graph = partial(bundle.graph, mode=mode)
    if engine is Engine.OPENVINO:
        from .openvino import OpenVinoNetworks

        return OpenVinoNetworks(graph, threads)
    from .onnx_runtime import OnnxNetworks

    return OnnxNetworks(graph, threads)
