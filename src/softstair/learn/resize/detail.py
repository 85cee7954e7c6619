"""Give a network detail: more latents, on a short way between 1/4 and 1/16.

New latents are the principal components of what the features at 1/4 say of the error that pictures have
before any rounding. Their way back is fitted by gradient steps, everything else as it was; then they get
the unit in which a step of theirs moves pixels as much as one of the others. What prices a new latent is
copied from the old one whose magnitudes go with its own most. Old latents keep their phases.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from softstair.errors import UsageError
from softstair.quantize.grids import STRIDE
from softstair.quantize.phases import PHASES
from softstair.quantize.rates import POSITIONS_PER_POINT

from ..codec import Codec
from ..layers.rates import hat_weights
from ..networks import PATCH
from .latents import put

_SOME, _SEED = 32, 7
_STEPS, _COUNT, _RATE = 160, 8, 2e-3
_RIDGE = 1e-6


@torch.no_grad()
def add_detail(old: Codec, new: Codec, pictures: Tensor, say: Callable[[str], None]) -> None:
    """Set the weights of ``new`` from those of ``old``, which has no detail but is the same otherwise.

    Raises:
        UsageError: they differ in more.
    """
    kept, added = places(old.shape.latents, new.shape.latents)
    copy_old(old, new, kept)
    analysis = new.analysis
    points = new.shape.rate_points
    hat = hat_weights(torch.tensor([(points - 1) * POSITIONS_PER_POINT]), points)
    told, spread = features_to_errors(new, pictures, hat)
    vectors = torch.linalg.eigh(told @ spread @ told.T)[1].flip(1)[:, : len(added)]
    forth = analysis.detail.layer[1]
    forth.weight[:, :, 0, 0] = phase_by_phase(vectors.T @ told).float()
    forth.bias.copy_(-new.analysis(pictures[:_SOME]).mean((0, 2, 3))[added])
    scale(new, 1 / new.analysis(pictures[:_SOME]).std((0, 2, 3))[added])
    fit_back(new, pictures, hat, say)
    moved = sensitivity(new, pictures[:_SOME], hat)
    scale(new, (moved[added] / moved[kept].mean()).sqrt())
    price(new, pictures[:_SOME], kept, added)


@torch.no_grad()
def features_to_errors(codec: Codec, pictures: Tensor, hat: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares from features at 1/4 to what is missing in the pictures before any rounding.

    Returns the matrix (errors of a 16x16 patch, features of one), and the features' moments.
    """
    features, errors = [], []
    for some in pictures.split(_SOME):
        missing = some - codec.synthesis(codec.analysis(some), hat)
        stem = codec.analysis.stem_blocks(codec.analysis.stem(some - 0.5))
        features.append(flat(F.pixel_unshuffle(stem, STRIDE // PATCH)))
        errors.append(flat(F.pixel_unshuffle(missing, STRIDE)))
    known, wanted = torch.cat(features, 1), torch.cat(errors, 1)
    known -= known.mean(1, keepdim=True)
    spread = (known @ known.T).double() / known.shape[1]
    ridge = _RIDGE * spread.diagonal().mean() * torch.eye(len(spread), dtype=torch.float64)
    told = (wanted @ known.T).double() / known.shape[1] @ torch.linalg.inv(spread + ridge)
    return told, spread


def phase_by_phase(rows: Tensor) -> Tensor:
    """The leading rows dealt out to the phases' groups in turn, groups one after the other."""
    return rows.unflatten(0, (-1, PHASES)).transpose(0, 1).flatten(0, 1)


def places(old: int, new: int) -> tuple[Tensor, Tensor]:
    """Where old latents and where added ones lie among the new, (old,) and (new - old,)."""
    group, wide = old // PHASES, new // PHASES
    first = torch.arange(PHASES)[:, None] * wide
    return (first + torch.arange(group)).flatten(), (first + torch.arange(group, wide)).flatten()


@torch.no_grad()
def copy_old(old: Codec, new: Codec, kept: Tensor) -> None:
    state = {name: value.clone() for name, value in new.state_dict().items()}
    for name, value in old.state_dict().items():
        if state[name].shape == value.shape:
            state[name] = value.clone()
        elif not put(state, name, value, kept, new.shape.latents):
            raise UsageError(f"{name} differs in more than the number of latents.")
    for name in ("analysis.detail.layer.1", "synthesis.detail.layer.0"):
        for part in ("weight", "bias"):
            state[f"{name}.{part}"].zero_()
    new.load_state_dict(state)


def fit_back(codec: Codec, pictures: Tensor, hat: Tensor, say: Callable[[str], None]) -> None:
    """Fit the way back from detail, whose deviation is one, to the pictures."""
    codec.requires_grad_(False)
    layer = codec.synthesis.detail.layer[0]
    with torch.enable_grad():
        layer.weight.requires_grad_()
        optimiser = torch.optim.Adam([layer.weight])
        for step in range(_STEPS):
            optimiser.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
            chosen = pictures.roll(-step * _COUNT, 0)[:_COUNT]
            error = (codec.synthesis(codec.analysis(chosen), hat) - chosen).square().mean()
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
            if step % 20 == 0:
                say(f"{step:4d}  PSNR of unrounded latents {-10 * error.log10():.2f} dB")
    codec.requires_grad_(True)


@torch.no_grad()
def scale(codec: Codec, factor: Tensor) -> None:
    """Multiply detail by a factor a channel, and divide where it is read."""
    forth, back = codec.analysis.detail.layer[1], codec.synthesis.detail.layer[0]
    forth.weight *= factor[:, None, None, None]
    forth.bias *= factor
    back.weight /= factor[None, :, None, None]


def sensitivity(codec: Codec, pictures: Tensor, hat: Tensor) -> Tensor:
    """How much noise in a latent moves the pictures, by channel, (C,)."""
    latents = codec.analysis(pictures)
    with torch.enable_grad():
        latents.requires_grad_()
        result = codec.synthesis(latents, hat)
        signs = torch.randint(0, 2, result.shape, generator=torch.Generator().manual_seed(_SEED)) * 2.0 - 1
        (gradient,) = torch.autograd.grad((result * signs).sum(), latents)
    squares: Tensor = gradient.square().mean((0, 2, 3))
    return squares


@torch.no_grad()
def price(new: Codec, pictures: Tensor, kept: Tensor, added: Tensor) -> None:
    """Deviations and means of the added latents, and the rows of log-scales of their likes."""
    y = new.analysis(pictures)
    deviation = y.std((0, 2, 3)).clamp_min(1e-3)
    new.deviation[0, added, 0, 0] = deviation[added]
    new.mean_network.head.layer.bias[added] = (y.mean((0, 2, 3)) / deviation)[added]
    magnitude = torch.log2(1e-3 + (y / deviation[:, None, None]).abs())
    magnitude = flat(magnitude - magnitude.mean((0, 2, 3), keepdim=True))
    magnitude = F.normalize(magnitude, dim=1)
    alike = kept[(magnitude[added] @ magnitude[kept].T).argmax(1)]
    new.gains.offset[:, added] = new.gains.offset[:, kept].mean(1, keepdim=True)
    scales = new.scale_network
    for layer in (scales.log_scale_head, scales.correction_head, scales.neighbours):
        layer.weight[added] = layer.weight[alike]
        layer.bias[added] = layer.bias[alike]
    scales.log_scale_head.bias[added] += torch.log2(deviation[added] / deviation[alike])


def flat(signal: Tensor) -> Tensor:
    """(B, C, h, w) to (C, B * h * w)."""
    return signal.transpose(0, 1).flatten(1)
