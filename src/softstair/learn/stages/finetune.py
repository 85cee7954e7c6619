"""Stage ``finetune``: the decoder is retrained on latents that a real quantizer produced.

The second stage of two-stage training (arXiv 2506.08662, ICIP 2024): after ``pretrain`` the
encoder's transforms are frozen, latents go through the integer path and the search of the mode that
files will have, and the synthesis learns to make pictures of what decoders will really see. The
mean and the scale network may learn with it: symbols are constants then, means move what they stand
for and scales what they cost, and the quantizer goes on with the new networks now and then.
Decoding costs what it did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from softstair.quantize.rates import POSITIONS_PER_POINT

from ..checkpoint import hash_file, load_codec, save_snapshot
from ..codec import Codec
from ..data import Pixels, load_pictures, training_crops
from ..distortion import distortion
from ..layers.densities import SIGMA_MAX, SIGMA_MIN, gaussian_bits
from ..layers.rates import hat_weights, multiplier
from ..log import Log
from ..optimiser import Optimiser
from ..precision import Choice, choose_precision
from ..processes import Processes
from ..recipe import Recipe
from ..run import Ahead, Average, Every, Run, Say, copied, say_nothing
from ..schedule import falling
from ..staircases import read_derivation, write_derivation
from .quantized import Batch, Quantized

_LOG_EVERY = 50
_START_SIDE = 256
_CPU = torch.device("cpu")
_MODULES = {"synthesis": "synthesis", "mean": "mean_network", "scale": "scale_network"}


def finetune(
    recipe: Recipe,
    snapshot: Path,
    data_root: Path,
    run: Path,
    *,
    staircases: Path | None = None,
    time_budget: float | None = None,
    say: Say = say_nothing,
) -> Codec:
    """Retrain parts of a snapshot in the folder ``run``, or go on; the best averaged weights.

    Args:
        recipe: all settings; ``finetune.mode`` is one of ``export.modes``.
        snapshot: of ``pretrain``.
        data_root: folder that the recipe's data paths are relative to.
        run: folder of the log, the checkpoint and the snapshot; made if missing.
        staircases: a file of the stage ``derive``, of the same snapshot. Latents are quantized with
            them, and ``run`` holds them again, for the snapshot that is written.
        time_budget: seconds after which to stop at the next checkpoint.
        say: receives a line of progress now and then.

    Raises:
        UsageError: bad recipe, data, snapshot or checkpoint.
    """
    settings, processes = recipe.finetune, Processes(_CPU)
    folder = Run(run, processes, time_budget, say)
    codec = load_codec(recipe, snapshot)
    derivation = None if staircases is None else read_derivation(staircases, snapshot)
    held_out = load_pictures([data_root / name for name in recipe.data.validation])
    crops = training_crops(recipe.data, data_root, recipe.seed, _START_SIDE, offset=1)
    precision = choose_precision(recipe, processes)
    folder.begin(recipe, precision)
    stage = Finetuning(recipe, codec, precision, folder.log)
    if (state := folder.saved()) is not None:
        stage.load(state)
        folder.log.write("resume", step=stage.step)

    def quantizer(coding: Codec) -> Quantized:
        return Quantized(recipe, coding, crops, derivation)

    with stage.feed(quantizer, held_out):
        if stage.step == 0:
            say(stage.validate())
        lines = Every(_LOG_EVERY, stage.report), Every(settings.validate_every, stage.validate)
        folder.go(stage, settings.checkpoint_every, *lines)
        if stage.step == settings.steps and settings.steps % settings.validate_every:
            say(stage.validate())
            folder.keep(stage)
    best = stage.with_parts(stage.best)
    written = run / "snapshot.safetensors"
    save_snapshot(written, recipe.shape, best.state_dict())
    if derivation is not None:
        own = msgspec.structs.replace(derivation, snapshot=hash_file(written))
        write_derivation(run / "staircases.json", own)
    return best


class Finetuning:
    """The parts that learn, their optimiser, their running average and the best of it so far.

    coding: the parts that the quantizer works with.
    """

    def __init__(self, recipe: Recipe, codec: Codec, precision: Choice, log: Log) -> None:
        self._recipe, self._frozen, self._precision, self._log = recipe, codec, precision, log
        self._codec = deepcopy(codec)
        self._codec.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        settings = recipe.finetune
        self._parts = nn.ModuleDict(
            {name: self._codec.get_submodule(_MODULES[name]) for name in settings.parts}
        ).requires_grad_(True)
        self.decides_symbols = bool({"mean", "scale"} & set(settings.parts))
        self._optimiser = Optimiser(self._parts, settings.muon_rate, settings.adam_rate, precision.dtype)
        self._average = Average(self._parts.state_dict(), settings.average)
        self.coding, self.best = copied(self._average.weights), copied(self._average.weights)
        self._least = math.inf
        self._without_gain = 0
        self._recent: list[tuple[float, float]] = []
        self.step = 0

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken, or validation stopped getting better."""
        settings = self._recipe.finetune
        return self.step >= settings.steps or self._without_gain >= settings.patience

    @contextmanager
    def feed(self, quantizer: Callable[[Codec], Quantized], held_out: list[Pixels]) -> Iterator[None]:
        """Say how a codec quantizes crops, and what to validate on; batches are made ahead meanwhile."""
        self._quantizer, self._held_out = quantizer, held_out
        self._quantized = quantizer(self.with_parts(self.coding))
        with Ahead(lambda step: self._quantized.batch(step), _CPU) as self._batches:
            yield

    def advance(self) -> None:
        """One step on rate and distortion, weighed as ``pretrain`` weighs them."""
        settings, rates = self._recipe.finetune, self._recipe.rates
        validating = (self.step + 1) % settings.validate_every == 0  # the next batch waits for it
        batch = self._batches.take(self.step, go_on=not validating)
        # The cache of casts is shared by all threads, and the one that prepares batches empties it
        # at moments of its own: gradients would be summed in another order in every run.
        with self._precision.autocast(_CPU, cache_enabled=False):
            picture, bits = self._decode(batch)
        error = distortion(rates.distortion, picture.float(), batch.picture, rates.mixture, settings.across)
        bpp = bits / (batch.picture.shape[-1] * batch.picture.shape[-2])
        self._parts.zero_grad(set_to_none=True)
        self._cost(bpp, self._as_of_whole(error, batch), batch.position).mean().backward()
        torch.nn.utils.clip_grad_norm_(self._parts.parameters(), self._recipe.pretrain.clip)
        warm = min(1.0, (self.step + 1) / settings.warm_up)
        self._optimiser.step(warm * falling(self.step / settings.steps))
        self.step += 1
        self._average.follow(self._parts.state_dict(), self.step)
        self._recent.append((bpp.mean().item(), error.mean().item()))

    def _decode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pictures, and bits of y where they can change, (B,)."""
        hat = hat_weights(batch.position, self._recipe.shape.rate_points)
        if not self.decides_symbols:
            return self._codec.synthesis(batch.decoded, hat), torch.zeros(len(batch.position))
        walk = self._codec.reconstruct(batch.symbols, batch.values, batch.z_hat, batch.octaves, hat)
        sigma = torch.exp2(walk.log_scale).clamp(SIGMA_MIN, SIGMA_MAX)
        # Cells of both of a trellis's quantizers are a step wide, but for those around zero.
        bits = gaussian_bits(batch.symbols, sigma)
        return self._codec.synthesis(walk.decoded, hat), (bits * batch.kept).sum((1, 2, 3))

    def _as_of_whole(self, error: Tensor, batch: Batch) -> Tensor:
        """Distortion, (B,), where that of crops that were cut teaches as much as that of whole ones.

        It is many times as large, and would be all that counts.
        """
        if not batch.whole.any():
            return error
        weight = multiplier(batch.position, self._recipe.rates.base)
        usual = (weight * error)[batch.whole].mean() / (weight * error)
        return torch.where(batch.whole, error, error * usual.detach().clamp(max=1))

    def _cost(self, bpp: Tensor, error: Tensor, position: Tensor) -> Tensor:
        rates = self._recipe.rates
        weight = multiplier(position, rates.base)
        return (bpp + weight * error) * weight**-rates.balance

    def validate(self) -> str:
        """Held-out pictures at three positions; remembers the best weights.

        Where symbols depend on what learns, the quantizer goes on with it from here.
        """
        if self.step and self.decides_symbols:
            self.coding = copied(self._average.weights)
            self._quantized = self._quantizer(self.with_parts(self.coding))
        codec = self.with_parts(self._average.weights)
        top = (self._recipe.shape.rate_points - 1) * POSITIONS_PER_POINT
        anchor = self._recipe.rates.anchor
        positions = (top // 8, top // 2, 7 * top // 8) if anchor is None else (anchor,)
        points = {at: self._quantized.figures(codec, self._held_out, at) for at in positions}
        cost = sum(
            self._cost(torch.tensor(one.bpp), torch.tensor(one.distortion), torch.tensor(at)).item()
            for at, one in points.items()
        )
        self._without_gain = 0 if cost < self._least else self._without_gain + 1
        if cost < self._least:
            self._least, self.best = cost, copied(self._average.weights)
        shown = "  ".join(f"d{at} {one.bpp:.4f}/{one.psnr:.3f}" for at, one in points.items())
        logged = {at: {"bpp": one.bpp, "psnr": one.psnr} for at, one in points.items()}
        self._log.write("validate", step=self.step, points=logged)
        return f"{self.step:7d}  held out  {shown}  cost {cost:.5f}"

    def report(self) -> str:
        """Mean bits a pixel and distortion since the last report."""
        bpp, error = (sum(column) / len(self._recent) for column in zip(*self._recent, strict=True))
        self._recent = []
        self._log.write("train", step=self.step, bpp=bpp, distortion=error)
        return f"{self.step:7d}  bpp {bpp:.4f}  distortion {error:.3f}"

    def with_parts(self, parts: dict[str, Tensor]) -> Codec:
        """The whole codec with given weights of its parts."""
        state = dict(self._frozen.state_dict())
        for name, value in parts.items():
            part, _, rest = name.partition(".")
            state[f"{_MODULES[part]}.{rest}"] = value
        codec = deepcopy(self._frozen)
        codec.load_state_dict(state)
        return codec

    def state(self) -> dict[str, Any]:
        return {
            "parts": self._parts.state_dict(),
            "average": self._average.weights,
            "coding": self.coding,
            "best": self.best,
            "least": self._least,
            "without_gain": self._without_gain,
            "optimiser": self._optimiser.state(),
            "step": self.step,
        }

    def load(self, state: dict[str, Any]) -> None:
        self._parts.load_state_dict(state["parts"])
        self._average.weights = state["average"]
        self.coding, self.best = state["coding"], state["best"]
        self._least, self._without_gain = state["least"], state["without_gain"]
        self._optimiser.load_state(state["optimiser"])
        self.step = state["step"]

    def keep(self, folder: Path) -> None:
        """Nothing: the best weights are written at the end."""
