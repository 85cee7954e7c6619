"""What a graph of a bundle may hold, checked before an engine sees it.

An engine takes an ONNX file at its word: one that points to other files reads them, one with a loop
may never end. So a graph is walked as a protobuf message, without the package onnx, and whatever is
not known here is refused: a stranger's bundle can only make pictures.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

# Inputs of the graphs; each has one output.
INPUTS = {
    "analysis": {"picture"},
    "hyper_analysis": {"latents", "gain", "hat"},
    "mean_base": {"z_hat", "hat"},
    "mean": {"known", "base", "phase"},
    "synthesis": {"latents", "hat"},
    "preview": {"latents", "hat"},
    "icon": {"known", "base", "phase"},
}
# Those of the bundles that were ever shipped, and of what the kit exports.
OPERATORS = frozenset(
    {
        *("Abs", "Add", "Cast", "Concat", "Constant", "Conv", "DepthToSpace", "Div", "Gather", "LeakyRelu"),
        *("Log", "MatMul", "Mul", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Sub", "Transpose"),
        "Unsqueeze",
    }
)
# Fields of the messages of ONNX, by number and what is looked at. Left out on purpose: functions and
# training of a model, sparse tensors, sub-graphs and references of an attribute, other files of a tensor.
_MODEL = {1: "", 2: "", 3: "", 4: "", 5: "", 6: "", 7: "graph", 8: "opset", 14: ""}
_GRAPH = {1: "node", 2: "", 5: "tensor", 10: "", 11: "input", 12: "output", 13: "", 16: ""}
_NODE = {1: "", 2: "", 3: "", 4: "operator", 5: "attribute", 6: "", 7: "domain", 9: ""}
_ATTRIBUTE = {1: "", 2: "", 3: "", 4: "", 5: "tensor", 7: "", 8: "", 9: "", 10: "tensor", 13: "", 20: ""}
_TENSOR = {
    1: "",
    2: "",
    4: "",
    5: "",
    6: "",
    7: "",
    8: "name",
    9: "",
    10: "",
    11: "",
    12: "",
    14: "place",
    16: "",
}
_DOMAINS = {"", "ai.onnx"}
_FLOATS = {1: "<f4", 10: "<f2"}  # dtypes by the numbers that ONNX gives them
_DTYPES = {**_FLOATS, 7: "<i8"}
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


def check_graph(data: bytes, name: str) -> None:
    """Refuse a graph that does more than compute its output from its inputs.

    Args:
        data: an ONNX model.
        name: of the graph, one of ``INPUTS``.

    Raises:
        ValueError: it points outside, has parts that are graphs, unknown operators, or other inputs
            and outputs; or it is no ONNX model. The message says what.
    """
    graphs = 0
    for part, value in _parts(memoryview(data), _MODEL, "model"):
        if part == "opset":
            if any(_text(v) not in _DOMAINS for k, v in _fields(value) if k == 1):
                raise ValueError("operators of a foreign domain")
        elif part == "graph":
            graphs += 1
            _check_body(value, name)
    if graphs != 1:
        raise ValueError("no ONNX graph")


def weights_of(data: bytearray) -> dict[str, npt.NDArray[Any]]:
    """The float tensors of a checked graph by name, as views: what is written to them, the graph has.

    A suffix ``.half``, which says that a tensor is in half precision, is left out of its name.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    for graph in (value for number, value in _fields(memoryview(data)) if number == 7):
        for tensor in (value for number, value in _fields(graph) if number == 5):
            name, values = _tensor(tensor, _FLOATS)
            if values is not None:
                found[name.removesuffix(".half")] = values
    return found


