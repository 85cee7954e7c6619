"""Writing small ONNX models, which nothing but an engine reads, without the package onnx."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

_OPSET, _IR = 17, 8
# As ONNX numbers types of tensors and of attributes.
_FLOAT, _FLOAT_ATTRIBUTE, _INT_ATTRIBUTE, _INTS_ATTRIBUTE = 1, 1, 2, 7


def write_graph(
    nodes: Sequence[bytes],
    constants: Mapping[str, npt.NDArray[np.float32]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    sizes: Mapping[str, Sequence[int | str]] | None = None,
) -> bytes:
    """A model of ``node``; inputs and outputs are float32 of any shape.

    sizes: of inputs; names stand for any. Layers that share a size are run without a change of layout only
    where the engine can see that they do.
    """
    known = sizes or {}
    graph = b"".join(
        [
            *(_field(1, one) for one in nodes),
            _field(2, b"graph"),
            *(_field(5, _tensor(name, values)) for name, values in constants.items()),
            *(_field(11, _value(name, known.get(name))) for name in inputs),
            *(_field(12, _value(name, None)) for name in outputs),
        ]
    )
    return _number(1, _IR) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, _OPSET))


def node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | float | Sequence[int]
) -> bytes:
    """A node; its attributes are integers, floats or lists of integers."""
    names = [_field(1, name.encode()) for name in inputs] + [_field(2, name.encode()) for name in outputs]
    return b"".join([*names, _field(4, operator.encode()), *(_attribute(*one) for one in attributes.items())])


def _attribute(name: str, value: int | float | Sequence[int]) -> bytes:
    if isinstance(value, float):
        content = _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, _FLOAT_ATTRIBUTE)
    elif isinstance(value, int):
        content = _number(3, value) + _number(20, _INT_ATTRIBUTE)
    else:
        content = b"".join(_number(8, one) for one in value) + _number(20, _INTS_ATTRIBUTE)
    return _field(5, _field(1, name.encode()) + content)


def _tensor(name: str, values: npt.NDArray[np.float32]) -> bytes:
    dimensions = b"".join(_number(1, side) for side in values.shape)
    raw = np.ascontiguousarray(values, "<f4").tobytes()
    return dimensions + _number(2, _FLOAT) + _field(8, name.encode()) + _field(9, raw)


def _value(name: str, size: Sequence[int | str] | None) -> bytes:
    sides = [_field(2, one.encode()) if isinstance(one, str) else _number(1, one) for one in size or ()]
    shape = b"" if size is None else _field(2, b"".join(_field(1, side) for side in sides))
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, _FLOAT) + shape))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
