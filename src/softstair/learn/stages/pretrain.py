"""Stage ``pretrain``: end to end, one network over all rates.

Rate is priced with additive noise, everything else sees straight-through rounding (Minnen and
Singh, "Channel-wise autoregressive entropy models", ICIP 2020, section 3). The loss of a picture
at rate position d is ``(bpp + lambda(d) * distortion) * lambda(d)**-balance``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softstair.errors import TrainingDiverged
from softstair.quantize.rates import POSITIONS_PER_POINT

from ..checkpoint import load_checkpoint, load_snapshot, save_checkpoint, save_snapshot
from ..codec import Codec
from ..data import Crops, Pixels, load_pictures, with_smaller_copies
from ..distortion import distortion
from ..layers.rates import draw_positions, multiplier
from ..log import Log
from ..optimiser import Optimiser
from ..principal import start_from_components
from ..recipe import Recipe
from ..validation import validate

_START_CROPS, _START_SIDE = 32, 256
_START_BATCH = 2**31 - 1  # as a step of the crops: one that no run reaches
_OUTLIER = 4.0  # a loss this many times the running mean is skipped
_PATIENCE = 5  # skipped steps in a row before going back
_LOG_EVERY = 50


def pretrain(
    recipe: Recipe,
    data_root: Path,
    run: Path,
    device: torch.device,
    *,
    snapshot: Path | None = None,
    time_budget: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Codec:
    """Train, or go on training, in the folder ``run``; returns the codec with averaged weights.

    Args:
        recipe: all settings. A run resumes exactly when they are unchanged; a changed schedule
            takes effect from the checkpoint on.
        data_root: folder that the recipe's data paths are relative to.
        run: folder of the log, the checkpoint and the snapshot; made if missing.
        device: where to compute.
        snapshot: weights to start from instead of principal components.
        time_budget: seconds after which to stop at the next checkpoint.
        say: receives a line of progress now and then.

    Raises:
        UsageError: bad recipe, data or checkpoint.
        TrainingDiverged: steps stayed non-finite after going back to the last good state.
    """
    run.mkdir(parents=True, exist_ok=True)
    settings = recipe.pretrain
    train = load_pictures([data_root / name for name in recipe.data.train])
    held_out = load_pictures([data_root / name for name in recipe.data.validation])
    crops = Crops(with_smaller_copies(train, recipe.seed, _START_SIDE), recipe.seed)
    log = Log(run / "log.jsonl")
    log.open_run(recipe, device)
    trainer = _Trainer(recipe, crops, log, device)
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(load_checkpoint(checkpoint, device))
        log.write("resume", step=trainer.step)
    else:
        trainer.start(snapshot)

    def keep() -> None:
        save_checkpoint(checkpoint, trainer.state())
        save_snapshot(run / "snapshot.safetensors", recipe.shape, trainer.average)

    deadline = math.inf if time_budget is None else time.monotonic() + time_budget
    with ThreadPoolExecutor(1) as loader:
        upcoming = loader.submit(trainer.crops, trainer.step)
        while trainer.step < settings.steps:
            upcoming = trainer.advance(upcoming, loader)
            if trainer.step % _LOG_EVERY == 0:
                say(trainer.report())
            if trainer.step % settings.validate_every == 0:
                say(trainer.validate(held_out))
            if trainer.step % settings.checkpoint_every == 0:
                keep()
                if time.monotonic() > deadline:
                    break
        upcoming.cancel()
    keep()
    return trainer.averaged()


class _Trainer:
    """The state of a run and its one step."""

    def __init__(self, recipe: Recipe, crops: Crops, log: Log, device: torch.device) -> None:
        self.recipe, self.settings = recipe, recipe.pretrain
        self.device, self.log = device, log
        self._crops = crops
        torch.manual_seed(recipe.seed)
        model = Codec(recipe.shape).to(device)
        self.codec: Codec = model.to(memory_format=torch.channels_last)
        if self.settings.encoder_frozen:
            for part in (self.codec.analysis, self.codec.hyper_analysis, self.codec.gains):
                part.requires_grad_(False)
        self.optimiser = Optimiser(self.codec, self.settings.muon_rate, self.settings.adam_rate)
        self.average = {k: v.clone() for k, v in self.codec.state_dict().items()}
        self.step = 0
        self.skipped = 0
        self._skipped_in_a_row = 0
        self._running_loss = math.nan
        self._recent: list[dict[str, float]] = []
        self._good: dict[str, Any] | None = None
        self._clock = time.monotonic()

    def start(self, snapshot: Path | None) -> None:
        if snapshot is None:
            batch = self._crops.batch(_START_BATCH, _START_CROPS, _START_SIDE)
            start_from_components(self.codec, _unit(batch, self.device), self.recipe.rates.base)
        else:
            load_snapshot(snapshot, self.codec)
        self.average = {k: v.clone() for k, v in self.codec.state_dict().items()}

    def crops(self, step: int) -> Pixels:
        part = max((b for b in self.settings.batches if b.start <= step), key=lambda b: b.start)
        return self._crops.batch(step, part.count, part.side)

    def advance(self, upcoming: Future[Pixels], loader: ThreadPoolExecutor) -> Future[Pixels]:
        picture = _unit(upcoming.result(), self.device)
        upcoming = loader.submit(self.crops, self.step + 1)
        if self.step % self.settings.checkpoint_every == 0:
            self._good = self.state()
        self.codec.set_fixed(self.step >= self.settings.fixed_from)
        self._seed()
        loss, values = self._loss(picture)
        self.codec.zero_grad(set_to_none=True)
        accepted = self._plausible(loss.item())
        if accepted:
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), self.settings.clip)
            accepted = bool(torch.isfinite(norm))
        if accepted:
            self.optimiser.step(self._schedule())
            self._update_average()
            values["norm"] = norm.item()
            self._recent.append(values)
            self._skipped_in_a_row = 0
        else:
            self._skip(loss.item())
        self.step += 1
        return upcoming

    @property
    def _rounds(self) -> bool:
        return self.settings.rounds_from is not None and self.step >= self.settings.rounds_from

    def _seed(self) -> None:
        """Noise depends on the step alone, so that resuming repeats it."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)

    def _loss(self, picture: Tensor) -> tuple[Tensor, dict[str, float]]:
        rates, count = self.recipe.rates, len(picture)
        points, anchor = self.recipe.shape.rate_points, rates.anchor
        spread = (torch.rand(1) + torch.arange(count) / count) % 1.0  # stratified in the batch
        position = draw_positions(spread, points, anchor).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            passage = self.codec(picture, position, self._rounds)
        area = picture.shape[-1] * picture.shape[-2]
        bpp = (passage.y_bits + passage.z_bits) / area
        error = distortion(rates.distortion, passage.picture, picture)
        weight = multiplier(position, rates.base)
        centre = (points - 1) * POSITIONS_PER_POINT // 2 if anchor is None else anchor
        middle = multiplier(torch.tensor([centre]), rates.base).item()
        loss = ((bpp + weight * error) * (middle / weight) ** rates.balance).mean()
        values = {
            "loss": loss.item(),
            "bpp": bpp.mean().item(),
            "z_bpp": passage.z_bits.mean().item() / area,
            "distortion": error.mean().item(),
        }
        return loss, values

    def _plausible(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return False
        if math.isnan(self._running_loss):
            self._running_loss = loss
        outlier = self.step > self.settings.warm_up and loss > _OUTLIER * self._running_loss
        if not outlier:
            self._running_loss = 0.98 * self._running_loss + 0.02 * loss
        return not outlier

    def _skip(self, loss: float) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        self.log.write("skip", step=self.step, loss=loss if math.isfinite(loss) else None)
        if self._skipped_in_a_row == _PATIENCE and self._good is not None:
            skipped, step = self.skipped, self.step
            self.load(self._good)
            self.skipped, self.step = skipped, step  # weights go back, the data goes on
            self.log.write("roll back", step=step)
        elif self._skipped_in_a_row >= 4 * _PATIENCE:
            raise TrainingDiverged(
                f"Loss stayed non-finite for {self._skipped_in_a_row} steps up to step {self.step}; "
                "lower muon_rate and adam_rate in the recipe and resume."
            )

    def _schedule(self) -> float:
        settings = self.settings
        warm = min(1.0, (self.step + 1) / settings.warm_up)
        if self.step < settings.decay_from:
            return warm
        progress = (self.step - settings.decay_from) / (settings.steps - settings.decay_from)
        return warm * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.settings.average, (self.step + 1) / (self.step + 10))
        for name, value in self.codec.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)

    def report(self) -> str:
        recent, self._recent = self._recent, []
        now, before = time.monotonic(), self._clock
        self._clock = now
        if not recent:
            return f"{self.step:7d}  no step accepted"
        mean = {key: float(np.mean([row[key] for row in recent])) for key in recent[0]}
        mean["seconds"] = round((now - before) / _LOG_EVERY, 4)
        self.log.write("train", step=self.step, skipped=self.skipped, **mean)
        return f"{self.step:7d}  " + "  ".join(f"{k} {v:.4f}" for k, v in mean.items())

    def averaged(self) -> Codec:
        codec = Codec(self.recipe.shape).to(self.device)
        codec.load_state_dict(self.average)
        codec.set_fixed(self.step >= self.settings.fixed_from)
        return codec.eval()

    def validate(self, pictures: list[Pixels]) -> str:
        top = self.recipe.shape.rate_points - 1
        positions = [round(top * part / 4) * POSITIONS_PER_POINT for part in range(5)]
        if self.recipe.rates.anchor is not None:
            positions = [self.recipe.rates.anchor]
        points = validate(self.averaged(), pictures, positions)
        self.log.write("validate", step=self.step, points=[asdict(point) for point in points])
        return f"{self.step:7d}  held out  " + "  ".join(
            f"d{p.position} {p.bpp:.3f}/{p.psnr:.2f}" for p in points
        )

    def state(self) -> dict[str, Any]:
        state = {
            "model": self.codec.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state(),
            "step": self.step,
            "skipped": self.skipped,
            "running_loss": self._running_loss,
        }
        copied: dict[str, Any] = _copy(state)
        return copied

    def load(self, state: dict[str, Any]) -> None:
        state = _copy(state)
        self.codec.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimiser.load_state(state["optimiser"])
        self.step, self.skipped = state["step"], state["skipped"]
        self._running_loss = state["running_loss"]


def _unit(batch: Pixels, device: torch.device) -> Tensor:
    """uint8 crops to float32 in [0, 1] on the device, channels last."""
    picture = torch.from_numpy(batch).to(device, non_blocking=True).float() / 255
    return picture.contiguous(memory_format=torch.channels_last)


def _copy(value: Any) -> Any:
    """A deep copy of nested containers of tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
