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
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from softstair.quantize.rates import POSITIONS_PER_POINT

from ..checkpoint import hash_file, load_checkpoint, load_codec, save_checkpoint, save_snapshot
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
    say: Callable[[str], None] = lambda line: None,
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
    run.mkdir(parents=True, exist_ok=True)
    settings = recipe.finetune
    codec = load_codec(recipe, snapshot)
    derivation = None if staircases is None else read_derivation(staircases, snapshot)
    held_out = load_pictures([data_root / name for name in recipe.data.validation])
    crops = training_crops(recipe.data, data_root, recipe.seed, _START_SIDE, offset=1)
    log = Log(run / "log.jsonl")
    log.open_run(recipe, _CPU)
    precision = choose_precision(recipe, Processes(_CPU))
    log.write("precision", **asdict(precision))
    trainer = _Trainer(recipe, codec, precision)
    checkpoint = run / "checkpoint.json"
    if checkpoint.exists():
        trainer.load(load_checkpoint(checkpoint))
        log.write("resume", step=trainer.step)

    def quantizer(parts: dict[str, Tensor]) -> Quantized:
        return Quantized(recipe, trainer.with_parts(parts), crops, derivation)

    quantized = quantizer(trainer.coding)

    def validate() -> None:
        line, figures = trainer.validate(quantized, held_out)
        log.write("validate", step=trainer.step, points=figures)
        say(line)

    if trainer.step == 0:
        validate()
    deadline = math.inf if time_budget is None else time.monotonic() + time_budget
    with ThreadPoolExecutor(1) as loader:
        upcoming: Future[Batch] = loader.submit(quantized.batch, trainer.step)
        while trainer.step < settings.steps and not trainer.is_done:
            batch = upcoming.result()
            validating = (trainer.step + 1) % settings.validate_every == 0
            if not validating:  # else the next batch waits for the quantizer
                upcoming = loader.submit(quantized.batch, trainer.step + 1)
            trainer.advance(batch)
            if trainer.step % _LOG_EVERY == 0:
                say(trainer.report(log))
            if validating:
                if trainer.decides_symbols:
                    trainer.coding = trainer.averaged_parts()
                    quantized = quantizer(trainer.coding)
                validate()
                upcoming = loader.submit(quantized.batch, trainer.step)
            if trainer.step % settings.checkpoint_every == 0:
                save_checkpoint(checkpoint, trainer.state())
                if time.monotonic() > deadline:
                    break
        upcoming.cancel()
    if trainer.step == settings.steps and settings.steps % settings.validate_every:
        if trainer.decides_symbols:
            quantized = quantizer(trainer.averaged_parts())
        validate()
    save_checkpoint(checkpoint, trainer.state())
    best = trainer.with_parts(trainer.best)
    written = run / "snapshot.safetensors"
    save_snapshot(written, recipe.shape, best.state_dict())
    if derivation is not None:
        own = msgspec.structs.replace(derivation, snapshot=hash_file(written))
        write_derivation(run / "staircases.json", own)
    return best


