"""Stage ``preview``: a small head learns to make small pictures of latents before the synthesis.

It is trained beside a finished bundle, whose latents are frozen, and decides nothing of a stream: it is
an entry that a bundle may have or not. At 1/8 and less it is shown the first two phases alone, at 1/4
all four (``softstair.codec.preview``), and it learns both at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from softstair.bundle import Bundle
from softstair.codec.crew import networks_of
from softstair.codec.preview import KNOWN_PHASES, SCALE
from softstair.codec.tile import TileCoder
from softstair.mode import Mode
from softstair.quantize.phases import phase_map

from ..data import Crops, Pixels
from ..layers.rates import hat_weights
from ..networks import Preview
from ..optimiser import Optimiser
from ..run import Say, say_nothing
from ..schedule import falling

_SIDE = 256  # of the crops, pixels
_MODE = Mode.RDOQ  # whose symbols are nearly those of all others and found in a tenth of the time
_COUNT = 16  # crops of a step
_RATE = 4e-3
_WARM_UP = 20
_LOG_EVERY = 100
_HELD_OUT = 16  # one crop of so many is kept to see what was learned


@dataclass(frozen=True)
class Coded:
    """Crops as decoders see them.

    latents: y^, float16 (N, C, h, w). position: (N,). picture: a quarter of them, (N, 3, 4h, 4w).
    """

    latents: Tensor
    position: Tensor
    picture: Tensor

    def part(self, chosen: Tensor) -> Coded:
        return Coded(self.latents[chosen], self.position[chosen], self.picture[chosen])

    def __len__(self) -> int:
        return len(self.position)


def code_crops(bundle: Bundle, pixels: Pixels, seed: int, threads: int) -> Coded:
    """Crops, uint8 (N, 3, H, W), at rate positions drawn at random."""
    coder = TileCoder(bundle, networks_of(bundle, threads, _MODE), _MODE)
    positions = np.random.default_rng(seed).integers(0, bundle.last_position + 1, len(pixels))
    latents = [
        coder.decide(
            coder.begin(coder.analyse(np.ascontiguousarray(one.transpose(1, 2, 0))), int(at))
        ).latents
        for one, at in zip(pixels, positions, strict=True)
    ]
    halves = torch.from_numpy(np.concatenate(latents).astype(np.float16))
    whole = torch.from_numpy(pixels.astype(np.float32) / 255)
    return Coded(halves, torch.from_numpy(positions), functional.avg_pool2d(whole, SCALE))


def train_preview(
    bundle: Bundle,
    pictures: Sequence[Pixels],
    *,
    crops: int = 384,
    steps: int = 1200,
    seed: int = 0,
    threads: int = 1,
    say: Say = say_nothing,
) -> Preview:
    """The head of a bundle.

    Args:
        bundle: with its encoder. It needs the mode rdoq.
        pictures: to cut ``crops`` squares from.
    """
    torch.manual_seed(seed)
    pixels = Crops(list(pictures), seed).batch(0, crops, _SIDE)
    coded = code_crops(bundle, pixels, seed, threads)
    say(f"{crops} crops coded")
    is_held_out = torch.arange(crops) % _HELD_OUT == 0
    learned, held_out = coded.part(~is_held_out), coded.part(is_held_out)
    deviation = coded.latents.float().std((0, 2, 3), keepdim=True).clamp_min(1e-3)
    head = Preview(bundle.channels, bundle.points, deviation)
    optimiser = Optimiser(head, _RATE, _RATE, torch.float32)
    masks = [_known(bundle.channels, known) for known in KNOWN_PHASES]
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        batch = learned.part(torch.randint(len(learned), (_COUNT,), generator=generator))
        loss = torch.stack([_error(head, batch, known, mask) for known, mask in masks]).sum()
        head.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step(min(1.0, (step + 1) / _WARM_UP) * falling(step / steps))
        if (step + 1) % _LOG_EVERY == 0 or step + 1 == steps:
            say(f"{step + 1:7d}  held out  " + "  ".join(_figures(head, held_out, masks)))
    return head.eval()


def _known(channels: int, known: int) -> tuple[int, Tensor]:
    """So many phases, and a plane that is 1 where they are, (C, h, w) of a crop."""
    side = _SIDE // 16
    return known, torch.from_numpy(phase_map(channels, side, side) < known).float()


def _error(head: Preview, batch: Coded, known: int, mask: Tensor) -> Tensor:
    """What counts is the size that is shown of so many phases, and smaller ones, all in squares."""
    shown = _shown(head, batch, mask)
    divisors = [divisor for divisor, phases in _SIZES.items() if phases == known]
    errors = [functional.mse_loss(_smaller(shown, one), _smaller(batch.picture, one)) for one in divisors]
    return torch.stack(errors).sum()


_SIZES = {1: KNOWN_PHASES[1], 2: KNOWN_PHASES[0], 4: KNOWN_PHASES[0]}  # phases by divisor of a quarter


def _shown(head: Preview, batch: Coded, mask: Tensor) -> Tensor:
    hat = hat_weights(batch.position, head.rate.table.shape[0])
    result: Tensor = head(batch.latents.float() * mask, hat)
    return result


def _smaller(picture: Tensor, divisor: int) -> Tensor:
    return functional.avg_pool2d(picture, divisor)


@torch.no_grad()
def _figures(head: Preview, held_out: Coded, masks: Sequence[tuple[int, Tensor]]) -> Iterator[str]:
    """PSNR in dB beside means of the original, at each scale."""
    for divisor, phases in _SIZES.items():
        mask = dict(masks)[phases]
        shown = _shown(head, held_out, mask).clamp(0, 1)
        error = (_smaller(shown, divisor) - _smaller(held_out.picture, divisor)).square().mean((1, 2, 3))
        yield f"1/{SCALE * divisor} {-10 * torch.log10(error).mean():.2f}"
