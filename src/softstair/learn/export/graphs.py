"""The float networks as ONNX graphs with half-precision weights."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from softstair.bundle import GRAPHS

from ..codec import Codec
from ..networks import Preview
from .rewrites import shuffle_in_blocks, with_strides

_OPSET = 17
_HALF_FROM = 64  # elements; smaller constants stay in float32
_ENCODER = ("analysis", "hyper_analysis")
# What says that a weight of the encoder lies in a residual block: there six binary digits cost nothing
# (docs/decisions/eight-bits.md), and what is round compresses by a quarter more.
_BLOCKS = ("_blocks.", ".body.")
_DIGITS = 6


class _Analysis(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.network = with_strides(codec.analysis)

    def forward(self, picture: Tensor) -> Tensor:
        return self.network(picture)


class _HyperAnalysis(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.network, self.deviation = with_strides(codec.hyper_analysis), codec.deviation

    def forward(self, latents: Tensor, gain: Tensor, hat: Tensor) -> Tensor:
        return self.network(latents, self.deviation, gain, hat)


class _MeanBase(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.network = codec.mean_network

    def forward(self, z_hat: Tensor, hat: Tensor) -> Tensor:
        return self.network.base(z_hat, hat)


class _Mean(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.network, self.deviation = codec.mean_network, codec.deviation

    def forward(self, known: Tensor, base: Tensor, phase: Tensor) -> Tensor:
        return self.network(known, base, self.deviation, phase)


class _Synthesis(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.network = codec.synthesis

    def forward(self, latents: Tensor, hat: Tensor) -> Tensor:
        return self.network(latents, hat)


def export_graphs(codec: Codec, names: Collection[str] = GRAPHS) -> dict[str, bytes]:
    """Graphs of a bundle by name. The codec must be on the CPU, in float32."""
    shape = codec.shape
    hat = torch.zeros(1, shape.rate_points)
    latents = torch.zeros(1, shape.latents, 4, 6)
    z_hat = torch.zeros(1, shape.hyper_latents, 2, 3)
    base = torch.zeros(1, shape.context, 4, 6)
    planes: list[tuple[str, nn.Module, dict[str, Tensor], set[str]]] = [
        ("analysis", _Analysis(codec), {"picture": torch.zeros(1, 3, 64, 96)}, {"picture"}),
        (
            "hyper_analysis",
            _HyperAnalysis(codec),
            {"latents": latents, "gain": torch.ones(1, shape.latents, 1, 1), "hat": hat},
            {"latents"},
        ),
        ("mean_base", _MeanBase(codec), {"z_hat": z_hat, "hat": hat}, {"z_hat"}),
        (
            "mean",
            _Mean(codec),
            {"known": latents, "base": base, "phase": torch.zeros(1, 4)},
            {"known", "base"},
        ),
        ("synthesis", _Synthesis(codec), {"latents": latents, "hat": hat}, {"latents"}),
    ]
    return {
        name: _export(module, inputs, sized, encodes=name in _ENCODER)
        for name, module, inputs, sized in planes
        if name in names
    }


def export_synthesis(codec: Codec) -> bytes:
    """The graph of the synthesis alone."""
    return export_graphs(codec, ("synthesis",))["synthesis"]


def export_preview(head: Preview) -> bytes:
    """The graph of a head that makes small pictures (``stages.preview``)."""
    latents = torch.zeros(1, head.entry.in_channels, 4, 6)
    hat = torch.zeros(1, len(head.rate.table))
    return _export(head, {"latents": latents, "hat": hat}, {"latents"})


def _export(
    module: nn.Module, inputs: Mapping[str, Tensor], sized: set[str], *, encodes: bool = False
) -> bytes:
    buffer = io.BytesIO()
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
