"""OpenVINO for the transforms, in float32. It is imported when the first transform needs it."""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from softstair import stopping
from softstair.errors import UsageError

from . import ENGINE_VARIABLE, Planes
from .onnx_runtime import OnnxNetworks, refused
from .synthesis_graph import Part


class OpenVinoNetworks(OnnxNetworks):
    """The transforms on OpenVINO, the small networks of entropy coding on ONNX Runtime.

    Those are called once a phase on small inputs, where OpenVINO is the slower one.

    Args:
        graph: bytes of a graph by name.
        threads: of each call.
    """

    side_by_side = False  # a graph is compiled for all threads

    def __init__(self, graph: Callable[[str], bytes], threads: int) -> None:
        super().__init__(graph, threads)
        self._idle: defaultdict[str, list[Any]] = defaultdict(list)
        self._lock = Lock()

    def make_part(self, threads: int, part: Part, planes: Planes) -> Planes:
        return self.transform(part.name, input=planes)

    def transform(self, name: str, **inputs: Planes) -> Planes:
        stopping.check()
        with self._lease(name) as compiled:
            try:
                result: Planes = np.array(compiled(inputs)[0])
                compiled.release_memory()  # or it would keep what the largest picture took
            except RuntimeError as error:
                raise refused(name, "run", error) from error
        return result

    @contextmanager
    def _lease(self, name: str) -> Iterator[Any]:
        """A compiled graph for one caller alone: its threads work for one call at a time."""
        with self._lock:
            idle = self._idle[name]
            compiled = idle.pop() if idle else self._compile(name)
        try:
            yield compiled
        finally:
            idle.append(compiled)

    def _compile(self, name: str) -> Any:
        try:
            model = self._core.read_model(self.graph_of(name), b"")
            return self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise refused(name, "loaded", error) from error

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            # Some processors would be given bfloat16, which moves pixels by several grey levels.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            # Pinned to cores, two processes would share one while another idles.
            "ENABLE_CPU_PINNING": False,
        }

    @cached_property
    def _core(self) -> Any:
        return import_openvino().Core()


def import_openvino() -> Any:
    """The module, kept from reporting its import over the network: a codec uses no network.

    Raises:
        UsageError: it is installed but broken.
    """
    reporter = "openvino_telemetry"
    silenced = reporter not in sys.modules
    if silenced:
        sys.modules[reporter] = None  # type: ignore[assignment]  # OpenVINO goes on without it
    try:
        return importlib.import_module("openvino")
    except (ImportError, OSError) as error:
        raise UsageError(
            f"OpenVINO is installed but cannot be loaded ({error}); reinstall it, or unset {ENGINE_VARIABLE}."
        ) from error
    finally:
        if silenced:
            del sys.modules[reporter]
