"""Weights in 8 bits, chosen layer by layer for what a layer is really given.

Layers are taken in the order in which they run, each on what those before it, in 8 bits already, make of
some pictures. First come the weights that best repeat what the layer made before (least squares). Then their
columns become whole numbers one by one, and what a column is off by is made up for by those that follow
(GPTQ, arXiv 2210.17323). Last, the bias makes up for the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from experiments.judging import Measured
from torch import Tensor, nn
from torch.nn import functional as F

from softstair.codec.tile import TileCoder
from softstair.learn.codec import Codec
from softstair.quantize.phases import PHASES

LARGEST = 127
DAMPING = 0.001  # of the mean variance: so much is added to each
POWERS = (0.5, 1.0)
CLIPS = (1.0, 0.85, 0.7)  # the largest number, of the largest weight
BLOCK = 128  # columns that are done before the others follow

Run = Callable[[Codec], object]


@dataclass(frozen=True)
class Rounded:
    """A layer's weights in 8 bits.

    numbers: int8, as the weight is. factors: float32, of the outputs and, where there are any, of the inputs.
    """

    numbers: npt.NDArray[np.int8]
    factors: tuple[npt.NDArray[np.float32], ...]

    @property
    def values(self) -> Tensor:
        values = torch.from_numpy(self.numbers.astype(np.float32))
        for factor in self.factors:
            values = values * torch.from_numpy(factor)
        return values


@torch.no_grad()
def nearest(weight: Tensor) -> Rounded:
    """Every weight by itself, one factor an output channel."""
    factor = weight.abs().amax((1, 2, 3), keepdim=True) / LARGEST
    return Rounded((weight / factor).round().to(torch.int8).numpy(), (factor.numpy(),))


def runs_on(
    pictures: Sequence[npt.NDArray[np.uint8]], of: Measured, coder: TileCoder
) -> dict[str, list[Run]]:
    """What the parts of a network are given when a coder codes pictures (3, H, W), by part.

    Every picture is coded at two of four rate positions, a third of the range apart.
    """
    runs: dict[str, list[Run]] = {
        name: [] for name in ("analysis", "hyper_analysis", "mean_network", "synthesis")
    }
    last = of.integers.last_position
    for index, picture in enumerate(pictures):
        planes = torch.from_numpy(picture)[None].float() / 255
        runs["analysis"].append(lambda codec, planes=planes: codec.analysis(planes))
        for third in (index % 2, index % 2 + 2):
            position = round(last * third / 3)
            decided, setting = of.decide(coder, picture, position), coder.setting(position)
            gain, hat = torch.from_numpy(setting.gain)[None, :, None, None], torch.from_numpy(setting.hat)
            y, z = torch.from_numpy(decided.latents), torch.from_numpy(decided.z.astype(np.float32))
            z_hat = z.permute(2, 0, 1)[None].contiguous()
            runs["hyper_analysis"].append(
                lambda codec, planes=planes, gain=gain, hat=hat: codec.hyper_analysis(
                    codec.analysis(planes), codec.deviation, gain, hat
                )
            )
            runs["mean_network"].append(
                lambda codec, y=y, z_hat=z_hat, hat=hat: in_phases(codec, y, z_hat, hat)
            )
            runs["synthesis"].append(lambda codec, y=y, hat=hat: codec.synthesis(y, hat))
    return runs


def in_phases(codec: Codec, y: Tensor, z_hat: Tensor, hat: Tensor) -> None:
    """All calls of the mean network for latents whose y^ is known."""
    base, known = codec.mean_network.base(z_hat, hat), torch.zeros_like(y)
    for phase, mask in enumerate(codec.phase_masks(y)):
        codec.mean_network(known, base, codec.deviation, torch.eye(PHASES)[phase][None])
        known = known + y * mask


@torch.no_grad()
def tune(
    codec: Codec, reference: Codec, beginnings: tuple[str, ...], runs: Mapping[str, Sequence[Run]]
) -> dict[str, Rounded]:
    """Round the weights of a codec's convolutions whose names so begin; what they became, by layer.

    codec: is changed. reference: the same as it was. runs: of ``runs_on``.
    """
    rounded = {}
    for part, runs_of_part in runs.items():
        names = {
            name
            for name, module in codec.named_modules()
            if isinstance(module, nn.Conv2d) and name.startswith(f"{part}.")
        }
        wanted = {name for name in names if f"{name}.".startswith(beginnings)}
        for name in in_order(codec, wanted, runs_of_part[0]) if wanted else ():
            layer = codec.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            rounded[name] = tune_layer(
                layer, Statistics.of(layer, pairs(codec, reference, name, runs_of_part))
            )
    return rounded


def in_order(codec: Codec, names: Collection[str], run: Run) -> list[str]:
    """Names of layers in the order in which they run."""
    called: dict[str, None] = {}
    handles = [
        codec.get_submodule(name).register_forward_pre_hook(
            lambda module, given, name=name: called.setdefault(name)
        )
        for name in sorted(names)
    ]
    run(codec)
    for handle in handles:
        handle.remove()
    return list(called)


def pairs(codec: Codec, reference: Codec, name: str, runs: Sequence[Run]) -> Iterator[tuple[Tensor, Tensor]]:
    """What a layer of either codec is given, call by call."""
    for run in runs:
        both: list[list[Tensor]] = []
        for one in (codec, reference):
            given: list[Tensor] = []
            layer = one.get_submodule(name)
            handle = layer.register_forward_pre_hook(
                lambda module, inputs, given=given: given.append(inputs[0])
            )
            run(one)
            handle.remove()
            both.append(given)
        yield from zip(*both, strict=True)


@dataclass(frozen=True)
class Statistics:
    """Of what a layer is given, in columns of its weights: groups of channels first.

    mean, mean_before: (G, D). second: (G, D, D), covariance of what it is given. cross: (G, D, D), of what it
    was given before with what it is given. Float64.
    """

    mean: Tensor
    mean_before: Tensor
    second: Tensor
    cross: Tensor

    @classmethod
    def of(cls, layer: nn.Conv2d, given: Iterator[tuple[Tensor, Tensor]]) -> Statistics:
        count = 0
        mean, mean_before, second, cross = (torch.zeros((), dtype=torch.float64) for _ in range(4))
        for now, before in given:
            x, x_before = columns_of(layer, now), columns_of(layer, before)
            count += x.shape[2]
            mean = mean + x.sum(2, dtype=torch.float64)
            mean_before = mean_before + x_before.sum(2, dtype=torch.float64)
            second = second + (x @ x.transpose(1, 2)).double()
            cross = cross + (x_before @ x.transpose(1, 2)).double()
        mean, mean_before, second, cross = (total / count for total in (mean, mean_before, second, cross))
        second = second - mean[:, :, None] * mean[:, None]
        cross = cross - mean_before[:, :, None] * mean[:, None]
        return cls(mean, mean_before, second, cross)


def columns_of(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What each weight of an output is multiplied by, (G, D, places)."""
    if layer.kernel_size == (1, 1):
        columns = x.flatten(2)
    else:
        columns = F.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)
    batch, _, places = columns.shape
    grouped = columns.view(batch, layer.groups, -1, places)
    return grouped.permute(1, 2, 0, 3).reshape(layer.groups, -1, batch * places)


