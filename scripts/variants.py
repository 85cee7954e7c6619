"""What ``scripts/compare.py`` compares: the networks of the recipes with one thing changed each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from softstair.learn import codec as codecs
from softstair.learn import networks, optimiser
from softstair.learn.codec import Codec
from softstair.learn.data import Pixels
from softstair.learn.layers.blocks import Gated, Residual, convolution
from softstair.learn.layers.fixed import SIGNED, FixedConvolution
from softstair.learn.principal import calibrate
from softstair.learn.recipe import Batches, Recipe, read_recipe
from softstair.learn.shape import Shape
from softstair.learn.stages import pretrain as stage
from softstair.quantize.phases import PHASES

RECIPES = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    shape, rates, data, pretrain: settings of the recipe that differ. parts: what stands for a part of the
    product while this variant is made and trained, by (module, name). passes: of the mean network in
    a decoder.
    """

    shape: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    pretrain: dict[str, Any] = field(default_factory=dict)
    parts: dict[tuple[Any, str], Any] = field(default_factory=dict)
    passes: int = PHASES

    @contextmanager
    def in_place(self) -> Iterator[None]:
        with ExitStack() as stack:
            for (module, name), part in self.parts.items():
                stack.enter_context(mock.patch.object(module, name, part))
            yield


class Shrinking(Residual):
    """The product's block with hard shrinkage between its layers: what is small becomes zero."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__(channels, inner)
        self.activation = nn.Hardshrink(0.1)


class Unconditioned(networks.Synthesis):
    """A synthesis that does not know the rate."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.rate.table.requires_grad_(False)


class ConstantMeans(networks.MeanNetwork):
    """A mean a channel, and no network."""

    def forward(self, known: Tensor, base: Tensor, deviation: Tensor, phase: Tensor) -> Tensor:
        bias = self.head.layer.bias[None, :, None, None].expand_as(known)
        return bias * deviation + 0 * phase.sum()  # a graph keeps its inputs

    def base(self, z_hat: Tensor, hat: Tensor) -> Tensor:
        return z_hat


class HyperMeans(networks.MeanNetwork):
    """Means of z^ alone, the same in all phases and so computed in the first."""

    def forward(self, known: Tensor, base: Tensor, deviation: Tensor, phase: Tensor) -> Tensor:
        if phase[0, 0] > 0:
            self.kept = super().forward(torch.zeros_like(known), base, deviation, phase)
        return self.kept


class TwoLayerMeans(networks.MeanNetwork):
    """Two 3x3 layers a phase, not one."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        again = (convolution(shape.context, shape.context), nn.LeakyReLU(networks.SLOPE))
        self.body = nn.Sequential(*self.body, *again)


class BoundedResidual(Codec):
    """After all phases y^ moves by at most half a step, as a fifth pass of the mean network's kind says."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.mover = networks.MeanNetwork(shape)

    def quantize(self, y: Tensor, z_hat: Tensor, octaves: Tensor, hat: Tensor) -> codecs.Walk:
        decoded, mean, log_scale = super().quantize(y, z_hat, octaves, hat)
        base = self.mover.base(z_hat, hat)
        first = torch.eye(PHASES, device=y.device)[:1]
        moved = torch.tanh(self.mover(decoded.detach(), base, self.deviation, first) / self.deviation)
        return codecs.Walk(decoded + 0.5 * torch.exp2(-octaves) * moved, mean, log_scale)


class HyperScales(networks.ScaleNetwork):
    """Scales of z^ alone."""

    def correction(self, entered: Tensor, magnitude: Tensor, phase: int) -> Tensor:
        return torch.zeros_like(magnitude)


class NearScales(networks.ScaleNetwork):
    """3x3 positions of earlier symbols, not 5x5."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.neighbours = FixedConvolution(shape.latents, shape.latents, 3, groups=shape.latents)


def zero_or_not(symbols: Tensor) -> Tensor:
    """What remains of a symbol if the scale network sees two classes."""
    return SIGNED.round(symbols.abs().clamp_max(1))


def channel_groups(channels: int, height: int, width: int) -> npt.NDArray[np.int64]:
    """Phases that are groups of channels, whatever the position."""
    group = np.arange(channels) * PHASES // channels
    return np.broadcast_to(group[:, None, None], (channels, height, width)).copy()


class AdamAlone(optimiser.Optimiser):
    """AdamW for everything."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float) -> None:
        super().__init__(model, muon_rate, adam_rate)
        convolutions = list(self._muon.values())
        self._muon, self._momentum = {}, {}
        self._adam.add_param_group({"params": convolutions})
        self._rates.append(adam_rate)


class EveryOtherStep(optimiser.Optimiser):
    """Muon moves every other step, with the mean of two gradients, twice as far."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float) -> None:
        super().__init__(model, 2 * muon_rate, adam_rate)
        self._all, self._first = self._muon, {}

    def step(self, factor: float) -> None:
        if self._first:
            for name, gradient in self._first.items():
                self._all[name].grad = (self._all[name].grad + gradient) / 2
            self._first, self._muon = {}, self._all
        else:
            self._first = {name: p.grad.clone() for name, p in self._all.items() if p.grad is not None}
            self._muon = {}
        super().step(factor)


def as_they_are(pictures: list[Pixels], seed: int, min_side: int) -> list[Pixels]:
    """No smaller copies of pictures."""
    return pictures


def random_start(codec: Codec, pictures: Tensor, base: float) -> None:
    """Weights as torch draws them; only the entropy networks' constants are measured."""
    calibrate(codec, pictures)


