"""Stage ``preview``: a small head learns to make small pictures of latents before the synthesis.

It is trained beside a finished bundle, whose latents are frozen, and decides nothing of a stream: it is
an entry that a bundle may have or not. It begins as the least squares of a place alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from softstair.bundle import ICON, PREVIEW, Bundle, read_bundle, write_bundle
from softstair.codec.preview import SCALE
from softstair.mode import Mode
from softstair.quantize.grids import STRIDE

from ..data import Crops, Pixels
from ..export.graphs import export_icon, export_preview
from ..layers.rates import hat_weights
from ..networks import Icon, Preview
from ..optimiser import Optimiser
from ..run import Say, say_nothing
from ..schedule import falling
from .coded import CodedCrops, code_crops

SIDE = 256  # of the crops, pixels
MODE = Mode.RDOQ  # whose symbols are nearly those of all others and found in a tenth of the time
_SIZES = (1, 2, 4)  # divisors of a quarter
_RIDGE = 1e-4  # of least squares
_CHUNK = 32  # crops
_WARM_UP = 20
_HELD_OUT = 16  # one crop of so many is kept to see what was learned

Network = TypeVar("Network", bound=nn.Module)


def train_preview(
    bundle: Bundle,
    pictures: Sequence[Pixels],
    *,
    crops: int = 1000,
    steps: int = 4000,
    seed: int = 0,
    threads: int = 1,
    say: Say = say_nothing,
) -> Preview:
    """The head of a bundle that was best on crops held out.

    Args:
        bundle: with its encoder. It needs the mode rdoq.
        pictures: to cut ``crops`` squares from.
    """
    torch.manual_seed(seed)
    pixels = Crops(list(pictures), seed).batch(0, crops, SIDE)
    positions = np.random.default_rng(seed).integers(0, bundle.last_position + 1, crops)
    coded = code_crops(bundle, pixels, positions, MODE, threads)
    say(f"{crops} crops coded")

    def start(learned: CodedCrops) -> Preview:
        deviation = coded.latents.float().std((0, 2, 3), keepdim=True).clamp_min(1e-3)
        head = Preview(bundle.channels, bundle.points, deviation)
        _fit(head, learned)
        return head

    return best_of(
        coded, start, _error, _figures, say, seed, steps=steps, count=16, rate=2e-4, look_every=100
    )


def best_of(
    coded: Any,
    start: Callable[[Any], Network],
    error: Callable[[Network, Any], Tensor],
    figures: Callable[[Network, Any], Iterator[str]],
    say: Say,
    seed: int,
    *,
    steps: int,
    count: int,
    rate: float,
    look_every: int,
) -> Network:
    """Train a network from its start on crops of a step, ``count`` each; the best one on crops held out.

    coded: crops, of which ``part`` gives some.
    """
    is_held_out = torch.arange(len(coded)) % _HELD_OUT == 0
    learned, held_out = coded.part(~is_held_out), coded.part(is_held_out)
    network, least = start(learned), math.inf
    best, optimiser = network, Optimiser(network, rate, rate, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps + 1):
        if step % look_every == 0 or step == steps:
            with torch.no_grad():
                say(f"{step:7d}  held out  " + "  ".join(figures(network, held_out)))
                now = error(network, held_out).item()
            best, least = (deepcopy(network), now) if now < least else (best, least)
        if step < steps:
            chosen = torch.randint(len(learned), (count,), generator=generator)
            network.zero_grad(set_to_none=True)
            error(network, learned.part(chosen)).backward()
            optimiser.step(min(1.0, (step + 1) / _WARM_UP) * falling(step / steps))
    return best.eval()


def least_squares(square: Tensor, product: Tensor) -> Tensor:
    """Weights (inputs, outputs) of a linear map from its moments; ``square`` gets a small ridge."""
    square.diagonal().add_(_RIDGE * square.diagonal().mean())
    return torch.linalg.solve(square.double(), product.double()).float()


def add_preview(bundle: Bundle, head: Preview, icon: Icon, output: Path) -> Bundle:
    """Write a bundle with what makes small pictures; its fingerprint stays."""
    write_bundle(output, {**bundle.entries, PREVIEW: export_preview(head), ICON: export_icon(icon)})
    return read_bundle(output.read_bytes(), str(output))


@torch.no_grad()
def _fit(head: Preview, learned: CodedCrops) -> None:
    """Set the entry to the least squares of a place alone."""
    latents, outputs = learned.latents.shape[1], 3 * (STRIDE // SCALE) ** 2
    square, product = torch.zeros(latents + 1, latents + 1), torch.zeros(latents + 1, outputs)
    for start in range(0, len(learned), _CHUNK):
        part = learned.part(torch.arange(start, min(start + _CHUNK, len(learned))))
        seen = _columns(part.latents.float() / head.deviation)
        seen = torch.cat([seen, torch.ones(len(seen), 1)], 1)
        square += seen.T @ seen
        product += seen.T @ _columns(functional.pixel_unshuffle(_quarter(part) - 0.5, STRIDE // SCALE))
    solution = least_squares(square, product)
    assert head.entry.bias is not None
    head.entry.weight[:outputs] = solution[:-1].T[..., None, None]
    head.entry.bias[:outputs] = solution[-1]


def _columns(planes: Tensor) -> Tensor:
    """(N, C, h, w) to a row a place, (N h w, C)."""
    return planes.transpose(0, 1).flatten(1).T


def _error(head: Preview, batch: CodedCrops) -> Tensor:
    """Of the picture and of its smaller ones, all in squares."""
    shown, wanted = _shown(head, batch), _quarter(batch)
    return torch.stack([functional.mse_loss(_smaller(shown, d), _smaller(wanted, d)) for d in _SIZES]).sum()


def _quarter(batch: CodedCrops) -> Tensor:
    """Means of the originals, a quarter of their size."""
    return _smaller(batch.picture, SCALE)


def _shown(head: Preview, batch: CodedCrops) -> Tensor:
    hat = hat_weights(batch.position, len(head.rate.table))
    result: Tensor = head(batch.latents.float(), hat)
    return result


def _smaller(picture: Tensor, divisor: int) -> Tensor:
    return functional.avg_pool2d(picture, divisor)


def _figures(head: Preview, held_out: CodedCrops) -> Iterator[str]:
    """PSNR in dB beside means of the original, at each scale."""
    shown, wanted = _shown(head, held_out).clamp(0, 1), _quarter(held_out)
    for divisor in _SIZES:
        error = (_smaller(shown, divisor) - _smaller(wanted, divisor)).square().mean((1, 2, 3))
        yield f"1/{SCALE * divisor} {-10 * torch.log10(error).mean():.2f}"
