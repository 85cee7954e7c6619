"""Start a smaller network from the weights of a larger one.

What blocks pass on is a sum that nothing but convolutions read: it is turned to its principal
components on training crops, and the last are left out (S. Ashkboos et al., "SliceGPT", ICLR 2024).
Of what goes through an activation single units are kept, those that say most of all others weighed by
what is read of them (Cholesky decomposition with pivots); readers are refitted by least squares.
Latents that cost least at the highest rate are left out. Blocks of another kind and overlap begin anew,
almost as the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from softstair.errors import UsageError
from softstair.quantize.phases import PHASES
from softstair.quantize.rates import POSITIONS_PER_POINT

from ..codec import Codec
from ..layers.blocks import Gated, Residual
from ..layers.rates import draw_positions, hat_weights
from ..shape import Shape
from .latents import take


def narrowed(codec: Codec, shape: Shape, pictures: Tensor) -> dict[str, Tensor]:
    """Weights of another shape that start where a codec is; pictures (N, 3, H, W) in [0, 1].

    Raises:
        UsageError: the shape has detail and differs in more than its blocks and overlap.
    """
    old = codec.shape
    inner = old.synthesis_inner if shape.gated else shape.synthesis_inner
    dense = msgspec.structs.replace(shape, gated=False, overlap=False, synthesis_inner=inner)
    if shape.detail and dense != old:
        raise UsageError("A shape with detail cannot be narrowed; narrow it first, then add detail.")
    if old.detail and not shape.detail:
        codec = without_detail(codec)
    result = Codec(dense)
    found, wanted = signals(codec), signals(result)
    observe(codec, found, pictures)
    observe(result, wanted, pictures[:1])
    weights = {name: value.double() for name, value in codec.state_dict().items()}
    for signal, new in zip(found, wanted, strict=True):
        assert new.moments is not None
        narrow(signal, len(new.moments) - 1, weights)
    drop_latents(codec, shape.latents, pictures, weights)
    final: dict[str, Tensor] = Codec(shape).state_dict()
    for name in weights.keys() & final.keys():
        final[name] = weights[name].float().reshape(final[name].shape)
    return final


def with_narrower_blocks(codec: Codec, inner: tuple[int, int, int], pictures: Tensor) -> dict[str, Tensor]:
    """Weights whose gated synthesis has other inner widths; arguments as for ``narrowed``.

    Of the products of a block those are kept that say most of the others.

    Raises:
        UsageError: the synthesis is not gated, or an inner width grows.
    """
    shape = msgspec.structs.replace(codec.shape, synthesis_inner=inner)
    pairs = zip(inner, codec.shape.synthesis_inner, strict=True)
    if not shape.gated or any(new > old for new, old in pairs):
        raise UsageError(
            "Only the blocks of a gated synthesis can be narrowed, and only to smaller inner widths."
        )
    final = Codec(shape).state_dict()
    found = []
    for name, block in codec.synthesis.named_modules(prefix="synthesis"):
        if isinstance(block, Gated):
            written = [f"{name}.{branch}" for branch in ("a", "b")]
            layers = [
                f"{one}.{layer}.{part}" for one in written for layer in "01" for part in ("weight", "bias")
            ]
            found.append(Signal([block.project], layers, [f"{name}.project.weight"]))
    observe(codec, found, pictures)
    weights = {name: value.double() for name, value in codec.state_dict().items()}
    for signal in found:
        narrow(signal, len(final[signal.written[0]]), weights)
    return {name: weights[name].float().reshape(value.shape) for name, value in final.items()}


@dataclass
class Signal:
    """A tensor (B, width, h, w) inside a codec, and the layers on both sides of it.

    A layer may handle a unit as several channels side by side, where pixels are shuffled.
    """

    readers: list[nn.Module]  # whose input it is
    written: list[str]  # parameters with an output channel of it first
    read: list[str]  # weights with an input channel of it second
    mixed: list[str] = field(default_factory=list)  # parameters with a channel of it last
    is_sum: bool = False  # that no activation touches
    moments: Tensor | None = None  # of its units and a constant one


def signals(codec: Codec) -> list[Signal]:
    """All signals whose width a shape sets, but y and z and the scale network's inner one."""
    names = {id(module): name for name, module in codec.named_modules()}
    found = []

    def add(readers: list[Any], writers: list[Any], **more: Any) -> None:
        written = [f"{names[id(w)]}.{part}" for w in writers for part in ("weight", "bias")]
        read = [f"{names[id(conv_of(reader))]}.weight" for reader in readers]
        found.append(Signal(readers, written, read, **more))

    analysis, synthesis = codec.analysis, codec.synthesis
    hyper, means, scales = codec.hyper_analysis, codec.mean_network, codec.scale_network
    streams = (
        (analysis.stem[1], analysis.stem_blocks, analysis.to_middle),
        (analysis.to_middle[1], analysis.middle_blocks, analysis.to_deep),
        (analysis.to_deep[1], analysis.deep_blocks, analysis.head.layer),
        (synthesis.head.layer, synthesis.deep_blocks, synthesis.to_middle),
        (synthesis.to_middle[0], synthesis.middle_blocks, synthesis.to_stem),
        (synthesis.to_stem[0], synthesis.stem_blocks, synthesis.stem[0]),
    )
    for writer, blocks, reader in streams:
        mixed = ["synthesis.rate.table"] if writer is synthesis.head.layer else []
        seconds = [block.second for block in blocks]
        add([*blocks, reader], [writer, *seconds], mixed=mixed, is_sum=True)
        for block in blocks:
            add([block.second], [block.first])
    add([hyper.body[1]], [hyper.entry], mixed=["hyper_analysis.rate.table"])
    add([hyper.body[3]], [hyper.body[1]])
    add([hyper.head.layer], [hyper.body[3][1]])
    add([means.features[1]], [means.hyper], mixed=["mean_network.rate.table"])
    add([means.features[3]], [means.features[1][0]])
    add([means.body[1]], [means.features[3], means.known], mixed=["mean_network.phase"])
    add([means.head.layer], [means.body[1]])
    add([scales.expand], [scales.hyper], mixed=["scale_network.rate.table"])
    return found


