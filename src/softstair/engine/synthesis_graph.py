"""The synthesis of a bundle taken apart, where its resolution rises.

    plane = sum of what parts make of the plane before, or of latents, with channels spread over places

A part sees less far than the whole, and what it works on stays in caches if it is run on one block of places
after another. A graph that is written down otherwise stays whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from softstair.graphs import Graph, Node, read_graph
from softstair.quantize.grids import STRIDE

from .graph_writer import node, write_graph

Weights = npt.NDArray[np.float32]
_COLOURS = 3
_LANES = 16  # channels that ONNX Runtime keeps side by side, at most
_MOST = 64  # terms of a plane, slices of latents: a stranger's graph may name one twice, and that twice again
_POINTWISE = {"Add": 2, "Mul": 2, "LeakyRelu": 1}  # and how many inputs they have
_MOVES = ("Transpose", "Squeeze", "Reshape", "Transpose", "Reshape", "Reshape", "Transpose")
_INPUT, _OUTPUT, _PLACES = "input", "output", ("rows", "columns")


@dataclass(frozen=True)
class Part:
    """A graph whose output, (1, rows, columns, factor * factor * C), is C channels of more places.

    reach: cells on every side of one that the output depends on.
    latents: the channels of the latents that are its input, (1, C, rows, columns), with ``rate_planes``
    behind them that hold the hat weights of ``points``; without, the input is a plane, (1, rows, columns, C).
    """

    name: str
    model: bytes
    factor: int
    reach: int
    latents: tuple[slice, ...] = ()
    points: int = 0

    @property
    def rate_planes(self) -> int:
        """How many planes the hat weights take."""
        return _planes_of(self.points)


@dataclass(frozen=True)
class Layer:
    """What makes a plane of so many channels. scale: places on a side of a cell."""

    parts: tuple[Part, ...]
    scale: int
    channels: int

    @property
    def reach(self) -> int:
        """Cells around its own that the plane before must have."""
        return max((part.reach for part in self.parts if not part.latents), default=0)


class _OtherError(Exception):
    """The graph is not one that can be taken apart."""


@lru_cache(maxsize=4)
def synthesis_layers(model: bytes) -> tuple[Layer, ...] | None:
    """A checked graph ``synthesis`` in layers, the last of which makes colours; None if it stays whole."""
    try:
        return _Matcher(read_graph(model)).layers()
    except (_OtherError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return None  # a stranger's graph may lack anything


def fit(layers: tuple[Layer, ...], points: int) -> bool:
    """Whether layers are for so many hat weights."""
    return all(part.points in (0, points) for layer in layers for part in layer.parts)


@dataclass(frozen=True)
class _Spread:
    """A convolution whose channels are spread over places. by_place: in the order row, column, channel."""

    output: str
    factor: int
    by_place: bool


@dataclass
class _Traced:
    """What lies between the output of a part and its input, in the order of running.

    source: of the input. reach: of tensors by name, in places of the input. constants: new ones.
    """

    nodes: list[Node] = field(default_factory=list)
    reach: dict[str, int] = field(default_factory=dict)
    constants: dict[str, Weights] = field(default_factory=dict)
    source: str = ""
    latents: tuple[slice, ...] = ()
    points: int = 0


class _Matcher:
    """Follows a graph from its output to its inputs."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._spread, self._latents = cache(self._find_spread), cache(self._find_latents)
        known: set[str] = set()
        for one in graph.nodes:  # each sees what is before it alone, so no way back is a circle
            _need(known.issuperset(self._graph.writers.keys() & set(one.inputs)))
            known.update(one.outputs)

    def layers(self) -> tuple[Layer, ...]:
        (output,) = self._graph.outputs
        plane, added = self._offset(output)
        found: list[list[tuple[_Spread, _Traced]]] = []
        while plane:
            traced = [(one, self._trace(one.output)) for one in self._spread(plane)]
            traced.sort(key=lambda one: bool(one[1].latents))  # whatever sees the plane before comes first
            sources = {one.source for _, one in traced if not one.latents}
            _need(bool(traced) and len(sources) <= 1 and len(found) < STRIDE)
            found.append(traced)
            plane = next(iter(sources), "")
        layers: list[Layer] = []
        for index, traced in enumerate(found[::-1]):
            offset = added if index == len(found) - 1 else 0.0
            layers.append(self._layer(index, traced, layers[-1] if layers else None, offset))
        _need(layers[-1].scale == STRIDE and layers[-1].channels == _COLOURS)
        return tuple(layers)

    def _layer(
        self, index: int, traced: list[tuple[_Spread, _Traced]], before: Layer | None, offset: float
    ) -> Layer:
        """offset: added to what it makes."""
        beneath = 1 if before is None else before.scale
        scale = traced[0][0].factor * beneath
        parts, channels = [], set()
        for number, (spread, one) in enumerate(traced):
            of_input = 1 if one.latents else beneath
            model, outputs = self._model(spread, one, 0.0 if number else offset)
            _need(spread.factor * of_input == scale and outputs % spread.factor**2 == 0)
            channels.add(outputs // spread.factor**2)
            name, reach = f"synthesis.{index}.{number}", -(-one.reach[spread.output] // of_input)
            parts.append(Part(name, model, spread.factor, reach, one.latents, one.points))
        _need(len(channels) == 1)
        return Layer(tuple(parts), scale, channels.pop())

    def _model(self, spread: _Spread, traced: _Traced, offset: float) -> tuple[bytes, int]:
        """The graph of a part, and the channels of its output. offset: added to what it makes."""
        weight, bias = (self._constant(name) for name in traced.nodes[-1].inputs[1:])
        if not spread.by_place:
            weight, bias = (_by_place(values, spread.factor) for values in (weight, bias))
        constants = {"last.weight": weight, "last.bias": bias + np.float32(offset)}
        start = _INPUT if traced.latents else f"{_INPUT}.planes"
        nodes = [] if traced.latents else [node("Transpose", [_INPUT], [start], perm=[0, 3, 1, 2])]
        for one in traced.nodes:
            names = [start if i == traced.source else i for i in map(self._graph.uncast, one.inputs)]
            if one is traced.nodes[-1]:
                names[1:] = constants
            elif one.operator == "Conv":
                names[1:] = one.inputs[1:]
                traced.constants |= {i: self._constant(i) for i in names[1:] if i not in traced.constants}
            nodes.append(node(one.operator, names, one.outputs, **one.attributes))
        constants |= traced.constants
        nodes.append(node("Transpose", [spread.output], [_OUTPUT], perm=[0, 2, 3, 1]))
        size = (1, "channels", *_PLACES) if traced.latents else (1, *_PLACES, "channels")
        return write_graph(nodes, constants, [_INPUT], [_OUTPUT], {_INPUT: size}), len(bias)

    def _offset(self, name: str) -> tuple[str, float]:
        """What a number is added to, and the number."""
        one = self._graph.writers.get(self._graph.uncast(name))
        if one is not None and one.operator == "Add" and len(one.inputs) == 2:
            value = self._graph.constants.get(self._graph.uncast(one.inputs[1]))
            if value is not None and value.size == 1:
                return self._graph.uncast(one.inputs[0]), float(value.ravel()[0])
        return self._graph.uncast(name), 0.0

    def _find_spread(self, name: str) -> list[_Spread]:
        """The convolutions whose sum, spread, is a plane; none if it is something else."""
        one = self._graph.writers.get(self._graph.uncast(name))
        if one is None:
            return []
        if one.operator == "Add" and len(one.inputs) == 2:
            first, second = (self._spread(i) for i in one.inputs)
            _need(len(first) + len(second) < _MOST)
            return [*first, *second] if first and second else []
        if one.operator == "DepthToSpace":
            by_place = one.attributes.get("mode", "DCR") == "DCR"
            return [_Spread(self._graph.uncast(one.inputs[0]), one.attributes["blocksize"], by_place)]
        return self._moved(one)

    def _moved(self, last: Node) -> list[_Spread]:
        """The same of a spreading in transpositions, as the kit writes it, by its last one."""
        moves: list[list[int]] = []
        name = last.outputs[0]
        for operator in reversed(_MOVES):
            one = self._graph.writers.get(name)
            if one is None or one.operator != operator:
                return []
            numbers = one.attributes.get("perm") if operator == "Transpose" else self._numbers(one.inputs[1])
            moves.insert(0, list(numbers or []))
            name = self._graph.uncast(one.inputs[0])
        _need(len(moves[2]) == 4 and moves[2][2] > 1)
        factor, row = moves[2][2:]
        expected = [[0, 2, 3, 1], [0], [0, 0, factor, row], [0, 2, 1, 3], [0, 0, -1, row // factor]]
        _need(moves == [*expected, [1, -1, 0, 0], [0, 3, 1, 2]] and row % factor == 0)
        return [_Spread(name, factor, True)]

    def _trace(self, output: str) -> _Traced:
        traced = _Traced()
        self._visit(output, traced)
        readers = sum(traced.source in map(self._graph.uncast, one.inputs) for one in traced.nodes)
        _need(bool(traced.source) and traced.nodes[-1].operator == "Conv")
        _need(not traced.points or (readers == 1 and len(traced.nodes) > 1))
        return traced

    def _visit(self, name: str, traced: _Traced) -> int:
        """Note how a tensor is made; how far it sees, in places."""
        name = self._graph.uncast(name)
        if name in traced.reach:
            return traced.reach[name]
        latents = self._latents(name)
        if latents or self._spread(name):
            _need(traced.source in ("", name))
            traced.source, traced.latents = name, latents
            traced.reach[name] = 0
            return 0
        one = self._writer(name)
        if one.operator == "Add" and (table := self._rates(one.inputs[1])) is not None:
            one = self._rated(one, table, traced)
        if one.operator == "Conv":
            reach = self._visit(one.inputs[0], traced) + self._half_side(one)
        else:
            _need(len(one.inputs) == _POINTWISE.get(one.operator))
            reach = max(self._visit(i, traced) for i in one.inputs)
        traced.nodes.append(one)
        traced.reach[name] = reach
        return reach

    def _rated(self, add: Node, table: Weights, traced: _Traced) -> Node:
        """A convolution of latents, and of hat weights behind them, in the place of one and an addition."""
        one = self._writer(add.inputs[0])
        _need(one.operator == "Conv" and bool(self._latents(self._graph.uncast(one.inputs[0]))))
        _need(not traced.points and self._half_side(one) == 0)
        weight = self._constant(one.inputs[1])
        _need(weight.ndim == 4 and table.shape[1] == len(weight))
        traced.points = len(table)
        of_rates = np.zeros((len(weight), _planes_of(len(table)), 1, 1), np.float32)
        of_rates[:, : len(table), 0, 0] = table.T
        rated = f"{one.inputs[1]}.rated"
        traced.constants[rated] = np.concatenate([weight, of_rates], 1)
        return Node("Conv", (one.inputs[0], rated, one.inputs[2]), add.outputs, one.attributes)

    def _rates(self, name: str) -> Weights | None:
        """The table behind Unsqueeze(Unsqueeze(hat @ table)); None if that is not what there is."""
        for axis in (3, 2):
            one = self._graph.writers.get(self._graph.uncast(name))
            if one is None or one.operator != "Unsqueeze" or self._numbers(one.inputs[1]) != [axis]:
                return None
            name = one.inputs[0]
        one = self._writer(name)
        _need(one.operator == "MatMul" and self._graph.uncast(one.inputs[0]) == "hat")
        table = self._constant(one.inputs[1])
        _need(table.ndim == 2)
        return table

    def _find_latents(self, name: str) -> tuple[slice, ...]:
        """The channels of the latents that a tensor is; none if it is something else."""
        one = self._graph.writers.get(name)
        if one is None:
            return (slice(None),) if name == "latents" else ()
        if one.operator == "Concat" and one.attributes == {"axis": 1}:
            parts = [self._latents(self._graph.uncast(i)) for i in one.inputs]
            _need(sum(map(len, parts)) < _MOST)
            return tuple(part for found in parts for part in found) if all(parts) else ()
        if one.operator == "Split" and one.attributes == {"axis": 1} and one.inputs[0] == "latents":
            ends = np.cumsum([0, *(self._numbers(one.inputs[1]) or [])]).tolist()
            _need(len(ends) == len(one.outputs) + 1)
            return (slice(*list(pairwise(ends))[one.outputs.index(name)]),)
        return ()

    def _half_side(self, one: Node) -> int:
        """How far a plain convolution that keeps the size sees."""
        _need(len(one.inputs) == 3 and "pads" in one.attributes)
        (side, other), group = one.attributes.get("kernel_shape", (0, 1)), one.attributes.get("group", 1)
        plain = {"strides": [1, 1], "dilations": [1, 1], "kernel_shape": [side] * 2, "pads": [side // 2] * 4}
        plain |= {"group": group}
        _need(all(plain.get(key) == value for key, value in one.attributes.items()))
        _need(side == other and side % 2 == 1)
        return int(side // 2)

    def _writer(self, name: str) -> Node:
        one = self._graph.writers.get(self._graph.uncast(name))
        if one is None:
            raise _OtherError
        return one

    def _constant(self, name: str) -> Weights:
        value = self._graph.constants.get(self._graph.uncast(name))
        if value is None:
            raise _OtherError
        return np.asarray(value, np.float32)

    def _numbers(self, name: str) -> list[int] | None:
        value = self._graph.constants.get(self._graph.uncast(name))
        return None if value is None else [int(one) for one in value.ravel()]


def _planes_of(points: int) -> int:
    """With planes of zeros, a whole number of lanes."""
    return -(-points // _LANES) * _LANES


def _by_place(values: Weights, factor: int) -> Weights:
    """Outputs (channel, row, column) of a convolution become (row, column, channel)."""
    _need(len(values) % factor**2 == 0)
    return values.reshape(-1, factor**2, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)


def _need(holds: bool) -> None:
    if not holds:
        raise _OtherError