def tune_layer(layer: nn.Conv2d, seen: Statistics) -> Rounded:
    """Give a layer weights in 8 bits, and a bias for them, so that it makes what it made before."""
    groups, damped = layer.groups, with_damping(seen.second)
    weight = layer.weight.double().view(groups, layer.out_channels // groups, -1)
    ridge = damped - seen.second
    best = torch.linalg.solve(damped, (weight @ (seen.cross + ridge)).transpose(1, 2)).transpose(1, 2)
    inputs, outputs = factors_of(layer, best, seen.second)
    numbers = in_turn(best / inputs / outputs, damped * inputs * inputs.transpose(1, 2))
    factors = [outputs.reshape(-1, 1, 1, 1)]
    if (inputs != 1).any():
        factors.append(inputs.view(1, layer.in_channels, -1)[:, :, :1, None])
    rounded = Rounded(
        numbers.reshape(layer.weight.shape).to(torch.int8).numpy(),
        tuple(factor.float().numpy() for factor in factors),
    )
    values = rounded.values
    flat = values.double().view_as(weight)
    before, now = (weight @ seen.mean_before[..., None]).flatten(), (flat @ seen.mean[..., None]).flatten()
    layer.weight.copy_(values)
    assert layer.bias is not None
    layer.bias.add_((before - now).float())
    return rounded


def with_damping(second: Tensor) -> Tensor:
    size = second.shape[-1]
    mean = second.diagonal(dim1=1, dim2=2).mean(1)
    return second + (DAMPING * mean + 1e-12)[:, None, None] * torch.eye(size, dtype=second.dtype)


def factors_of(layer: nn.Conv2d, weight: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of inputs (G, 1, D), the same for all columns of a channel, and of outputs (G, O, 1).

    Of several, those with which outputs are off by least if every weight goes to the nearest. For inputs:
    none, some that give finer steps to channels that vary much, some that even out how large weights are. For
    outputs: of the largest weight, or of less, which clips it.
    """
    channels = layer.in_channels // layer.groups

    def by_channel(columns: Tensor) -> Tensor:
        means = columns.view(layer.groups, channels, -1).mean(2, keepdim=True)
        means = means + 1e-6 * means.mean(1, keepdim=True) + 1e-30
        return means.expand(-1, -1, columns.shape[1] // channels).reshape(layer.groups, 1, -1)

    variance = second.diagonal(dim1=1, dim2=2)
    found = [torch.ones_like(variance)[:, None]]
    if channels > 1:
        found += [by_channel(variance) ** (-power / 2) for power in POWERS]
        found += [by_channel(weight.square().mean(1)) ** (power / 2) for power in POWERS]
    best, least = None, float("inf")
    for inputs in (one.float().double() for one in found):
        for clip in CLIPS:
            largest = (weight / inputs).abs().amax(2, keepdim=True).clamp(min=1e-12)
            outputs = (largest * clip / LARGEST).float().double()
            numbers = (weight / inputs / outputs).round().clamp(-LARGEST, LARGEST)
            error = ((numbers * outputs * inputs - weight).square() * variance[:, None]).sum().item()
            if error < least:
                best, least = (inputs, outputs), error
    assert best is not None
    return best


def in_turn(weight: Tensor, second: Tensor) -> Tensor:
    """Whole numbers (G, O, D) for weights in steps, columns that vary most first.

    second: (G, D, D), what the columns have in common.
    """
    order = second.diagonal(dim1=1, dim2=2).mean(0).argsort(descending=True)
    rest, second = weight[:, :, order].clone(), second[:, order][:, :, order]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(second))
    upper = torch.linalg.cholesky(inverse, upper=True)
    numbers = torch.empty_like(rest)
    for start in range(0, rest.shape[2], BLOCK):
        block = slice(start, min(start + BLOCK, rest.shape[2]))
        errors = torch.empty_like(rest[:, :, block])
        for column in range(block.start, block.stop):
            numbers[:, :, column] = rest[:, :, column].round().clamp(-LARGEST, LARGEST)
            off = (rest[:, :, column] - numbers[:, :, column]) / upper[:, column, column, None]
            errors[:, :, column - start] = off
            rest[:, :, column + 1 : block.stop] -= (
                off[:, :, None] * upper[:, None, column, column + 1 : block.stop]
            )
        rest[:, :, block.stop :] -= errors @ upper[:, block, block.stop :]
    return numbers[:, :, order.argsort()]
