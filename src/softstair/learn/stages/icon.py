"""Stage ``icon``: a small network learns to make the smallest pictures of few latents of every place.

It is trained beside a finished bundle and decides nothing of a stream. It begins with those units of the
bundle's mean network that matter most to it, and learns to do without the others: what an encoder coded are
differences from that network's means, so only one that nearly has these is of use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from softstair import _core
from softstair.bundle import Bundle
from softstair.codec import networks_of
from softstair.codec.icon import first_latents
from softstair.codec.tile import TileCoder
from softstair.graphs import weights_of
from softstair.quantize.grids import STRIDE
from softstair.quantize.phases import PHASES, phase_map

from ..data import Crops, Pixels
from ..export.imported import deviation_of
from ..layers.blocks import SLOPE
from ..networks import Icon
from ..run import Say, say_nothing
from .preview import MODE, SIDE, best_of, least_squares

_SIZES = {1: 0.3, 2: 1.0, 4: 1.0}  # divisors of a sixteenth, and what errors at them weigh
_CARRIED = 0.7  # what later groups, which carry what phases tell each other, weigh beside the first
_CHUNK = 64  # crops


@dataclass(frozen=True)
class _Coded:
    """Crops as a decoder sees them.

    differences, latents: of the latents that the network sees, what was coded and y^, (N, L, h, w). base:
    what z^ says. wanted: means of 16 x 16 pixels of the originals, (N, 3, h, w).
    """

    differences: Tensor
    latents: Tensor
    base: Tensor
    wanted: Tensor

    def part(self, chosen: Tensor) -> _Coded:
        return _Coded(*(getattr(self, field.name)[chosen].float() for field in fields(self)))

    def __len__(self) -> int:
        return len(self.wanted)


def train_icon(
    bundle: Bundle,
    pictures: Sequence[Pixels],
    *,
    crops: int = 1000,
    steps: int = 4000,
    seed: int = 0,
    threads: int = 1,
    say: Say = say_nothing,
) -> Icon:
    """The network of a bundle that was best on crops held out. Arguments as of ``train_preview``."""
    torch.manual_seed(seed)
    coded = _code(bundle, pictures, crops, seed, threads)
    say(f"{crops} crops coded")

    def start(learned: _Coded) -> Icon:
        network = _inherited(bundle, learned)
        _fit_colours(network, learned)
        return network

    return best_of(coded, start, _error, _figures, say, seed, steps=steps, count=8, rate=1e-3, look_every=250)


def _code(bundle: Bundle, pictures: Sequence[Pixels], crops: int, seed: int, threads: int) -> _Coded:
    pixels = Crops(list(pictures), seed).batch(0, crops, SIDE)
    positions = np.random.default_rng(seed).integers(0, bundle.last_position + 1, crops)
    networks = networks_of(bundle, threads, MODE)
    coder, seen = TileCoder(bundle, networks, MODE), first_latents(bundle.channels)
    coded: list[tuple[np.ndarray, ...]] = []
    for one, position in zip(pixels, positions.tolist(), strict=True):
        begun = coder.begin(coder.analyse(np.ascontiguousarray(one.transpose(1, 2, 0))), position)
        decided = coder.decide(begun)
        setting, latents = coder.setting(position), decided.latents[0, seen]
        symbols = np.ascontiguousarray(decided.tile.symbols[:, :, seen])
        differences = np.zeros_like(latents)
        for phase in range(PHASES):
            _core.reconstruct_phase(
                phase,
                symbols,
                MODE.states,
                setting.grid,
                np.zeros_like(latents),
                setting.step[seen],
                differences,
            )
        z_hat = np.ascontiguousarray(begun.z.transpose(2, 0, 1))[None].astype(np.float32)
        base = networks.mean_base(z_hat, setting.hat)[0]
        coded.append(tuple(planes.astype(np.float16) for planes in (differences, latents, base)))
    differences, latents, base = (torch.from_numpy(np.stack(planes)) for planes in zip(*coded, strict=True))
    wanted = functional.avg_pool2d(torch.from_numpy(pixels).float() / 255, STRIDE)
    return _Coded(differences, latents, base, wanted)


@torch.no_grad()
def _inherited(bundle: Bundle, learned: _Coded) -> Icon:
    """With the units of the mean network that matter most to the means of the latents seen."""
    seen = torch.from_numpy(first_latents(bundle.channels))
    weights = {
        name.removeprefix("network."): torch.from_numpy(np.array(values, np.float32))
        for name, values in weights_of(bytearray(bundle.graph("mean"))).items()
    }
    deviation = deviation_of(bundle)[seen].reshape(1, -1, 1, 1)
    network = Icon(learned.base.shape[1], deviation)
    known, body, head = (
        weights["known.weight"][:, seen],
        weights["body.1.weight"],
        weights["head.layer.weight"][seen],
    )
    some = learned.part(torch.arange(min(_CHUNK, len(learned))))
    phases = _phases(some)
    entries, inner = torch.zeros(len(known)), torch.zeros(len(body))
    for phase in range(PHASES):
        x = functional.conv2d(some.latents * (phases < phase) / deviation, known, weights["known.bias"])
        x = functional.leaky_relu(x + some.base + weights["phase"][phase][:, None, None], SLOPE)
        entries += x.std((0, 2, 3))
        inner += functional.leaky_relu(
            functional.conv2d(x, body, weights["body.1.bias"], padding=1), SLOPE
        ).std((0, 2, 3))
    count = len(seen) // PHASES
    size = some.latents.std((0, 2, 3))
    weight = torch.cat([size[:count], _CARRIED * (size / deviation.flatten())[count:]])
    inner = (head[:, :, 0, 0] * weight[:, None] * inner).square().sum(0)
    kept = inner.argsort(descending=True)[: network.mean.in_channels]
    entries = (body[kept].square().sum((2, 3)) * inner[kept, None]).sum(0) * entries.square()
    first = entries.argsort(descending=True)[: network.known.out_channels]
    between = network.body[1]
    assert isinstance(between, nn.Conv2d)
    for layer, values, bias in (
        (network.known, known[first], weights["known.bias"][first]),
        (network.base, torch.eye(len(known))[first][..., None, None], torch.zeros(len(first))),
        (between, body[kept][:, first], weights["body.1.bias"][kept]),
        (network.mean, head[:, kept], weights["head.layer.bias"][seen]),
    ):
        width = len(values)  # of a small bundle, all units and some that begin with nothing
        assert layer.bias is not None
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[:width, : values.shape[1]] = values
        layer.bias[:width] = bias
    network.phase.zero_()
    network.phase[:, : len(first)] = weights["phase"][:, first]
    return network


@torch.no_grad()
def _fit_colours(network: Icon, learned: _Coded) -> None:
    """Begin with the least squares of a place alone."""
    seen = (learned.latents / network.deviation).transpose(0, 1).flatten(1).T
    seen = torch.cat([seen, torch.ones(len(seen), 1)], 1)
    square, product = seen.T @ seen, seen.T @ learned.wanted.transpose(0, 1).flatten(1).T
    solution = least_squares(square, product)
    for layer in (network.colour, network.shade):
        layer.weight.zero_()
        assert layer.bias is not None
        layer.bias.zero_()
    network.colour.weight[:] = solution[:-1].T[..., None, None]
    assert network.colour.bias is not None
    network.colour.bias[:] = solution[-1]


def _phases(batch: _Coded) -> Tensor:
    """The phase of every latent, (L, h, w)."""
    _, latents, rows, columns = batch.latents.shape
    return torch.from_numpy(phase_map(latents, rows, columns))


def _decoded(network: Icon, batch: _Coded) -> tuple[Tensor, Tensor]:
    """y^ of the latents seen, and colours."""
    phases, latents = _phases(batch), torch.zeros_like(batch.latents)
    count = latents.shape[1]
    for phase in range(PHASES):
        mean = network(latents, batch.base, torch.eye(PHASES)[phase : phase + 1])[:, :count]
        latents = latents + (mean + batch.differences) * (phases == phase)
    colours: Tensor = network(latents, batch.base, torch.zeros(1, PHASES))[:, count:]
    return latents, colours


def _error(network: Icon, batch: _Coded) -> Tensor:
    """Of the picture and of its smaller ones, and of the latents that it is made of, in squares."""
    latents, colours = _decoded(network, batch)
    wanted = [functional.avg_pool2d(batch.wanted, divisor) for divisor in _SIZES]
    shown = [functional.avg_pool2d(colours, divisor) for divisor in _SIZES]
    errors = [
        weight * functional.mse_loss(one, other)
        for one, other, weight in zip(shown, wanted, _SIZES.values(), strict=True)
    ]
    first = slice(latents.shape[1] // PHASES)
    scale = batch.wanted.var() / batch.latents[:, 0].var() / 8
    apart = (latents - batch.latents)[:, first].square().mean((0, 2, 3)).sum()
    return torch.stack(errors).sum() + scale * apart


def _figures(network: Icon, held_out: _Coded) -> Iterator[str]:
    """PSNR in dB beside means of the original, at each scale."""
    shown = _decoded(network, held_out)[1].clamp(0, 1)
    for divisor in _SIZES:
        error = functional.avg_pool2d(shown, divisor) - functional.avg_pool2d(held_out.wanted, divisor)
        yield f"1/{STRIDE * divisor} {-10 * torch.log10(error.square().mean((1, 2, 3))).mean():.2f}"