@dataclass(frozen=True)
class Node:
    """An operator of a graph. attributes: integers, floats, texts and lists of integers."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """What a graph computes. constants: by name, initializers and what nodes ``Constant`` hold."""

    nodes: tuple[Node, ...]
    constants: dict[str, npt.NDArray[Any]]
    outputs: tuple[str, ...]

    @cached_property
    def writers(self) -> dict[str, Node]:
        """Nodes by their outputs."""
        return {output: node for node in self.nodes for output in node.outputs}

    def uncast(self, name: str) -> str:
        """Where casts to float32 come from, which change nothing here: inputs have it, and weights get it."""
        for _ in self.nodes:  # a stranger's may go round in circles
            one = self.writers.get(name)
            if one is None or one.operator != "Cast" or one.attributes != {"to": 1}:
                break
            (name,) = one.inputs
        return name


def read_graph(data: bytes) -> Graph:
    """A checked graph as it is written down."""
    nodes, outputs = [], []
    constants: dict[str, npt.NDArray[Any]] = {}
    for graph in (value for number, value in _fields(memoryview(data)) if number == 7):
        for number, value in _fields(graph):
            if number == 1:
                nodes.append(_node(value, constants))
            elif number == 5:
                name, values = _tensor(value, _DTYPES)
                if values is not None:
                    constants[name] = values
            elif number == 12:
                outputs += [_text(v) for k, v in _fields(value) if k == 1]
    return Graph(tuple(nodes), constants, tuple(outputs))


def _node(node: Any, constants: dict[str, npt.NDArray[Any]]) -> Node:
    """A node; what it holds as a constant is added to those of the graph."""
    operator = ""
    names: dict[int, list[str]] = {1: [], 2: []}
    attributes: dict[str, Any] = {}
    for number, value in _fields(node):
        if number in names:
            names[number].append(_text(value))
        elif number == 4:
            operator = _text(value)
        elif number == 5:
            name, content = _attribute(value)
            attributes[name] = content
    if operator == "Constant" and isinstance(attributes.get("value"), np.ndarray):
        constants[names[2][0]] = attributes["value"]
    return Node(operator, tuple(names[1]), tuple(names[2]), attributes)


def _attribute(attribute: Any) -> tuple[str, Any]:
    name, content, integers = "", None, []
    for number, value in _fields(attribute):
        if number == 1:
            name = _text(value)
        elif number == 2:
            (content,) = struct.unpack("<f", value)
        elif number == 3:
            content = value
        elif number == 4:
            content = _text(value)
        elif number == 5:
            content = _tensor(value, _DTYPES)[1]
        elif number == 8:
            integers += [value] if isinstance(value, int) else _varints(value)
    return name, integers or content


def _tensor(tensor: Any, dtypes: dict[int, str]) -> tuple[str, npt.NDArray[Any] | None]:
    """Name and numbers of a tensor, a view; None for those of other types, or not in one piece."""
    dimensions: list[int] = []
    kind, name, raw = 0, "", None
    for number, value in _fields(tensor):
        if number == 1:
            dimensions += [value] if isinstance(value, int) else _varints(value)
        elif number == 2:
            kind = value
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = value
    if kind not in dtypes or raw is None:
        return name, None
    return name, np.frombuffer(raw, dtypes[kind]).reshape(dimensions)


def _varints(packed: Any) -> list[int]:
    numbers, at = [], 0
    while at < len(packed):
        number, at = _varint(packed, at)
        numbers.append(number)
    return numbers


def _check_body(graph: Any, name: str) -> None:
    inputs: set[str] = set()
    tensors: set[str] = set()
    outputs = 0
    for part, value in _parts(graph, _GRAPH, "graph"):
        if part == "node":
            _check_node(value)
        elif part == "tensor":
            tensors.add(_check_tensor(value))
        elif part == "input":
            inputs.update(_text(v) for k, v in _fields(value) if k == 1)
        elif part == "output":
            outputs += 1
    if inputs - tensors != INPUTS[name] or outputs != 1:
        raise ValueError("other inputs or outputs than it should have")


def _check_node(node: Any) -> None:
    for part, value in _parts(node, _NODE, "node"):
        if part == "operator" and (operator := _text(value)) not in OPERATORS:
            raise ValueError(f"an operator that no bundle needs, {operator[:40]}")
        if part == "domain" and _text(value) not in _DOMAINS:
            raise ValueError("an operator of a foreign domain")
        if part == "attribute":
            for inner, content in _parts(value, _ATTRIBUTE, "attribute"):
                if inner == "tensor":
                    _check_tensor(content)


def _check_tensor(tensor: Any) -> str:
    """The name of a tensor that holds its numbers itself."""
    name = ""
    for part, value in _parts(tensor, _TENSOR, "tensor"):
        if part == "place" and value != 0:
            raise ValueError("a tensor that is in another file")
        if part == "name":
            name = _text(value)
    return name


def _parts(message: Any, known: dict[int, str], kind: str) -> Iterator[tuple[str, Any]]:
    """Fields of a message by what they are; nothing else may be there."""
    for number, value in _fields(message):
        if number not in known:
            raise ValueError(f"a {kind} with field {number}, which no bundle needs")
        yield known[number], value


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Numbers and values of the fields of a protobuf message."""
    if not isinstance(message, memoryview):
        raise ValueError("no ONNX graph")
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_EIGHT, _FOUR):
            length = 8 if kind == _EIGHT else 4
        else:
            raise ValueError("no ONNX graph")
        if length > end - at:
            raise ValueError("no whole ONNX graph")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no ONNX graph")


def _text(value: Any) -> str:
    if not isinstance(value, memoryview):
        raise ValueError("no ONNX graph")
    return bytes(value).decode("utf-8", "replace")
