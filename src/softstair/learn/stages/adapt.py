"""Stage ``adapt``: a pack for a folder of pictures, learned from a bundle as it is shipped.

Tables are measured in any case. What learns beside them is small: integer biases and gains, and low-rank
sums to the convolutions of decoder and encoder, which are merged into their weights (E. Hu et al., "LoRA",
ICLR 2022; for codecs, "Few-shot domain adaptation for learned image compression", 2024). A part of the
pictures is held back: it says when to stop, and whether the pack is worth having at all.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from softstair.bundle import Bundle, merged, pack_entries, write_pack
from softstair.bundle.pack import Pack
from softstair.codec import encode_picture
from softstair.codec.decoder import decode_picture
from softstair.codec.encoder import Rate
from softstair.errors import UsageError
from softstair.evaluate.curves import delta_rate
from softstair.mode import Mode
from softstair.pictures import Picture

from ..checkpoint import load_checkpoint, save_checkpoint
from ..data import Crops, Pixels, load_pictures
from ..distortion import SMALLEST_SIDE, distortion
from ..export.imported import Imported, import_bundle
from ..integer.domain import measure_tables
from ..integer.weights import integer_gains, integer_weights
from ..layers.rates import draw_positions, multiplier
from ..log import commit
from ..noise import draw_noise, draw_spread
from ..run import Average, Say, copied, say_nothing
from ..validation import reconstruct

Part = Literal["biases", "decoder", "encoder", "full"]
PARTS: tuple[Part, ...] = ("biases", "decoder", "encoder")
_MODULES = {
    "biases": ("scale_network", "gains"),
    "decoder": ("synthesis", "mean_network"),
    "encoder": ("analysis", "hyper_analysis"),
}
_RANK = 2  # of adapters: with 3 a pack of the default bundle has 338 kB
_RATES = {"adapter": 2e-3, "weight": 2e-4, "vector": 5e-4, "integer": 3e-3}  # of Adam, by kind
_WARM_UP, _CLIP, _AVERAGE = 10, 1.0, 0.98
_COUNT, _SIDE = 4, 128  # of the crops of a step
_HELD_BACK = 5  # every so many pictures one
_VALIDATE_EVERY, _PATIENCE = 50, 4
_VALIDATED_SIDE = 192
_MEASURED, _MEASURED_SIDE = 24, 256  # crops for tables
_SEED = 31
_MEASURING = 2**31  # as a step of the crops: one that no run reaches


@dataclass(frozen=True)
class Adaptation:
    """What an adaptation is to do. minutes: of training, validation included. parts: what learns.
    data: what the pictures are, in words."""

    name: str
    licence: str
    minutes: float
    parts: tuple[Part, ...] = PARTS
    rank: int = _RANK
    data: str = ""


@dataclass(frozen=True)
class Gain:
    """What a pack gains on pictures that were held back.

    bits: per cent of bits at equal distortion, negative where it saves; None if curves do not compare.
    base, packed: bytes of all files at the default quality.
    """

    bits: float | None
    base: int
    packed: int


def adapt(
    bundle: Bundle, folder: Path, output: Path, settings: Adaptation, *, say: Say = say_nothing
) -> Gain:
    """Write a pack for the pictures of a folder; what was interrupted goes on beside ``output``.

    Raises:
        UsageError: too few pictures, or the pack gains nothing on those held back; none is written then.
    """
    pictures = load_pictures([folder])
    learning, held_back = split(pictures)
    run = output.with_name(output.name + ".run")
    adapters, integers, steps = trained(bundle, learning, held_back, run, settings, say)
    say("measuring tables")
    provenance = {
        "commit": commit(),
        "data": settings.data,
        "pictures": len(pictures),
        "steps": steps,
        "minutes": settings.minutes,
        "parts": list(settings.parts),
        "rank": settings.rank,
    }
    pack = packed(bundle, adapters, integers, learning, settings, provenance)
    gain = measured_gain(bundle, merged(bundle, pack), held_back, say)
    if gain.bits is None or gain.bits >= 0:
        raise UsageError(
            f"The pack was not written: on the {len(held_back)} pictures held back it gains nothing "
            f"({_spoken(gain.bits)}); give it more minutes, what was learned is in {run}, or more pictures."
        )
    figures = {
        "held_back": {"pictures": len(held_back), "bits": gain.bits, "bytes": [gain.base, gain.packed]}
    }
    pack = packed(bundle, adapters, integers, learning, settings, provenance, figures, pack.tables)
    write_pack(output, pack.entries)
    shutil.rmtree(run, ignore_errors=True)
    return gain


def split(pictures: Sequence[Pixels]) -> tuple[list[Pixels], list[Pixels]]:
    """Those that are learned from and those that are held back.

    Raises:
        UsageError: there are too few.
    """
    if len(pictures) < _HELD_BACK:
        raise UsageError(f"There are {len(pictures)} pictures to adapt to; {_HELD_BACK} are the fewest.")
    held_back = list(pictures[_HELD_BACK - 1 :: _HELD_BACK])
    return [one for index, one in enumerate(pictures) if index % _HELD_BACK != _HELD_BACK - 1], held_back


def packed(
    bundle: Bundle,
    adapters: Mapping[str, npt.NDArray[Any]],
    integers: Mapping[str, npt.NDArray[Any]],
    pictures: Sequence[Pixels],
    settings: Adaptation,
    provenance: dict[str, Any],
    figures: dict[str, Any] | None = None,
    tables: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Pack:
    """A pack whose tables are those given, or measured with all the rest of it."""
    about: dict[str, Any] = {
        "name": settings.name,
        "licence": settings.licence,
        "description": f"Adapts {bundle.name} to pictures like those it was made of.",
        "provenance": provenance,
        "figures": figures or {},
    }
    if tables is None:
        entries = pack_entries(bundle, adapters, integers, {}, **about)
        changed = merged(bundle, Pack(entries, settings.name))
        crops = Crops(list(pictures), _SEED).batch(_MEASURING, _MEASURED, _MEASURED_SIDE)
        mode = Mode(bundle.manifest.encoding.mode)
        tables = measure_tables(changed, [np.ascontiguousarray(c.transpose(1, 2, 0)) for c in crops], mode)
    return Pack(pack_entries(bundle, adapters, integers, tables, **about), settings.name)


def trained(
    bundle: Bundle,
    learning: list[Pixels],
    held_back: list[Pixels],
    run: Path,
    settings: Adaptation,
    say: Say,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]], int]:
    """Adapters and integers as a pack has them, and after how many steps they were best."""
    if not settings.parts or settings.minutes <= 0:
        return {}, {}, 0
    stage = Adapting(import_bundle(bundle), learning, held_back, settings)
    checkpoint = run / "checkpoint.json"
    run.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        stage.load(load_checkpoint(checkpoint))
        say(f"going on after {stage.step} steps")
    if stage.step == 0:
        say(stage.validate())
    while not stage.is_done:
        stage.advance()
        if stage.step % _VALIDATE_EVERY == 0:
            say(stage.validate())
            save_checkpoint(checkpoint, stage.state())
    say(stage.validate())
    save_checkpoint(checkpoint, stage.state())
    return *stage.found(bundle), stage.best_step


class _LowRank(nn.Module):
    """A weight and the product of two thin matrices. up: (outputs, rank). down: (rank, the rest)."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        outputs, rest = len(weight), weight[0].numel()
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.down = nn.Parameter(torch.randn(rank, rest, generator=generator) / rest**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


class Adapting:
    """What learns of a codec, its optimiser, its running average and the best of it so far."""

    def __init__(
        self, imported: Imported, learning: list[Pixels], held_back: list[Pixels], settings: Adaptation
    ) -> None:
        self._imported, self._settings, self.codec = imported, settings, imported.codec
        self._crops = Crops(learning, _SEED)
        self._held_back = [_square(one) for one in held_back]
        self._side = max(_SIDE, -(-SMALLEST_SIDE[imported.rates.distortion] // 32) * 32)
        self._before = copied(dict(self.codec.named_parameters()))
        self._adapted: dict[str, _LowRank] = {}
        kinds = self._choose()
        self.learned = {name: one for name, one in self.codec.named_parameters() if one.requires_grad}
        groups = [
            {"params": [self.learned[name] for name in names], "lr": _RATES[kind], "rate": _RATES[kind]}
            for kind, names in kinds.items()
            if names
        ]
        self._optimiser = torch.optim.Adam(groups, betas=(0.9, 0.98))
        self._average = Average(self.learned, _AVERAGE)
        self._best, self._least, self._without_gain, self.best_step = (
            copied(self._average.weights),
            math.inf,
            0,
            0,
        )
        self.step, self._seconds, self._since = 0, 0.0, time.monotonic()

    def _choose(self) -> dict[str, list[str]]:
        """Make what learns learn; names of parameters by kind."""
        codec, parts = self.codec, self._settings.parts
        codec.requires_grad_(False)
        generator = torch.Generator().manual_seed(_SEED)
        kinds: dict[str, list[str]] = {kind: [] for kind in _RATES}
        whole = "full" in parts
        modules = [one for part in (PARTS if whole else parts) for one in _MODULES[part]]
        for name in list(self._before):
            top, (path, _, own) = name.partition(".")[0], name.rpartition(".")
            if top not in modules:
                continue
            parameter = codec.get_parameter(name)
            if top in _MODULES["biases"]:
                if parameter.ndim != 4:
                    parameter.requires_grad_(True)
                    kinds["integer"].append(name)
            elif parameter.ndim != 4:
                parameter.requires_grad_(True)
                kinds["vector"].append(name)
            elif whole or self._settings.rank * (len(parameter) + parameter[0].numel()) >= parameter.numel():
                parameter.requires_grad_(True)
                kinds["weight"].append(name)
            else:
                low_rank = _LowRank(parameter, self._settings.rank, generator)
                parametrize.register_parametrization(codec.get_submodule(path), own, low_rank)
                self._adapted[name] = low_rank
                inner = f"{path}.parametrizations.{own}.0"
                kinds["adapter"] += [f"{inner}.up", f"{inner}.down"]
        return kinds

    @property
    def is_done(self) -> bool:
        """Whether time is up, or validation stopped getting better."""
        return self.seconds >= 60 * self._settings.minutes or self._without_gain >= _PATIENCE

    @property
    def seconds(self) -> float:
        """Of training, those before an interruption included."""
        return self._seconds + time.monotonic() - self._since

    def advance(self) -> None:
        """One step on rate and distortion, weighed as the bundle's training weighed them."""
        codec, rates, shape = self.codec, self._imported.rates, self.codec.shape
        pixels = self._crops.batch(self.step, _COUNT, self._side)
        picture = torch.from_numpy(pixels).float() / 255
        position = draw_positions(draw_spread(_SEED, self.step, _COUNT), shape.rate_points, rates.anchor)
        noise = draw_noise(shape, _SEED, self.step, _COUNT, range(_COUNT), self._side, torch.device("cpu"))
        with parametrize.cached():
            passage = codec(picture, position, noise)
        error = distortion(rates.distortion, passage.picture, picture, rates.mixture)
        bpp = (passage.y_bits + passage.z_bits) / self._side**2
        self._optimiser.zero_grad(set_to_none=True)
        self._cost(bpp, error, position).mean().backward()
        nn.utils.clip_grad_norm_(self.learned.values(), _CLIP)
        for group in self._optimiser.param_groups:
            group["lr"] = group["rate"] * min(1.0, (self.step + 1) / _WARM_UP)
        self._optimiser.step()
        self.step += 1
        self._average.follow(self.learned, self.step)

    def _cost(self, bpp: Tensor, error: Tensor, position: Tensor) -> Tensor:
        weight = multiplier(position, self._imported.rates.base)
        return (bpp + weight * error) * weight**-self._imported.rates.balance

    @torch.no_grad()
    def validate(self) -> str:
        """Pictures held back at two positions, by the averaged weights; remembers the best."""
        now = copied(self.learned)
        self._set(self._average.weights)
        rates, top = self._imported.rates, 16 * (self.codec.shape.rate_points - 1)
        positions = (top // 4, 3 * top // 4) if rates.anchor is None else (rates.anchor,)
        costs = []
        with parametrize.cached():
            for at in positions:
                position = torch.tensor([at])
                for picture in self._held_back:
                    decoded, y_bits, z_bits = reconstruct(self.codec, picture, position)
                    error = distortion(rates.distortion, decoded, picture, rates.mixture)
                    bpp = torch.tensor([(y_bits + z_bits) / picture[0, 0].numel()])
                    costs.append(self._cost(bpp, error, position).item())
        self._set(now)
        cost = sum(costs) / len(costs)
        self._without_gain = 0 if cost < self._least else self._without_gain + 1
        if cost < self._least:
            self._least, self._best, self.best_step = cost, copied(self._average.weights), self.step
        return f"{self.step:6d} steps  {self.seconds / 60:5.1f} min  cost held back {cost:.5f}"

    @torch.no_grad()
    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self.learned.items():
            parameter.copy_(weights[name])

    @torch.no_grad()
    def found(self, bundle: Bundle) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
        """What the best weights are as adapters and integers of a pack."""
        self._set(self._best)
        codec, orders = self.codec, self._imported.orders
        adapters: dict[str, npt.NDArray[Any]] = {}
        for name, place in self._imported.places.items():
            order: Any = orders.get(name, slice(None))
            if name in self._adapted:
                low_rank = self._adapted[name]
                adapters[f"{place}/up"] = _half(low_rank.up[order])
                adapters[f"{place}/down"] = _half(low_rank.down)
            elif name in self.learned:
                adapters[f"{place}/add"] = _half((codec.get_parameter(name) - self._before[name])[order])
        integers: dict[str, npt.NDArray[Any]] = {}
        if any(name.startswith(("scale_network", "gains")) for name in self.learned):
            before, after = bundle.integers.scale, integer_weights(codec)
            integers = {
                "gains": integer_gains(codec) - bundle.integers.gains,
                "rate_bias": after.rate_bias - before.rate_bias,
                "phase_bias": after.phase_bias - before.phase_bias,
            }
            for layer in before.layers:
                integers[f"{layer}.bias"] = after.layers[layer].bias - before.layers[layer].bias
        return adapters, {name: value.astype(np.int32) for name, value in integers.items() if value.any()}

    def state(self) -> dict[str, Any]:
        self._seconds, self._since = self.seconds, time.monotonic()
        return {
            "learned": dict(self.learned),
            "average": self._average.weights,
            "best": self._best,
            "least": self._least,
            "without_gain": self._without_gain,
            "best_step": self.best_step,
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "seconds": self._seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned.

        Raises:
            UsageError: it is of another bundle, other parts or another rank.
        """
        shapes = {name: one.shape for name, one in state["learned"].items()}
        if shapes != {name: one.shape for name, one in self.learned.items()}:
            raise UsageError(
                "What was learned before is of other settings; delete the folder that ends in .run, or "
                "repeat the command as it was."
            )
        with torch.no_grad():
            self._set(state["learned"])
        self._average.weights, self._best = state["average"], state["best"]
        self._least, self._without_gain = state["least"], state["without_gain"]
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.best_step = state["step"], state["best_step"]
        self._seconds, self._since = state["seconds"], time.monotonic()


def measured_gain(base: Bundle, changed: Bundle, pictures: Sequence[Pixels], say: Say) -> Gain:
    """Files of pictures by both bundles, at four rate positions and the default quality."""
    recipe = base.manifest.provenance["recipe"]["rates"]
    kind, last = recipe["distortion"], base.last_position
    mixture = tuple(recipe.get("mixture", (0.4, 0.4, 0.2)))
    positions = [round(share * last) for share in (0.15, 0.35, 0.55, 0.75)]  # the last is the default
    curves, sizes = [], []
    for bundle in (base, changed):
        points = []
        for position in positions:
            size = error = 0.0
            for pixels in pictures:
                data = encode_picture(Picture(pixels), Rate(position=position), bundle, threads=1).data
                decoded = decode_picture(data, bundle, threads=1).pixels
                size += len(data)
                error += distortion(kind, _planes(decoded), _planes(pixels), mixture).item() * pixels.size
            points.append((size, -10 * math.log10(error) if error else None))
        curves.append(points)
        sizes.append(int(points[-1][0]))
    say(f"files held back: {curves}")
    try:
        bits: float | None = delta_rate(*curves).pchip
    except UsageError:
        bits = None
    return Gain(bits, *sizes)


def _spoken(bits: float | None) -> str:
    return "the curves do not compare" if bits is None else f"{bits:+.1f} % of bits"


def _square(pixels: Pixels) -> Tensor:
    """The middle of a picture, (1, 3, side, side), sides multiples of 32."""
    rows, columns = (min(side, _VALIDATED_SIDE) // 32 * 32 for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
    return _planes(pixels[top : top + rows, left : left + columns])


def _planes(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255


def _half(tensor: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.detach().numpy().astype(np.float16)
    return array
