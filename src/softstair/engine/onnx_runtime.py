"""ONNX Runtime. Sessions start when they are first needed: a decoder never loads the analysis."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache, partial

import numpy as np
import onnxruntime as ort

from softstair import stopping
from softstair.errors import InvalidBundle, OutOfMemory, SoftstairError, ran_out_of_memory
from softstair.quantize.grids import STRIDE
from softstair.tiles import Box

from . import MeanInTurn, Planes
from .graph_writer import node, write_graph
from .in_blocks import blocks_at_once, synthesise
from .in_turn import SplitMean, WholeMean
from .mean_graph import expect_graph, mean_weights, see_graph
from .synthesis_graph import Layer, Part, fit, synthesis_layers

_SEE, _EXPECT = "mean.see", "mean.expect."  # parts of the mean network; the second by phase
_PART = "synthesis."  # and of the synthesis
# One for all runs: a stop ends them in the middle of a graph.
_RUN = ort.RunOptions()
_RUN.log_severity_level = 4
stopping.listen(lambda stopped: setattr(_RUN, "terminate", stopped))


@cache
def _register_arena() -> None:
    """Let all sessions take memory from one arena, which keeps it until ``release_arena``.

    From the system, each run on a large picture would get its memory page by page, for a quarter of the time.
    With an arena for each session, all would keep what their largest run took.
    """
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    with suppress(RuntimeError):  # this process has one already
        ort.create_and_register_allocator(where, ort.OrtArenaCfg(0, -1, -1, -1))


@cache
def _nothing() -> tuple[ort.InferenceSession, ort.RunOptions]:
    """A graph that does nothing, and how to run it such that the arena gives back what is free."""
    model = write_graph([node("Identity", ["input"], ["output"])], {}, ["input"], ["output"])
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    session = ort.InferenceSession(model, session_options(1), providers=["CPUExecutionProvider"])
    return session, options


def release_arena() -> None:
    """Give back to the system what of the arena no run holds."""
    session, options = _nothing()
    session.run(None, {"input": np.zeros(1, np.float32)}, options)


def session_options(threads: int) -> ort.SessionOptions:
    """Of every session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are raised, and ours says them
    _register_arena()
    options.enable_cpu_mem_arena = True
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Else a second picture of a size waits for a block that holds all of a run, beside what the first took.
    options.enable_mem_pattern = False
    # Threads that spin after their work slow down whatever comes next on the same cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def refused(name: str, how: str, error: Exception) -> SoftstairError:
    """What to raise where an engine failed at a graph: for want of memory, or for what the graph is."""
    if ran_out_of_memory(error):
        return OutOfMemory()
    return InvalidBundle(f"The graph {name} of the bundle cannot be {how}: {error}")


class OnnxNetworks:
    """The graphs of a bundle in sessions of their own.

    Args:
        graph: bytes of a graph by name.
        threads: of each session.
        optimisation: level of ONNX Runtime's graph optimiser.
    """

    # Whether several threads may run a graph, each with a share of the threads.
    side_by_side = True

    def __init__(
        self,
        graph: Callable[[str], bytes],
        threads: int,
        optimisation: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    ) -> None:
        self.graph = graph
        self.threads, self._optimisation = threads, optimisation
        self._session = lru_cache(maxsize=None)(self._start)
        self._mean_weights = lru_cache(maxsize=None)(lambda: mean_weights(graph("mean")))

    def analysis(self, picture: Planes) -> Planes:
        return self.transform("analysis", picture=picture)

    def hyper_analysis(self, latents: Planes, gain: Planes, hat: Planes) -> Planes:
        return self._run("hyper_analysis", latents=latents, gain=gain, hat=hat)

    def mean_base(self, z_hat: Planes, hat: Planes) -> Planes:
        return self._run("mean_base", z_hat=z_hat, hat=hat)

    def mean(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        return self._run("mean", known=known, base=base, phase=phase)

    def mean_in_turn(self, base: Planes, channels: int) -> MeanInTurn:
        weights = self._mean_weights()
        if weights is None or min(base.shape[2:]) < 2:  # a class without positions
            return WholeMean(self.mean, base, channels)
        return SplitMean(weights, self._see, self._expect, base)

    def synthesis(self, latents: Planes, hat: Planes, shown: Box | None = None) -> Planes:
        cells = Box(0, 0, *latents.shape[2:]) if shown is None else shown
        layers = self.layers()
        if layers is None or not fit(layers, hat.shape[1]):
            pixels = self.transform("synthesis", latents=np.ascontiguousarray(latents), hat=hat)
            due = 1, 3, *(STRIDE * side for side in latents.shape[2:])
            fits = getattr(pixels, "shape", ()) == due  # else it is for others to refuse
            return pixels[:, :, *cells.times(STRIDE).slices] if fits else pixels
        at_once = blocks_at_once(cells, self.threads) if self.side_by_side else 1
        make = partial(self.make_part, self.threads // at_once)
        return synthesise(layers, make, latents, hat, cells, at_once)

    def preview(self, latents: Planes, hat: Planes) -> Planes:
        return self._run("preview", latents=latents, hat=hat)

    def icon(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        return self._run("icon", known=known, base=base, phase=phase)

    def layers(self) -> tuple[Layer, ...] | None:
        """The synthesis layer by layer, if it can be taken apart."""
        return synthesis_layers(self.graph("synthesis"))

    def _see(self, **inputs: Planes) -> list[Planes]:
        return self._run_session("mean", self._session(_SEE), inputs)

    def _expect(self, phase: int, known: Planes) -> list[Planes]:
        return self._run_session("mean", self._session(f"{_EXPECT}{phase}"), {"sum": known})

    def graph_of(self, name: str) -> bytes:
        """A graph of the bundle, or a part of its mean network or its synthesis."""
        if layers := self.layers() if name.startswith(_PART) else None:
            return next(part.model for layer in layers for part in layer.parts if part.name == name)
        weights = self._mean_weights() if name.startswith((_SEE, _EXPECT)) else None
        if weights is None:
            return self.graph(name)
        return see_graph() if name == _SEE else expect_graph(weights, int(name.removeprefix(_EXPECT)))

    def _start(self, name: str, threads: int | None = None) -> ort.InferenceSession:
        options = session_options(threads or self.threads)
        options.graph_optimization_level = self._optimisation
        try:
            return ort.InferenceSession(self.graph_of(name), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise refused(name, "loaded", error) from error

    def make_part(self, threads: int, part: Part, planes: Planes) -> Planes:
        """Run a part of the synthesis."""
        (output,) = self._run_session("synthesis", self._session(part.name, threads), {"input": planes})
        return output

    def transform(self, name: str, **inputs: Planes) -> Planes:
        """Run the analysis, or all of the synthesis."""
        return self._run(name, **inputs)

    def _run(self, name: str, **inputs: Planes) -> Planes:
        (output,) = self._run_session(name, self._session(name), inputs)
        return output

    def _run_session(
        self, name: str, session: ort.InferenceSession, inputs: dict[str, Planes]
    ) -> list[Planes]:
        stopping.check()
        try:
            outputs: list[Planes] = session.run(None, inputs, _RUN)
        except Exception as error:
            stopping.check()
            raise refused(name, "run", error) from error
        return outputs