class _Trainer:
    """The parts that learn, their optimiser, their running average and the best of it so far.

    coding: the parts that the quantizer works with.
    """

    def __init__(self, recipe: Recipe, codec: Codec, precision: Choice) -> None:
        self._recipe, self._frozen, self._precision = recipe, codec, precision
        self._codec = deepcopy(codec)
        self._codec.requires_grad_(False).to(memory_format=torch.channels_last)
        settings = recipe.finetune
        self._parts = nn.ModuleDict(
            {name: self._codec.get_submodule(_MODULES[name]) for name in settings.parts}
        ).requires_grad_(True)
        self.decides_symbols = bool({"mean", "scale"} & set(settings.parts))
        self._optimiser = Optimiser(self._parts, settings.muon_rate, settings.adam_rate, precision.dtype)
        self._average = _copy(self._parts.state_dict())
        self.coding, self.best = _copy(self._average), _copy(self._average)
        self._least = math.inf
        self._without_gain = 0
        self._recent: list[tuple[float, float]] = []
        self.step = 0

    @property
    def is_done(self) -> bool:
        """Whether validation stopped getting better."""
        return self._without_gain >= self._recipe.finetune.patience

    def advance(self, batch: Batch) -> None:
        """One step on rate and squared error, weighed as ``pretrain`` weighs them."""
        settings, rates = self._recipe.finetune, self._recipe.rates
        # The cache of casts is shared by all threads, and the one that prepares batches empties it
        # at moments of its own: gradients would be summed in another order in every run.
        with self._precision.autocast(_CPU, cache_enabled=False):
            picture, bits = self._decode(batch)
        error = distortion(rates.distortion, picture.float(), batch.picture, rates.mixture)
        bpp = bits / (batch.picture.shape[-1] * batch.picture.shape[-2])
        self._parts.zero_grad(set_to_none=True)
        self._cost(bpp, error, batch.position).mean().backward()
        torch.nn.utils.clip_grad_norm_(self._parts.parameters(), self._recipe.pretrain.clip)
        warm = min(1.0, (self.step + 1) / settings.warm_up)
        self._optimiser.step(warm * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps)))
        self.step += 1
        keep = min(settings.average, self.step / (self.step + 10))
        for name, value in self._parts.state_dict().items():
            self._average[name].lerp_(value, 1 - keep)
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
        return self._codec.synthesis(walk.decoded, hat), bits.sum((1, 2, 3))

    def _cost(self, bpp: Tensor, error: Tensor, position: Tensor) -> Tensor:
        rates = self._recipe.rates
        weight = multiplier(position, rates.base)
        return (bpp + weight * error) * weight**-rates.balance

    def validate(self, quantized: Quantized, pictures: list[Pixels]) -> tuple[str, dict[int, Any]]:
        """Held-out pictures at three positions; remembers the best weights."""
        codec = self.averaged()
        top = (self._recipe.shape.rate_points - 1) * POSITIONS_PER_POINT
        anchor = self._recipe.rates.anchor
        positions = (top // 8, top // 2, 7 * top // 8) if anchor is None else (anchor,)
        points = {at: quantized.figures(codec, pictures, at) for at in positions}
        cost = sum(
            self._cost(torch.tensor(one.bpp), torch.tensor(one.distortion), torch.tensor(at)).item()
            for at, one in points.items()
        )
        self._without_gain = 0 if cost < self._least else self._without_gain + 1
        if cost < self._least:
            self._least, self.best = cost, self.averaged_parts()
        shown = "  ".join(f"d{at} {one.bpp:.4f}/{one.psnr:.3f}" for at, one in points.items())
        logged = {at: {"bpp": one.bpp, "psnr": one.psnr} for at, one in points.items()}
        return f"{self.step:7d}  held out  {shown}  cost {cost:.5f}", logged

    def report(self, log: Log) -> str:
        """Mean bits a pixel and distortion since the last report."""
        bpp, error = (sum(column) / len(self._recent) for column in zip(*self._recent, strict=True))
        self._recent = []
        log.write("train", step=self.step, bpp=bpp, distortion=error)
        return f"{self.step:7d}  bpp {bpp:.4f}  distortion {error:.3f}"

    def averaged_parts(self) -> dict[str, Tensor]:
        """A copy of the running average of the parts."""
        return _copy(self._average)

    def averaged(self) -> Codec:
        """The whole codec with averaged parts."""
        return self.with_parts(self._average)

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
            "average": self._average,
            "coding": self.coding,
            "best": self.best,
            "least": self._least,
            "without_gain": self._without_gain,
            "optimiser": self._optimiser.state(),
            "step": self.step,
        }

    def load(self, state: dict[str, Any]) -> None:
        self._parts.load_state_dict(state["parts"])
        self._average, self.coding, self.best = state["average"], state["coding"], state["best"]
        self._least, self._without_gain = state["least"], state["without_gain"]
        self._optimiser.load_state(state["optimiser"])
        self.step = state["step"]


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
