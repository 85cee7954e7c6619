"""The float networks as ONNX graphs with half-precision weights."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Collection, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from softstair.bundle import GRAPHS

from ..codec import Codec
from ..networks import Icon, Preview
from .rewrites import shuffle_in_blocks, with_strides

_OPSET = 17
_HALF_FROM = 64  # elements; smaller constants stay in float32
_ENCODER = ("analysis", "hyper_analysis")
# What says that a weight of the encoder lies in a residual block: there six binary digits cost nothing
# (docs/decisions/eight-bits.md), and what is round compresses by a quarter more.
_BLOCKS = ("_blocks.", ".body.")
_DIGITS = 6


class _Graph(nn.Module):
    """A network as its graph has it. call: what is made of the network and the graph's inputs."""

    def __init__(self, network: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network, self._call = network, call

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._call(self.network, *inputs)


def export_graphs(codec: Codec, names: Collection[str] = GRAPHS) -> dict[str, bytes]:
    """Graphs of a bundle by name. The codec must be on the CPU, in float32."""
    shape = codec.shape
    hat = torch.zeros(1, shape.rate_points)
    latents = torch.zeros(1, shape.latents, 4, 6)
    z_hat = torch.zeros(1, shape.hyper_latents, 2, 3)
    base = torch.zeros(1, shape.context, 4, 6)
    deviation = codec.deviation
    networks: list[tuple[str, nn.Module, Callable[..., Tensor], dict[str, Tensor]]] = [
        (
            "analysis",
            with_strides(codec.analysis),
            lambda network, picture: network(picture),
            {"picture": torch.zeros(1, 3, 64, 96)},
        ),
        (
            "hyper_analysis",
            with_strides(codec.hyper_analysis),
            lambda network, latents, gain, hat: network(latents, deviation, gain, hat),
            {"latents": latents, "gain": torch.ones(1, shape.latents, 1, 1), "hat": hat},
        ),
        (
            "mean_base",
            codec.mean_network,
            lambda network, z_hat, hat: network.base(z_hat, hat),
            {"z_hat": z_hat, "hat": hat},
        ),
        (
            "mean",
            codec.mean_network,
            lambda network, known, base, phase: network(known, base, deviation, phase),
            {"known": latents, "base": base, "phase": torch.zeros(1, 4)},
        ),
        (
            "synthesis",
            codec.synthesis,
            lambda network, latents, hat: network(latents, hat),
            {"latents": latents, "hat": hat},
        ),
    ]
    return {
        name: _export(_Graph(network, call), inputs, encodes=name in _ENCODER)
        for name, network, call, inputs in networks
        if name in names
    }


def export_synthesis(codec: Codec) -> bytes:
    """The graph of the synthesis alone."""
    return export_graphs(codec, ("synthesis",))["synthesis"]


def export_preview(head: Preview) -> bytes:
    """The graph of a head that makes small pictures (``stages.preview``)."""
    latents = torch.zeros(1, head.entry.in_channels, 4, 6)
    hat = torch.zeros(1, len(head.rate.table))
    return _export(head, {"latents": latents, "hat": hat})


def export_icon(network: Icon) -> bytes:
    """The graph of a network that makes the smallest pictures (``stages.icon``)."""
    known = torch.zeros(1, network.known.in_channels, 4, 6)
    base = torch.zeros(1, network.base.in_channels, 4, 6)
    return _export(network, {"known": known, "base": base, "phase": torch.zeros(1, 4)})


def _export(module: nn.Module, inputs: Mapping[str, Tensor], *, encodes: bool = False) -> bytes:
    """A graph for planes of any size; inputs that have none, or a single place, keep their shapes."""
    buffer = io.BytesIO()
    sized = (name for name, value in inputs.items() if value.ndim == 4 and value.shape[3] > 1)
    axes = {name: {2: "height", 3: "width"} for name in sized} | {"output": {2: "rows", 3: "columns"}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracing exporter writes the leaner graphs
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,
            input_names=list(inputs),
            output_names=["output"],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    shuffle_in_blocks(graph)
    _halve_weights(graph, rounded=_BLOCKS if encodes else ())
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString(deterministic=True)


def _halve_weights(model: onnx.ModelProto, rounded: tuple[str, ...] = ()) -> None:
    """Store float32 weights in half precision behind a cast, which engines fold at load.

    rounded: parts of names of weights that get ``_DIGITS`` binary digits.
    """
    casts, kept = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < _HALF_FROM:
            kept.append(tensor)
            continue
        if any(part in tensor.name for part in rounded):
            values = _round(values, _DIGITS)
        half = f"{tensor.name}.half"
        kept.append(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [tensor.name], to=TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _round(values: npt.NDArray[np.float32], digits: int) -> npt.NDArray[np.float32]:
    """To so many binary digits, the leading one among them."""
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.round(fraction * (1 << digits)) / (1 << digits), exponent)