def conv_of(reader: nn.Module) -> nn.Module:
    """The layer that reads a module's input first."""
    if isinstance(reader, Residual):
        return reader.first
    if isinstance(reader, nn.Sequential):
        return next(module for module in reader if not isinstance(module, nn.PixelUnshuffle))
    return reader


@torch.no_grad()
def observe(codec: Codec, found: list[Signal], pictures: Tensor) -> None:
    """Second moments of every signal, as its readers see it."""

    def watch(signal: Signal) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            units = inputs[0].transpose(0, 1).flatten(1).double()
            units = torch.cat([units, torch.ones_like(units[:1])])
            moments = units @ units.T / units.shape[1]
            signal.moments = moments if signal.moments is None else signal.moments + moments

        return hook

    handles = [r.register_forward_pre_hook(watch(signal)) for signal in found for r in signal.readers]
    spread = torch.linspace(0, 0.999, len(pictures))
    codec(pictures, draw_positions(spread, codec.shape.rate_points, None), None)
    for handle in handles:
        handle.remove()


def narrow(signal: Signal, width: int, weights: dict[str, Tensor]) -> None:
    """Leave ``width`` units of a signal in a codec's weights, which are float64."""
    assert signal.moments is not None
    moments = signal.moments / signal.moments[-1, -1]
    count = len(moments) - 1
    if width > count:
        raise SystemExit(f"A signal of {count} units cannot have {width}; this only makes networks smaller.")
    if width == count:
        return
    if signal.is_sum:
        basis = torch.linalg.eigh(moments[:-1, :-1])[1][:, -width:]
        taken, given, constant = basis.T, basis, torch.zeros(count, dtype=torch.float64)
    else:
        reading = sum(per_unit(weights[name], 1, count).square().sum((0, 2, 3)) for name in signal.read)
        chosen = pivots(moments[:-1, :-1] * torch.outer(reading.sqrt(), reading.sqrt()), width)
        known = torch.tensor([*chosen, count])
        ridge = 1e-6 * moments.diagonal().mean() * torch.eye(width + 1, dtype=torch.float64)
        fit = torch.linalg.solve(moments[known][:, known] + ridge, moments[known, :-1]).T
        taken, given, constant = torch.eye(count, dtype=torch.float64)[chosen], fit[:, :-1], fit[:, -1]
    for name in signal.written:
        weights[name] = flat(torch.einsum("no,og...->ng...", taken, per_unit(weights[name], 0, count)), 0)
    for name in signal.mixed:
        weights[name] = weights[name] @ taken.T
    for name in signal.read:
        weight = per_unit(weights[name], 1, count)
        weights[name.replace(".weight", ".bias")] += torch.einsum("oig...,i->o", weight, constant)
        weights[name] = flat(torch.einsum("oig...,in->ong...", weight, given), 1)


