"""Stage ``finetune``: the synthesis is retrained on latents that a real quantizer produced.

The second stage of two-stage training (arXiv 2506.08662, ICIP 2024): after ``pretrain`` everything
that makes symbols is frozen, latents go through the integer path and the search of the mode that
files will have, and the synthesis learns to make pictures of what decoders will really see. Files
change in nothing but the pixels that they decode to; decoding costs what it did.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair.quantize.rates import POSITIONS_PER_POINT

from ..checkpoint import load_checkpoint, load_snapshot, save_checkpoint, save_snapshot
from ..codec import Codec
from ..data import Crops, Pixels, load_pictures, with_smaller_copies
from ..export.bundle import ROW_RULE
from ..export.integers import integer_gains, integer_weights
from ..export.measure import (
    Integers,
    latents_of,
    measure_z_tables,
    sample,
    samples,
)
from ..export.modes import measure_mode, quantize
from ..layers.rates import hat_weights, multiplier
from ..log import Log
from ..optimiser import Optimiser
from ..recipe import Recipe

_MEASURING = 2**31  # as a step of the crops: one that no run reaches
_LOG_EVERY = 50
_START_SIDE = 256


@dataclass(frozen=True)
class Batch:
    """What a step sees: y^ (B, C, h, w), rate positions (B,), pictures (B, 3, H, W) in [0, 1]."""

    latents: Tensor
    position: Tensor
    picture: Tensor


class Quantized:
    """Crops as decoders see them: analysed, quantized for real, never the same twice."""

    def __init__(self, recipe: Recipe, codec: Codec, crops: Crops) -> None:
        self._recipe, self._codec, self._crops = recipe, codec, crops
        settings = recipe.finetune
        self._integers = Integers(integer_weights(codec), integer_gains(codec), ROW_RULE)
        measured = crops.batch(_MEASURING, settings.measured_crops, _START_SIDE)
        taken = samples(codec, self._integers, measured)
        self._z_tables = measure_z_tables(codec, taken)
        quantizer = recipe.export.modes[settings.mode]
        self._mode = measure_mode(codec, self._integers, taken, self._z_tables, settings.mode, quantizer)

    def batch(self, step: int) -> Batch:
        """The batch of a step; the same whenever it is asked for."""
        settings = self._recipe.finetune
        pixels = self._crops.batch(step, settings.count, settings.side)
        rng = np.random.default_rng((self._recipe.seed, step))
        top = (self._recipe.shape.rate_points - 1) * POSITIONS_PER_POINT
        spread = (rng.random() + np.arange(len(pixels)) / len(pixels)) % 1.0
        positions = (spread * (top + 1)).astype(np.int64)
        latents = [self.decode(crop, int(at)) for crop, at in zip(pixels, positions, strict=True)]
        return Batch(
            torch.from_numpy(np.stack(latents)),
            torch.from_numpy(positions),
            torch.from_numpy(pixels).float() / 255,
        )

    def decode(self, pixels: Pixels, position: int) -> npt.NDArray[np.float32]:
        """y^ (C, h, w) of pixels (3, H, W), sides multiples of 32."""
        one = sample(self._codec, self._integers, latents_of(self._codec, pixels), position)
        return quantize(self._codec, self._integers, one, self._z_tables, self._mode).decoded


def finetune(
    recipe: Recipe,
    snapshot: Path,
    data_root: Path,
    run: Path,
    *,
    time_budget: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Codec:
    """Retrain the synthesis of a snapshot in the folder ``run``, or go on; averaged weights.

    Args:
        recipe: all settings; ``finetune.mode`` is one of ``export.modes``.
        snapshot: of ``pretrain``.
        data_root: folder that the recipe's data paths are relative to.
        run: folder of the log, the checkpoint and the snapshot; made if missing.
        time_budget: seconds after which to stop at the next checkpoint.
        say: receives a line of progress now and then.

    Raises:
        UsageError: bad recipe, data, snapshot or checkpoint.
    """
    run.mkdir(parents=True, exist_ok=True)
    settings = recipe.finetune
    codec = Codec(recipe.shape)
    load_snapshot(snapshot, codec)
    codec.set_fixed(True)
    codec.eval()
    train = load_pictures([data_root / name for name in recipe.data.train])
    held_out = load_pictures([data_root / name for name in recipe.data.validation])
    crops = Crops(with_smaller_copies(train, recipe.seed, _START_SIDE), recipe.seed + 1)
    log = Log(run / "log.jsonl")
    log.open_run(recipe, torch.device("cpu"))
    quantized = Quantized(recipe, codec, crops)
    trainer = _Trainer(recipe, codec)
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(load_checkpoint(checkpoint, torch.device("cpu")))
        log.write("resume", step=trainer.step)

    def keep() -> None:
        save_checkpoint(checkpoint, trainer.state())
        save_snapshot(run / "snapshot.safetensors", recipe.shape, trainer.averaged().state_dict())

    def check() -> None:
        points = _validate(trainer.averaged(), quantized, held_out)
        log.write("validate", step=trainer.step, psnr=points)
        figures = "  ".join(f"d{at} {value:.3f}" for at, value in points.items())
        say(f"{trainer.step:7d}  held out  {figures}")

    check()
    deadline = math.inf if time_budget is None else time.monotonic() + time_budget
    with ThreadPoolExecutor(1) as loader:
        upcoming: Future[Batch] = loader.submit(quantized.batch, trainer.step)
        while trainer.step < settings.steps:
            batch = upcoming.result()
            upcoming = loader.submit(quantized.batch, trainer.step + 1)
            trainer.advance(batch)
            if trainer.step % _LOG_EVERY == 0:
                mean = trainer.report()
                log.write("train", step=trainer.step, mse=mean)
                say(f"{trainer.step:7d}  mse {mean:.3f}")
            if trainer.step % settings.checkpoint_every == 0:
                keep()
                if time.monotonic() > deadline:
                    break
        upcoming.cancel()
    keep()
    check()
    return trainer.averaged()


class _Trainer:
    """The synthesis, its optimiser and its running average."""

    def __init__(self, recipe: Recipe, codec: Codec) -> None:
        self._recipe, self._frozen = recipe, codec
        self.synthesis = Codec(recipe.shape).synthesis
        self.synthesis.load_state_dict(codec.synthesis.state_dict())
        self.synthesis.to(memory_format=torch.channels_last)
        settings = recipe.finetune
        self._optimiser = Optimiser(self.synthesis, settings.muon_rate, settings.adam_rate)
        self._average = {name: value.clone() for name, value in self.synthesis.state_dict().items()}
        self._errors: list[float] = []
        self.step = 0

    def advance(self, batch: Batch) -> None:
        """One step on the rate-weighted squared error, as ``pretrain`` weighs it."""
        settings, rates = self._recipe.finetune, self._recipe.rates
        hat = hat_weights(batch.position, self._recipe.shape.rate_points)
        with torch.autocast("cpu", torch.bfloat16):
            pictures = self.synthesis(batch.latents, hat).float()
        error = (pictures - batch.picture).square().mean((1, 2, 3)) * 255**2
        weight = multiplier(batch.position, rates.base) ** (1 - rates.balance)
        self.synthesis.zero_grad(set_to_none=True)
        (weight * error).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.synthesis.parameters(), self._recipe.pretrain.clip)
        warm = min(1.0, (self.step + 1) / settings.warm_up)
        self._optimiser.step(warm * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps)))
        self.step += 1
        keep = min(settings.average, self.step / (self.step + 10))
        for name, value in self.synthesis.state_dict().items():
            self._average[name].lerp_(value, 1 - keep)
        self._errors.append(error.mean().item())

    def report(self) -> float:
        """Mean squared error, squared grey levels, since the last report."""
        mean, self._errors = float(np.mean(self._errors)), []
        return mean

    def averaged(self) -> Codec:
        """The whole codec with the averaged synthesis."""
        codec = Codec(self._recipe.shape)
        codec.load_state_dict(self._frozen.state_dict())
        codec.synthesis.load_state_dict(self._average)
        codec.set_fixed(True)
        return codec.eval()

    def state(self) -> dict[str, Any]:
        return {
            "synthesis": self.synthesis.state_dict(),
            "average": self._average,
            "optimiser": self._optimiser.state(),
            "step": self.step,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.synthesis.load_state_dict(state["synthesis"])
        self._average = state["average"]
        self._optimiser.load_state(state["optimiser"])
        self.step = state["step"]


@torch.no_grad()
def _validate(codec: Codec, quantized: Quantized, pictures: list[Pixels]) -> dict[int, float]:
    """Mean PSNR of pictures (H, W, 3), cut to whole multiples of 32, by rate position."""
    top = (codec.shape.rate_points - 1) * POSITIONS_PER_POINT
    result = {}
    for position in (top // 8, top // 2, 7 * top // 8):
        values = []
        for pixels in pictures:
            height, width = (side // 32 * 32 for side in pixels.shape[:2])
            planes = np.ascontiguousarray(pixels[:height, :width].transpose(2, 0, 1))
            hat = hat_weights(torch.tensor([position]), codec.shape.rate_points)
            latents = torch.from_numpy(quantized.decode(planes, position))[None]
            decoded = (codec.synthesis(latents, hat)[0].clamp(0, 1) * 255).round().numpy()
            values.append(10 * np.log10(255**2 / np.square(decoded - planes).mean()))
        result[position] = float(np.mean(values))
    return result
