"""What a bundle costs to run, counted from its networks: multiply-accumulates and parameters.

Counted for a picture of 768x512 and divided by its pixels. Only products of weights count:
convolutions and matrix products, borders as if they were padded. A network that runs once a phase
counts as often.
"""

from __future__ import annotations

from math import prod

import onnx
from onnx import shape_inference

from softstair.bundle import Bundle
from softstair.errors import InvalidBundle
from softstair.quantize.phases import PHASES
from softstair.quantize.scale_network import ScaleWeights

from .results import Complexity, Part

HEIGHT, WIDTH = 512, 768
_PIXELS = HEIGHT * WIDTH
_LATENT_SIDE, _Z_SIDE = 16, 32  # pixels that a latent, a hyper latent stands for
_SIDES = {"analysis": 1, "mean_base": _Z_SIDE}  # of a graph's first input; else _LATENT_SIDE
_RUNS = {"mean": PHASES}
_PREDICTION = ("scale", "mean_base", "mean")
# How often a layer of the scale network runs, and at which side. In the first phase no symbol is
# known; the log-scale enters once; the last layer gives every phase its own quarter.
_SCALE_LAYERS = {
    "hyper": (1, _Z_SIDE),
    "expand": (1, _Z_SIDE),
    "mix": (1, _LATENT_SIDE),
    "log_scale_head": (1, _LATENT_SIDE),
    "neighbours": (PHASES - 1, _LATENT_SIDE),
    "gather": (PHASES - 1, _LATENT_SIDE),
    "log_scale_entry": (1, _LATENT_SIDE),
    "local": (PHASES, _LATENT_SIDE),
    "widen": (PHASES, _LATENT_SIDE),
    "correction_head": (1, _LATENT_SIDE),
}


def complexity_of(bundle: Bundle, codec: str) -> Complexity:
    """What a bundle costs, under the name that a codec has in results.

    Raises:
        InvalidBundle: a graph whose shapes cannot be inferred.
    """
    names = ("analysis", "hyper_analysis", "mean_base", "mean", "synthesis")
    parts = [_part_of_graph(bundle, name) for name in names]
    parts.insert(2, _part_of_scale(bundle.integers.scale))
    kmac = {part.name: part.kmac for part in parts}
    prediction = sum(kmac[name] for name in _PREDICTION)
    return Complexity(
        codec=codec,
        fingerprint=bundle.fingerprint.hex(),
        encoder_kmac=kmac["analysis"] + kmac["hyper_analysis"] + prediction,
        decoder_kmac=prediction + kmac["synthesis"],
        parameters=sum(part.parameters for part in parts),
        bundle_bytes=bundle.size,
        parts=tuple(parts),
    )


def _part_of_scale(weights: ScaleWeights) -> Part:
    products = parameters = 0
    for name, layer in weights.layers.items():
        runs, side = _SCALE_LAYERS[name]
        products += runs * layer.weight.size * (HEIGHT // side) * (WIDTH // side)
        parameters += layer.weight.size + layer.bias.size
    parameters += weights.rate_bias.size + weights.phase_bias.size
    return Part("scale", products / _PIXELS / 1000, parameters)


def _part_of_graph(bundle: Bundle, name: str) -> Part:
    try:
        graph = _with_shapes(onnx.load_from_string(bundle.graph(name)), _SIDES.get(name, _LATENT_SIDE))
        shapes = _shapes(graph)
        products = sum(_products(node, shapes) for node in graph.node)
    except Exception as error:  # onnx and protobuf raise what they please
        raise InvalidBundle(f"The graph {name} of {bundle.origin} cannot be counted: {error}.") from error
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    parameters = sum(prod(tensor.dims) for tensor in graph.initializer if tensor.data_type in floats)
    return Part(name, _RUNS.get(name, 1) * products / _PIXELS / 1000, parameters)


def _with_shapes(model: onnx.ModelProto, side: int) -> onnx.GraphProto:
    """The graph with every shape inferred for our picture."""
    sizes = {"height": HEIGHT // side, "width": WIDTH // side}
    for value in model.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in sizes:
                dimension.dim_value = sizes[dimension.dim_param]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return shapes


def _products(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of a node; a shape with an unknown side raises ValueError."""
    if node.op_type not in ("Conv", "MatMul", "Gemm"):
        return 0
    output, weight = shapes[node.output[0]], shapes[node.input[1]]
    if not all((*output, *weight)):
        raise ValueError(f"the shape of {node.output[0]} is unknown")
    if node.op_type == "Conv":
        return prod(output) * prod(weight[1:])
    inner = shapes[node.input[0]][-1]
    return prod(output) * inner
