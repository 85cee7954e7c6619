"""Graphs that move pixels between patches and channels the way an engine on a CPU is fast at.

The networks are the same; only how they are written down changes. ONNX Runtime shuffles pixels
element by element on one thread, which took a sixth of a decoder's time and a quarter of the analysis'.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn


def with_strides(network: nn.Module) -> nn.Module:
    """A copy in which a convolution of the channels of patches is one of the patches' pixels.

    A 1x1 convolution after ``PixelUnshuffle(f)`` has a kernel of f x f pixels and a stride of f.
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Sequential):
                setattr(module, name, nn.Sequential(*_strided(list(child))))
    return network


def _strided(layers: list[nn.Module]) -> Iterator[nn.Module]:
    factor = 1
    for layer in layers:
        if isinstance(layer, nn.PixelUnshuffle):
            factor = layer.downscale_factor
        elif factor > 1 and isinstance(layer, nn.Conv2d):
            yield _of_pixels(layer, factor)
            factor = 1
        else:
            yield layer


@torch.no_grad()
def _of_pixels(layer: nn.Conv2d, factor: int) -> nn.Conv2d:
    side, inputs = layer.kernel_size[0], layer.in_channels // factor**2
    result = nn.Conv2d(inputs, layer.out_channels, side * factor, factor, side // 2 * factor)
    patches = layer.weight.unflatten(1, (inputs, factor, factor))
    result.weight.copy_(patches.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3))
    assert layer.bias is not None
    assert result.bias is not None
    result.bias.copy_(layer.bias)
    return result


def shuffle_in_blocks(model: onnx.ModelProto) -> None:
    """Replace every ``DepthToSpace``, in place, by transpositions that copy whole blocks of channels.

    Channels of the convolution before it are put in the order row, column, channel, so that with
    channels last a row of a patch is one block.
    """
    graph = model.graph
    writers = {output: node for node in graph.node for output in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "DepthToSpace":
            nodes.append(node)
            continue
        factor = int(next(a.i for a in node.attribute if a.name == "blocksize"))
        weight, bias = writers[node.input[0]].input[1:]
        _order_by_place(graph, weight, factor)
        channels = _order_by_place(graph, bias, factor)
        nodes.extend(_in_blocks(graph, node, factor, channels))
    del graph.node[:]
    graph.node.extend(nodes)


def _order_by_place(graph: onnx.GraphProto, name: str, factor: int) -> int:
    """Outputs (channel, row, column) of a convolution become (row, column, channel); how many channels."""
    tensor = next(tensor for tensor in graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor)
    places = values.reshape(-1, factor**2, *values.shape[1:])
    tensor.CopyFrom(numpy_helper.from_array(places.swapaxes(0, 1).reshape(values.shape), name))
    return len(places)


def _in_blocks(
    graph: onnx.GraphProto, node: onnx.NodeProto, factor: int, channels: int
) -> Iterator[onnx.NodeProto]:
    """(1, factor**2 * C, H, W), channels in the order of places, to (1, C, factor * H, factor * W).

    Among sizes a zero stands for the same axis of the input, -1 for what is left.
    """
    steps: list[tuple[str, list[int]]] = [
        ("Transpose", [0, 2, 3, 1]),
        ("Squeeze", [0]),
        ("Reshape", [0, 0, factor, factor * channels]),
        ("Transpose", [0, 2, 1, 3]),  # (H, row, W, column and channel)
        ("Reshape", [0, 0, -1, channels]),
        ("Reshape", [1, -1, 0, 0]),
        ("Transpose", [0, 3, 1, 2]),
    ]
    current, output = node.input[0], node.output[0]
    for index, (operator, numbers) in enumerate(steps):
        following = output if index == len(steps) - 1 else f"{output}.{index}"
        if operator == "Transpose":
            yield helper.make_node(operator, [current], [following], perm=numbers)
        else:
            sizes = numpy_helper.from_array(np.array(numbers, np.int64), f"{following}.numbers")
            graph.initializer.append(sizes)
            yield helper.make_node(operator, [current, sizes.name], [following])
        current = following
