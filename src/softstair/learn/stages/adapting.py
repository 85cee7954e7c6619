"""What learns when a bundle is adapted to pictures: signs of changes, biases and gains, in three stages.

First all parts learn together, noise standing in for a quantizer. Of what weights have become, a pack keeps
the sign of every change and a size for every row and column (after J. Liu et al., "BitDelta", NeurIPS 2024,
which has one size a matrix). Both learn on, signs straight through (I. Hubara et al., "Binarized Neural
Networks", NeurIPS 2016, section 1.2). Then the synthesis alone learns on crops as the adapted bundle codes
them, for noise is not what a search leaves (arXiv 2506.08662).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from softstair.bundle import Bundle
from softstair.errors import UsageError
from softstair.quantize.rates import POSITIONS_PER_POINT

from ..data import Crops, Pixels
from ..distortion import SMALLEST_SIDE, distortion
from ..export.imported import Imported
from ..integer.weights import integer_gains, integer_weights
from ..layers.rates import draw_positions, hat_weights, multiplier
from ..noise import draw_noise, draw_spread
from ..precision import Choice, Precision
from ..recipe import Rates
from ..run import Average, copied
from ..schedule import falling
from ..validation import reconstruct
from .coded import CodedCrops

Part = Literal["biases", "decoder", "encoder", "full"]
PARTS: tuple[Part, ...] = ("biases", "decoder", "encoder")
VALIDATE_EVERY = 100
SEED = 31
_MODULES = {
    "biases": ("scale_network", "gains"),
    "decoder": ("synthesis", "mean_network"),
    "encoder": ("analysis", "hyper_analysis"),
}
# Weights that a pack leaves as they are: the others gain nearly as much without them.
_LEFT_OUT = (
    *("analysis.middle_blocks", "analysis.to_deep", "analysis.deep_blocks"),
    *("synthesis.deep_blocks", "mean_network"),
)
_RATES = {"weight": 1e-4, "direction": 1e-2, "size": 1e-3, "vector": 5e-4, "integer": 3e-3}  # of Adam
_WARM_UP, _CLIP, _AVERAGE = 10, 1.0, 0.98
_TIMED = 20  # steps that tell how many there will be
CROPS, _SIDE = 4, 128  # of a step
_PATIENCE = 8
# Of pictures held back. A small middle would not do: much of what is saved is saved around it.
_VALIDATED, _VALIDATED_SIDE = 8, 384
_EXACT = Choice("float32")


@dataclass(frozen=True)
class Learned:
    """What may learn of a codec: parameters by name, and names by kind, which have a rate each."""

    parameters: dict[str, nn.Parameter]
    kinds: dict[str, list[str]]

    def of(self, module: str) -> Learned:
        """Those of one module."""
        kinds = {kind: [n for n in names if n.startswith(f"{module}.")] for kind, names in self.kinds.items()}
        return Learned({name: self.parameters[name] for names in kinds.values() for name in names}, kinds)


class Learning:
    """Parameters that learn for some minutes, their running average and the best of it so far.

    After a few steps, by the median of their times, it is settled how many there will be; rates fall to
    zero by then. Where pictures held back have not got better for long, they fall sooner, within half as many
    steps as were taken: weights that still move are no measure of what they could be at rest. An interrupted
    one goes on exactly.

    Args:
        seconds: of training, validation included.
        cost: of a step, by its number.
        held_back: what pictures that were held back cost with the parameters as they are.
    """

    def __init__(
        self,
        learned: Learned,
        seconds: float,
        cost: Callable[[int], Tensor],
        held_back: Callable[[], float],
    ) -> None:
        self.learned = learned.parameters
        groups = [
            {"params": [self.learned[name] for name in names], "lr": _RATES[kind], "rate": _RATES[kind]}
            for kind, names in learned.kinds.items()
            if names
        ]
        self._optimiser = torch.optim.Adam(groups, betas=(0.9, 0.98))
        self._average = Average(self.learned, _AVERAGE)
        self.best = copied(self._average.weights)
        self._allowed, self._cost, self._held_back = seconds, cost, held_back
        self._least, self.best_step = math.inf, 0
        self._least_learned, self._without_gain = math.inf, 0  # of weights that have learned
        self.step, self._seconds, self._since = 0, 0.0, time.monotonic()
        self._progress, self._pace = 0.0, 0.0  # share of the way to the end, and what a step adds to it
        self._hurries = False
        self._taken: list[float] = []  # seconds of the first steps

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken."""
        return self._pace > 0 and self._progress > 1 - self._pace / 2

    @property
    def seconds(self) -> float:
        """Of training, those before an interruption included."""
        return self._seconds + time.monotonic() - self._since

    def advance(self) -> None:
        """One step."""
        start = time.monotonic()
        self._optimiser.zero_grad(set_to_none=True)
        self._cost(self.step).backward()
        nn.utils.clip_grad_norm_(self.learned.values(), _CLIP)
        factor = min(1.0, (self.step + 1) / _WARM_UP) * falling(self._progress)
        for group in self._optimiser.param_groups:
            group["lr"] = group["rate"] * factor
        self._optimiser.step()
        self.step += 1
        self._progress += self._pace
        self._average.follow(self.learned, self.step)
        if self.step <= _TIMED:
            self._taken.append(time.monotonic() - start)
        if self.step == _TIMED:
            self._pace = 1 / max(_TIMED, int(self._allowed / statistics.median(self._taken)))
            self._progress = _TIMED * self._pace

    @torch.no_grad()
    def validate(self) -> str:
        """Pictures held back, by the averaged weights; remembers the best."""
        now = copied(self.learned)
        self.set(self._average.weights)
        cost = self._held_back()
        self.set(now)
        if self.step:
            self._without_gain = 0 if cost < self._least_learned else self._without_gain + 1
            self._least_learned = min(self._least_learned, cost)
        if cost < self._least:
            self._least, self.best, self.best_step = cost, copied(self._average.weights), self.step
        if self._without_gain == _PATIENCE and self._pace and not self._hurries:
            self._hurries = True
            self._pace = max(self._pace, 2 * (1 - self._progress) / self.step)
        return f"{self.step:6d} steps  {self.seconds / 60:5.1f} min  cost held back {cost:.5f}"

    @torch.no_grad()
    def set(self, weights: Mapping[str, Tensor]) -> None:
        """Make the parameters what they are in ``weights``."""
        for name, parameter in self.learned.items():
            parameter.copy_(weights[name])

    def state(self) -> dict[str, Any]:
        self._seconds, self._since = self.seconds, time.monotonic()
        return {
            "learned": dict(self.learned),
            "average": self._average.weights,
            "best": self.best,
            "least": self._least,
            "least_learned": self._least_learned,
            "without_gain": self._without_gain,
            "best_step": self.best_step,
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "progress": self._progress,
            "pace": self._pace,
            "hurries": self._hurries,
            "taken": self._taken,
            "seconds": self._seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned.

        Raises:
            UsageError: it is of another bundle, other parts or another release.
        """
        shapes = {name: one.shape for name, one in state["learned"].items()}
        if "pace" not in state or shapes != {name: one.shape for name, one in self.learned.items()}:
            raise UsageError(
                "What was learned before is of other settings; delete the folder that ends in .run, or "
                "repeat the command as it was."
            )
        self.set(state["learned"])
        self._average.weights, self.best = state["average"], state["best"]
        self._least, self._least_learned = state["least"], state["least_learned"]
        self._without_gain = state["without_gain"]
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.best_step = state["step"], state["best_step"]
        self._progress, self._pace, self._hurries = state["progress"], state["pace"], state["hurries"]
        self._taken = list(state["taken"])
        self._seconds, self._since = state["seconds"], time.monotonic()


class _Signed(nn.Module):
    """A weight as it was, and changes of one size for every row and column.

    directions: (rows, columns), of which the signs count; the gradient of a sign is taken for that of its
    direction, within 1 of zero. rows: (outputs,). columns: (the rest,).
    """

    before: Tensor

    def __init__(self, before: Tensor, after: Tensor) -> None:
        super().__init__()
        change = (after - before).flatten(1)
        size = change.abs()
        mean = size.mean().clamp_min(1e-12)
        rows, columns = size.mean(1) / mean.sqrt(), size.mean(0) / mean.sqrt()
        self.register_buffer("before", before)
        self.directions = nn.Parameter(change / (rows[:, None] * columns).clamp_min(1e-12))
        self.rows, self.columns = nn.Parameter(rows), nn.Parameter(columns)

    def forward(self, weight: Tensor) -> Tensor:
        near = self.directions.clamp(-1, 1)
        signs = near + (torch.where(near < 0, -1.0, 1.0) - near).detach()
        return self.before + (signs * (self.rows[:, None] * self.columns)).view_as(self.before)


class Adapted:
    """A bundle's codec with what may learn of it, and the costs that all stages learn from.

    across: see ``Finetune``. precision: what steps are computed in.
    """

    def __init__(
        self,
        imported: Imported,
        parts: Sequence[Part],
        across: float = 0.0,
        precision: Precision = "float32",
    ) -> None:
        self._imported, self._across, self.codec = imported, across, imported.codec
        self._precision = Choice(precision)
        self._before = copied(dict(self.codec.named_parameters()))
        self._signed: dict[str, _Signed] = {}
        self.learned = self._choose(parts)
        self._smallest = max(_SIDE, -(-SMALLEST_SIDE[self.rates.distortion] // 32) * 32)

    @property
    def rates(self) -> Rates:
        return self._imported.rates

    @property
    def validated(self) -> tuple[int, ...]:
        """Rate positions at which pictures are validated."""
        top = POSITIONS_PER_POINT * (self.codec.shape.rate_points - 1)
        return (top // 4, 5 * top // 8) if self.rates.anchor is None else (self.rates.anchor,)

    def _choose(self, parts: Sequence[Part]) -> Learned:
        """Make what learns learn."""
        self.codec.requires_grad_(False)
        kinds: dict[str, list[str]] = {kind: [] for kind in _RATES}
        whole = "full" in parts
        modules = [one for part in (PARTS if whole else parts) for one in _MODULES[part]]
        for name, before in self._before.items():
            module, is_weight = name.partition(".")[0], before.ndim == 4
            if module not in modules:
                continue
            if module in _MODULES["biases"]:
                if not is_weight:
                    kinds["integer"].append(name)
            elif not is_weight:
                kinds["vector"].append(name)
            elif whole or not name.startswith(_LEFT_OUT):
                kinds["weight"].append(name)
        chosen = {name: self.codec.get_parameter(name) for names in kinds.values() for name in names}
        for parameter in chosen.values():
            parameter.requires_grad_(True)
        return Learned(chosen, kinds)

    def keep_signs(self) -> None:
        """Of weights that have learned keep signs of changes, and sizes; both learn on."""
        parameters, kinds = dict(self.learned.parameters), {**self.learned.kinds, "weight": []}
        for name in self.learned.kinds["weight"]:
            path, _, own = name.rpartition(".")
            signed = _Signed(self._before[name], parameters.pop(name).detach())
            self.codec.get_parameter(name).requires_grad_(False)
            parametrize.register_parametrization(self.codec.get_submodule(path), own, signed)
            self._signed[name] = signed
            sizes = {f"{name}.rows": signed.rows, f"{name}.columns": signed.columns}
            parameters |= {f"{name}.directions": signed.directions, **sizes}
            kinds["direction"] = [*kinds["direction"], f"{name}.directions"]
            kinds["size"] = [*kinds["size"], *sizes]
        self.learned = Learned(parameters, kinds)

    def together(
        self, learning: list[Pixels], held_back: list[Pixels], seconds: float, seed: int = SEED
    ) -> Learning:
        """All parts, on rate and distortion."""
        crops, squares = Crops(learning, seed), [planes(one) for one in squares_of(held_back)]
        return Learning(
            self.learned,
            seconds,
            lambda step: self._noisy_cost(crops.batch(step, CROPS, self._smallest), step),
            lambda: self._rounded_cost(squares),
        )

    def synthesis_alone(
        self, learning: CodedCrops, held_back: Sequence[CodedCrops], seconds: float
    ) -> Learning:
        """The last stage: on crops as decoders see them."""

        def cost(step: int) -> Tensor:
            generator = torch.Generator().manual_seed(SEED + step)
            chosen = torch.randperm(len(learning), generator=generator)[:CROPS]
            return self._decoded_cost(learning.part(chosen), self._precision)

        def cost_held_back() -> float:
            return sum(self._decoded_cost(one).item() for one in held_back) / len(held_back)

        return Learning(self.learned.of("synthesis"), seconds, cost, cost_held_back)

    def positions(self, count: int) -> npt.NDArray[np.int64]:
        """Rate positions for crops to be coded at, spread evenly."""
        spread = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        drawn = draw_positions(spread, self.codec.shape.rate_points, self.rates.anchor)
        order = np.random.default_rng(SEED).permutation(count)
        found: npt.NDArray[np.int64] = drawn.numpy()[order]
        return found

    def _noisy_cost(self, pixels: Pixels, step: int) -> Tensor:
        rates, shape, count, side = self.rates, self.codec.shape, len(pixels), pixels.shape[-1]
        picture = torch.from_numpy(pixels).float() / 255
        position = draw_positions(draw_spread(SEED, step, count), shape.rate_points, rates.anchor)
        noise = draw_noise(shape, SEED, step, count, range(count), side, torch.device("cpu"))
        with parametrize.cached(), self._precision.autocast(picture.device):
            passage = self.codec(picture, position, noise)
        error = distortion(rates.distortion, passage.picture, picture, rates.mixture)
        bpp = (passage.y_bits + passage.z_bits) / side**2
        return self._weighed(bpp, error, position).mean()

    def _rounded_cost(self, squares: list[Tensor]) -> float:
        """At two positions, symbols rounded."""
        rates, costs = self.rates, []
        with parametrize.cached():
            for at in self.validated:
                position = torch.tensor([at])
                for picture in squares:
                    decoded, y_bits, z_bits = reconstruct(self.codec, picture, position)
                    error = distortion(rates.distortion, decoded, picture, rates.mixture)
                    bpp = torch.tensor([(y_bits + z_bits) / picture[0, 0].numel()])
                    costs.append(self._weighed(bpp, error, position).item())
        return sum(costs) / len(costs)

    def _decoded_cost(self, crops: CodedCrops, precision: Choice = _EXACT) -> Tensor:
        rates, hat = self.rates, hat_weights(crops.position, self.codec.shape.rate_points)
        with parametrize.cached(), precision.autocast(crops.latents.device):
            picture = self.codec.synthesis(crops.latents.float(), hat).float()
        error = distortion(rates.distortion, picture, crops.picture, rates.mixture, self._across)
        return self._weighed(torch.zeros(len(crops)), error, crops.position).mean()

    def _weighed(self, bpp: Tensor, error: Tensor, position: Tensor) -> Tensor:
        """Weighed as the bundle's training weighed them."""
        weight = multiplier(position, self.rates.base)
        return (bpp + weight * error) * weight**-self.rates.balance

    @torch.no_grad()
    def found(self, bundle: Bundle) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
        """What the parameters are now, as adapters and integers of a pack."""
        codec, orders = self.codec, self._imported.orders
        adapters: dict[str, npt.NDArray[Any]] = {}
        for name, place in self._imported.places.items():
            order: Any = orders.get(name, slice(None))
            if name in self._signed:
                signed = self._signed[name]
                adapters[f"{place}/signs"] = np.packbits(signed.directions[order].detach().numpy() < 0)
                adapters[f"{place}/rows"] = _half(signed.rows[order])
                adapters[f"{place}/columns"] = _half(signed.columns)
            elif name in self.learned.parameters:
                adapters[f"{place}/add"] = _half((codec.get_parameter(name) - self._before[name])[order])
        integers: dict[str, npt.NDArray[Any]] = {}
        if any(name.startswith(("scale_network", "gains")) for name in self.learned.parameters):
            before, after = bundle.integers.scale, integer_weights(codec)
            integers = {
                "gains": integer_gains(codec) - bundle.integers.gains,
                "rate_bias": after.rate_bias - before.rate_bias,
                "phase_bias": after.phase_bias - before.phase_bias,
            }
            for layer in before.layers:
                integers[f"{layer}.bias"] = after.layers[layer].bias - before.layers[layer].bias
        return adapters, {name: _short(value) for name, value in integers.items() if value.any()}


def squares_of(held_back: Sequence[Pixels]) -> list[Pixels]:
    """The middles of some pictures, sides multiples of 32: what training is validated on."""
    found = []
    for pixels in held_back[:: -(-len(held_back) // _VALIDATED)]:
        rows, columns = (min(side, _VALIDATED_SIDE) // 32 * 32 for side in pixels.shape[:2])
        top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
        found.append(pixels[top : top + rows, left : left + columns])
    return found


def planes(pixels: Pixels) -> Tensor:
    """(H, W, 3) to (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255


def _short(integers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As int16 if they fit, else as int32."""
    fits = np.abs(integers).max() < 1 << 15
    return integers.astype(np.int16 if fits else np.int32)


def _half(tensor: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.detach().numpy().astype(np.float16)
    return array