# Widths are such that a decoder takes about as many milliseconds as that of photo-s.
TRANSFORMS = {
    "dense": Variant(),
    "gated": Variant(
        {"synthesis_inner": (28, 80, 208), "analysis_inner": (32, 96, 256)},
        parts={(networks, "Residual"): Gated},
    ),
    "shrinking": Variant(parts={(networks, "Residual"): Shrinking}),
    "more at 1/8": Variant({"synthesis_inner": (8, 64, 80)}),
    "more at 1/4": Variant({"synthesis_inner": (32, 32, 64)}),
    "light encoder": Variant({"analysis_inner": (16, 48, 96)}),
    "heavy encoder": Variant({"analysis_inner": (32, 96, 192)}),
    "unconditioned": Variant(parts={(codecs, "Synthesis"): Unconditioned}),
    "gated decoder": Variant({"synthesis_inner": (28, 80, 208), "gated": True}),
    "64 of detail": Variant({"latents": 320, "detail": 64}),
}

ENTROPY = {
    "four phases, 5x5": Variant(),
    "a mean a channel": Variant(parts={(codecs, "MeanNetwork"): ConstantMeans}, passes=0),
    "means of z alone": Variant(parts={(codecs, "MeanNetwork"): HyperMeans}, passes=1),
    "two 3x3 layers a phase": Variant(parts={(codecs, "MeanNetwork"): TwoLayerMeans}),
    "channel groups": Variant(parts={(codecs, "phase_map"): channel_groups}),
    "bounded residual": Variant(parts={(stage, "Codec"): BoundedResidual}, passes=5),
    "scales of z alone": Variant(parts={(codecs, "ScaleNetwork"): HyperScales}),
    "3x3 symbols": Variant(parts={(codecs, "ScaleNetwork"): NearScales}),
    "zero or not": Variant(parts={(codecs, "magnitude"): zero_or_not}),
    "scales, width 32": Variant({"scale": 32}),
    "scales, width 128": Variant({"scale": 128}),
}

OF_ROUNDED = "rounded latents"
TRAINING = {
    "as in the recipe": Variant(),
    "AdamW alone": Variant(parts={(stage, "Optimiser"): AdamAlone}),
    "three Newton-Schulz steps": Variant(parts={(optimiser, "_NEWTON_SCHULZ_STEPS"): 3}),
    "Muon every other step": Variant(parts={(stage, "Optimiser"): EveryOtherStep}),
    "8 crops": Variant(pretrain={"batches": [Batches(0, 8, 128)]}),
    "48 crops": Variant(pretrain={"batches": [Batches(0, 48, 128)]}),
    "4 crops of 256": Variant(pretrain={"batches": [Batches(0, 4, 256)]}),
    "half the rates": Variant(pretrain={"muon_rate": 0.75e-3, "adam_rate": 0.6e-3}),
    "twice the rates": Variant(pretrain={"muon_rate": 3e-3, "adam_rate": 2.4e-3}),
    "random start": Variant(parts={(stage, "start_from_components"): random_start}),
    "balance 0.3": Variant(rates={"balance": 0.3}),
    "balance 0.6": Variant(rates={"balance": 0.6}),
    "a fifth saturated": Variant(data={"saturated": 0.2}),
    "no smaller copies": Variant(parts={(stage, "with_smaller_copies"): as_they_are}),
    OF_ROUNDED: Variant(),
}

GROUPS = {"transforms": TRANSFORMS, "entropy": ENTROPY, "training": TRAINING}
BATCH = Batches(0, 16, 128)
# What transforms and training begin with: photo-s as it was when the first rows were taken.
FIRST = {
    "analysis_inner": (24, 64, 128),
    "synthesis_inner": (16, 48, 96),
    "gated": False,
    "latents": 256,
    "detail": 0,
}


def recipe_of(group: str, name: str, steps: int, seed: int, entropy: Shape) -> Recipe:
    """The recipe of a variant: so many steps, the second half with falling rates on integer grids.

    entropy: the shape of the network whose latents are priced.
    """
    variant = GROUPS[group][name]
    recipe = read_recipe(RECIPES / "photo-s.toml")
    settings: dict[str, Any] = {
        "batches": [BATCH],
        "steps": steps,
        "decay_from": steps // 2,
        "fixed_from": steps // 2,
        "rounds_from": 3 * steps // 4 if name == OF_ROUNDED else None,
        "muon_rate": 1.5e-3,
        "adam_rate": 1.2e-3,
        "warm_up": 100,
        "validate_every": steps,
        "checkpoint_every": 250,
    }
    first = entropy if group == "entropy" else msgspec.structs.replace(recipe.shape, **FIRST)
    pretrain = msgspec.structs.replace(recipe.pretrain, **settings | variant.pretrain)
    shape = msgspec.structs.replace(first, **variant.shape)
    rates = msgspec.structs.replace(recipe.rates, **variant.rates)
    data = msgspec.structs.replace(recipe.data, **{"saturated": 0.0} | variant.data)
    return msgspec.structs.replace(recipe, shape=shape, pretrain=pretrain, rates=rates, data=data, seed=seed)
