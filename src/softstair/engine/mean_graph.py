"""The mean network of a bundle taken apart, and graphs of its parts.

    mu = head(leaky(body(leaky(known(y^ / deviation) + base + bias of the phase)))) * deviation

``known`` and ``head`` work on every position by itself. So of a phase, ``known`` needs to see the latents of
the phase before it alone, and ``head`` to make its own; a body with a stride of two makes what heads of a
class of positions need. A graph that is written down otherwise stays whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from softstair.graphs import Graph, Node, read_graph
from softstair.quantize.phases import PHASES, PLACES, phase_slices

from .graph_writer import node, write_graph

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MeanWeights:
    """Of the mean network, float32; deviations are in the weights.

    known: (width, C). phase: (4, width). body: (width, width, 3, 3). head: (C, width). slopes: of the two
    activations.
    """

    known: Weights
    known_bias: Weights
    phase: Weights
    body: Weights
    body_bias: Weights
    head: Weights
    head_bias: Weights
    slopes: tuple[float, float]

    @cached_property
    def of_known(self) -> list[list[Weights]]:
        """What latents of a phase meet, by phase and class of positions: (width, C / 4)."""
        of_group = [np.ascontiguousarray(part) for part in np.split(self.known, PHASES, axis=1)]
        channels = self.known.shape[1]
        groups = [[phase_slices(channels, phase, p)[0] for p in PLACES] for phase in range(PHASES)]
        return [[of_group[group.start * PHASES // channels] for group in row] for row in groups]


class _OtherError(Exception):
    """The graph is not the one that can be taken apart."""


def mean_weights(model: bytes) -> MeanWeights | None:
    """Weights of a checked graph ``mean``; None if it is another one than the kit writes."""
    try:
        return _Matcher(read_graph(model)).weights()
    except _OtherError:
        return None


def see_graph() -> bytes:
    """latents0 .. latents3 (C / 4, places) and weight0 .. weight3 to their products."""
    count = range(len(PLACES))
    return write_graph(
        [node("MatMul", [f"weight{i}", f"latents{i}"], [f"output{i}"]) for i in count],
        {},
        [f"{kind}{i}" for kind in ("weight", "latents") for i in count],
        [f"output{i}" for i in count],
    )


def expect_graph(weights: MeanWeights, phase: int) -> bytes:
    """sum (1, width, rows, columns) to mu of a phase by class of positions, (1, C / 4, .., ..) each."""
    first, second = weights.slopes
    constants = {
        "phase": weights.phase[phase][None, :, None, None],
        "body": weights.body,
        "bias": weights.body_bias,
    }
    nodes = [node("Add", ["sum", "phase"], ["begun"]), node("LeakyRelu", ["begun"], ["active"], alpha=first)]
    for i, (row, column) in enumerate(PLACES):
        group = phase_slices(len(weights.head), phase, (row, column))[0]
        constants |= {f"head{i}": weights.head[group][..., None, None], f"bias{i}": weights.head_bias[group]}
        # Of a stride of two, positions of the class are the middles if the others' padding is left out.
        pads = [1 - row, 1 - column, 1, 1]
        nodes += [
            node(
                "Conv",
                ["active", "body", "bias"],
                [f"place{i}"],
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=pads,
            ),
            node("LeakyRelu", [f"place{i}"], [f"hidden{i}"], alpha=second),
            node("Conv", [f"hidden{i}", f"head{i}", f"bias{i}"], [f"output{i}"], kernel_shape=[1, 1]),
        ]
    return write_graph(nodes, constants, ["sum"], [f"output{i}" for i in range(len(PLACES))])


class _Matcher:
    """Follows a graph from its output to its inputs."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def weights(self) -> MeanWeights:
        (output,) = self._graph.outputs
        head, scale = self._split(output, "Mul")
        x, head_weight, head_bias = self._convolution(head, 1)
        x, second = self._leaky(x)
        x, body, body_bias = self._convolution(x, 3)
        x, first = self._leaky(x)
        x, bias = self._inputs(x, "Add")
        x, base = self._inputs(x, "Add")
        x, known, known_bias = self._convolution(x, 1)
        x, deviation = self._split(x, "Div")
        _need(self._graph.uncast(x) == "known" and self._graph.uncast(base) == "base")
        phases = self._phases(bias)
        channels, width = known.shape[1], len(known)
        _need(channels % PHASES == 0 and phases.shape == (PHASES, width) and body.shape[:2] == (width, width))
        _need(head_weight.shape[:2] == (channels, width) and deviation.size == scale.size == channels)
        scale = scale.reshape(-1, 1)
        return MeanWeights(
            known[:, :, 0, 0] / deviation.reshape(1, -1),
            known_bias,
            phases,
            body,
            body_bias,
            head_weight[:, :, 0, 0] * scale,
            head_bias * scale[:, 0],
            (first, second),
        )

    def _phases(self, name: str) -> Weights:
        """The table behind Unsqueeze(Unsqueeze(phase @ table))."""
        for axis in (3, 2):
            name, axes = self._split(name, "Unsqueeze", None)
            _need(axes.tolist() == [axis])
        name, table = self._split(name, "MatMul")
        _need(self._graph.uncast(name) == "phase" and table.ndim == 2)
        return table

    def _convolution(self, name: str, side: int) -> tuple[str, Weights, Weights]:
        """Input, weight and bias of a plain convolution that keeps the size."""
        one = self._writer(name, "Conv")
        _need(len(one.inputs) == 3)
        weight, bias = (self._constant(i) for i in one.inputs[1:])
        plain = {"group": 1, "strides": [1, 1], "dilations": [1, 1], "kernel_shape": [side, side]}
        plain |= {"pads": [side // 2] * 4}
        _need(all(one.attributes.get(key, value) == value for key, value in plain.items()))
        _need(side == 1 or "pads" in one.attributes)
        _need(set(one.attributes) <= set(plain) and weight.ndim == 4 and weight.shape[2:] == (side, side))
        _need(bias.shape == weight.shape[:1])
        return one.inputs[0], weight, bias

    def _leaky(self, name: str) -> tuple[str, float]:
        one = self._writer(name, "LeakyRelu")
        return one.inputs[0], one.attributes.get("alpha", 0.01)

    def _split(
        self, name: str, operator: str, dtype: npt.DTypeLike | None = np.float32
    ) -> tuple[str, Weights]:
        """What an operator with a constant as its second input is applied to, and the constant."""
        first, second = self._inputs(name, operator)
        return first, self._constant(second, dtype)

    def _inputs(self, name: str, operator: str) -> tuple[str, str]:
        one = self._writer(name, operator)
        _need(len(one.inputs) == 2 and not one.attributes)
        return one.inputs[0], one.inputs[1]

    def _writer(self, name: str, operator: str) -> Node:
        one = self._graph.writers.get(self._graph.uncast(name))
        if one is None or one.operator != operator:
            raise _OtherError
        return one

    def _constant(self, name: str, dtype: npt.DTypeLike | None = np.float32) -> Weights:
        value = self._graph.constants.get(self._graph.uncast(name))
        if value is None:
            raise _OtherError
        return value if dtype is None else np.asarray(value, dtype)


def _need(holds: bool) -> None:
    if not holds:
        raise _OtherError