def per_unit(weight: Tensor, axis: int, count: int) -> Tensor:
    """The axis as (units, channels a unit), the kernel as one."""
    shape = weight.shape
    unit = [*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :]]
    return weight.reshape(unit).flatten(3) if axis == 1 else weight.reshape(unit)


def flat(weight: Tensor, axis: int) -> Tensor:
    """Units and channels a unit as one axis again; a kernel that was flattened stays so."""
    return weight.flatten(axis, axis + 1)


@torch.no_grad()
def drop_latents(codec: Codec, count: int, pictures: Tensor, weights: dict[str, Tensor]) -> None:
    """Leave ``count`` latents, as many of every phase's group, in a codec's weights."""
    old, points = codec.shape.latents, codec.shape.rate_points
    if count == old:
        return
    y = codec.analysis(pictures).transpose(0, 1).flatten(1)
    position = torch.tensor([POSITIONS_PER_POINT * (points - 1)])
    gain = torch.exp2(codec.gains.log2(position, hat_weights(position, points)))[0, :, 0]
    cost = torch.log2(1 + (y * gain).square()).mean(1).view(PHASES, -1)
    best = cost.argsort(1, descending=True)[:, : count // PHASES].sort(1).values
    kept = (best + torch.arange(PHASES)[:, None] * (old // PHASES)).flatten()
    lost = torch.ones(old, dtype=torch.bool).index_fill(0, kept, False)
    head = weights["synthesis.head.layer.weight"][:, :, 0, 0]
    weights["synthesis.head.layer.bias"] += head[:, lost] @ y.mean(1)[lost].double()
    weights["synthesis.head.layer.weight"] = weights["synthesis.head.layer.weight"][:, kept]
    for name in ("analysis.head.layer.weight", "analysis.head.layer.bias"):
        weights[name] = weights[name][kept]
    take(weights, kept)


def without_detail(codec: Codec) -> Codec:
    """A codec of the core latents alone."""
    shape = codec.shape
    result = Codec(msgspec.structs.replace(shape, latents=shape.core, detail=0))
    groups = torch.arange(shape.latents).view(PHASES, -1)
    weights = {name: value for name, value in codec.state_dict().items() if ".detail." not in name}
    take(weights, groups[:, : shape.core // PHASES].flatten())
    result.load_state_dict(weights)
    return result


def pivots(moments: Tensor, width: int) -> list[int]:
    """Units in the order in which each leaves the least to be said by those not yet chosen."""
    rest = moments.clone()
    chosen: list[int] = []
    for _ in range(width):
        gain = rest.square().sum(0) / rest.diagonal().clamp_min(1e-12 * moments.diagonal().max())
        gain[chosen] = -1
        unit = int(gain.argmax())
        chosen.append(unit)
        rest = rest - torch.outer(rest[:, unit], rest[unit]) / rest[unit, unit].clamp_min(1e-12)
    return sorted(chosen)
