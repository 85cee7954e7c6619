"""ONNX Runtime. Sessions start when they are first needed: a decoder never loads the analysis."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import onnxruntime as ort

from softstair import stopping
from softstair.errors import InvalidBundle, OutOfMemory, SoftstairError, ran_out_of_memory

from . import Planes

# One for all runs: a stop ends them in the middle of a graph.
_RUN = ort.RunOptions()
_RUN.log_severity_level = 4
stopping.listen(lambda stopped: setattr(_RUN, "terminate", stopped))


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

    def __init__(
        self,
        graph: Callable[[str], bytes],
        threads: int,
        optimisation: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    ) -> None:
        self.graph = graph
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.graph_optimization_level = optimisation
        self._options.log_severity_level = 4  # its errors are raised, and ours says them
        # An arena would keep the memory of the largest picture; malloc is as fast.
        self._options.enable_cpu_mem_arena = False
        # Threads that spin after their work slow down whatever comes next on the same cores.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = lru_cache(maxsize=None)(self._start)

    def analysis(self, picture: Planes) -> Planes:
        return self._run("analysis", picture=picture)

    def hyper_analysis(self, latents: Planes, gain: Planes, hat: Planes) -> Planes:
        return self._run("hyper_analysis", latents=latents, gain=gain, hat=hat)

    def mean_base(self, z_hat: Planes, hat: Planes) -> Planes:
        return self._run("mean_base", z_hat=z_hat, hat=hat)

    def mean(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        return self._run("mean", known=known, base=base, phase=phase)

    def synthesis(self, latents: Planes, hat: Planes) -> Planes:
        return self._run("synthesis", latents=latents, hat=hat)

    def preview(self, latents: Planes, hat: Planes) -> Planes:
        return self._run("preview", latents=latents, hat=hat)

    def icon(self, known: Planes, base: Planes, phase: Planes) -> Planes:
        return self._run("icon", known=known, base=base, phase=phase)

    def _start(self, name: str) -> ort.InferenceSession:
        try:
            return ort.InferenceSession(self.graph(name), self._options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise refused(name, "loaded", error) from error

    def _run(self, name: str, **inputs: Planes) -> Planes:
        stopping.check()
        session = self._session(name)
        try:
            (output,) = session.run(None, inputs, _RUN)
        except Exception as error:
            stopping.check()
            raise refused(name, "run", error) from error
        result: Planes = output
        return result
