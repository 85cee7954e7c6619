"""The way back from a bundle to a codec that learns: weights of graphs and integers in torch's modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from softstair.bundle import Bundle
from softstair.errors import UsageError
from softstair.graphs import weights_of
from softstair.quantize.grids import INPUTS, LAYERS, WEIGHT_BITS
from softstair.quantize.rates import POSITIONS_PER_OCTAVE
from softstair.quantize.tables import TableSet

from ..codec import Codec
from ..layers.densities import LogisticMixture
from ..recipe import Rates
from ..shape import Shape
from .rewrites import with_strides

_PARTS = {
    "analysis": "analysis",
    "hyper_analysis": "hyper_analysis",
    "mean_base": "mean_network",
    "mean": "mean_network",
    "synthesis": "synthesis",
}
_FIT_STEPS, _FIT_RATE, _FIT_LIMIT = 60, 0.1, 24  # of the density of z, which is fitted up to the limit


@dataclass(frozen=True)
class Imported:
    """A bundle as torch has it.

    codec: on integer grids; analysis and hyper analysis are laid out as graphs have them. rates: what the
    bundle was trained for. places: of the codec's parameters, graph and weight, as packs name them.
    orders: of parameters whose outputs lie otherwise in the graph, where each of them comes from.
    """

    codec: Codec
    rates: Rates
    places: dict[str, str] = field(default_factory=dict)
    orders: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)


def import_bundle(bundle: Bundle) -> Imported:
    """The codec of a bundle.

    Raises:
        UsageError: it does not say what it was trained for, or its networks are not those of this release.
    """
    recipe = bundle.manifest.provenance.get("recipe")
    if not isinstance(recipe, Mapping) or not bundle.encodes:
        raise UsageError(
            f"Bundle {bundle.name} cannot be adapted: it has no encoder, or does not say how it was trained."
        )
    codec = Codec(_known(Shape, recipe["shape"]))
    codec.analysis = with_strides(codec.analysis)  # type: ignore[assignment]
    codec.hyper_analysis = with_strides(codec.hyper_analysis)  # type: ignore[assignment]
    result = Imported(codec, _known(Rates, recipe["rates"]))
    for graph, part in _PARTS.items():
        _import_graph(result, bundle, graph, part)
    missing = [
        name
        for name, _ in codec.named_parameters()
        if name.partition(".")[0] in _PARTS.values() and name not in result.places
    ]
    if missing:
        raise _other(bundle, missing[0])
    with torch.no_grad():
        codec.deviation.copy_(deviation_of(bundle).reshape(1, -1, 1, 1))
        _import_integers(codec, bundle)
    _fit(codec.z_density, bundle.integers.z_tables)
    codec.set_fixed(True)
    return result


def _known(kind: Any, given: Mapping[str, Any]) -> Any:
    """A part of a recipe that may be of another release: what it has too much does not matter here."""
    fields = {one.name for one in msgspec.structs.fields(kind)}
    return msgspec.convert({name: value for name, value in given.items() if name in fields}, kind)


def _other(bundle: Bundle, what: str) -> UsageError:
    return UsageError(
        f"Bundle {bundle.name} cannot be adapted: its networks are not those of this release ({what})."
    )


@torch.no_grad()
def _import_graph(result: Imported, bundle: Bundle, graph: str, part: str) -> None:
    data = bundle.graph(graph)
    module = result.codec.get_submodule(part)
    parameters, shuffled = dict(module.named_parameters()), _shuffled(module)
    in_blocks = not any(node.op_type == "DepthToSpace" for node in onnx.load_from_string(data).graph.node)
    for name, values in weights_of(bytearray(data)).items():
        own = name.removeprefix("network.")
        parameter = parameters.get(own)
        if parameter is None or tuple(parameter.shape) != values.shape:
            raise _other(bundle, f"{graph}: {name}")
        key = f"{part}.{own}"
        tensor = torch.from_numpy(values.astype(np.float32))
        factor = shuffled.get(own.rpartition(".")[0], 1)
        if in_blocks and factor > 1:
            order = np.arange(len(values)).reshape(-1, factor**2).T.reshape(-1)
            result.orders[key] = order
            parameter[torch.from_numpy(order)] = tensor
        else:
            parameter.copy_(tensor)
        result.places[key] = f"{graph}/{name}"


def _shuffled(module: nn.Module) -> dict[str, int]:
    """Convolutions whose outputs become pixels, and how many a side."""
    found = {}
    for name, child in module.named_modules():
        if isinstance(child, nn.Sequential):
            for index, layer in enumerate(child):
                if isinstance(layer, nn.PixelShuffle):
                    found[f"{name}.{index - 1}"] = layer.upscale_factor
    return found


def deviation_of(bundle: Bundle) -> Tensor:
    """What the mean network divides latents by, a constant of its graph."""
    nodes = onnx.load_from_string(bundle.graph("mean")).graph.node
    constants = {node.output[0]: node for node in nodes if node.op_type == "Constant"}
    for node in nodes:
        if node.op_type == "Div" and node.input[0] == "known" and node.input[1] in constants:
            values = numpy_helper.to_array(constants[node.input[1]].attribute[0].t)
            return torch.from_numpy(values.astype(np.float32).ravel())
    raise _other(bundle, "mean: deviation")


def _import_integers(codec: Codec, bundle: Bundle) -> None:
    network, scale = codec.scale_network, bundle.integers.scale
    for name in LAYERS:
        convolution, layer = getattr(network, name), scale.layers[name]
        convolution.weight.copy_(_real(layer.weight, WEIGHT_BITS))
        convolution.bias.copy_(_real(layer.bias, WEIGHT_BITS + INPUTS[name].bits))
    network.rate.table.copy_(_real(scale.rate_bias, WEIGHT_BITS))
    network.phase.copy_(_real(scale.phase_bias, WEIGHT_BITS))
    codec.gains.offset.copy_(torch.from_numpy(bundle.integers.gains).float() / POSITIONS_PER_OCTAVE)


def _real(integers: npt.NDArray[Any], bits: int) -> Tensor:
    return torch.from_numpy(integers.astype(np.float64) / (1 << bits)).float()


def _fit(density: LogisticMixture, tables: TableSet) -> None:
    """Make a density what the tables of z say, which its training left behind."""
    points, channels, _ = density.mean.shape
    rows = [tables.probabilities(row)[:-1] for row in range(tables.rows)]
    largest = min(max(len(row) for row in rows) // 2, _FIT_LIMIT)
    wanted = np.zeros((tables.rows, 2 * largest + 1))
    for target, row in zip(wanted, rows, strict=True):
        outer, inner = len(row) // 2, min(len(row) // 2, largest)
        target[largest - inner : largest + inner + 1] = row[outer - inner : outer + inner + 1]
    share = torch.from_numpy(wanted).float().view(points, channels, 1, -1)
    symbols = torch.arange(-largest, largest + 1).float().view(1, 1, 1, -1)
    grid, hat = symbols.expand(points, channels, 1, -1), torch.eye(points)
    with torch.no_grad():
        mean = (share * symbols).sum(-1)
        deviation = ((share * symbols**2).sum(-1) - mean**2).clamp_min(0.05).sqrt()
        density.mean.copy_(mean + deviation * torch.tensor([-1.0, 0.0, 1.0]))
        density.log_scale.copy_((deviation / 2).log().expand_as(density.log_scale))
    optimiser = torch.optim.Adam(density.parameters(), _FIT_RATE)
    for _ in range(_FIT_STEPS):
        optimiser.zero_grad()
        p = density.probability(grid, hat).clamp_min(1e-9)
        (-(share * p.log2()).sum() / tables.rows).backward()
        optimiser.step()
