"""Stage ``pretrain``: end to end, one network over all rates.

Rate is priced with additive noise, everything else sees straight-through rounding (Minnen and
Singh, "Channel-wise autoregressive entropy models", ICIP 2020, section 3). The loss of a picture
at rate position d is ``(bpp + lambda(d) * distortion) * lambda(d)**-balance``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softstair.errors import TrainingDiverged, UsageError
from softstair.quantize.rates import POSITIONS_PER_POINT

from ..checkpoint import load_checkpoint, load_snapshot, save_checkpoint, save_snapshot
from ..codec import Codec, Passage
from ..data import Crops, Pixels, load_pictures, training_crops
from ..distortion import distortion
from ..layers.rates import draw_positions, multiplier
from ..log import Log
from ..noise import Noise, draw_noise, draw_spread
from ..optimiser import Optimiser
from ..precision import Choice, choose_precision
from ..processes import Processes, join
from ..recipe import Batches, Recipe
from ..recorded import Recorded
from ..run import Ahead, Average, Every, Run, Say, copied, say_nothing
from ..schedule import rate_factor, with_decay
from ..shape import Shape
from ..start import start_from_components
from ..validation import validate

_START_CROPS, _START_SIDE = 32, 256
_START_BATCH = 2**31 - 1  # as a step of the crops: one that no run reaches
_OUTLIER = 4.0  # a loss this many times the running mean is skipped
_PATIENCE = 5  # skipped steps in a row before going back
_LOG_EVERY = 50
_VALUES = ("loss", "bpp", "z_bpp", "distortion")  # of a step, for the log


@dataclass(frozen=True)
class Fork:
    """Where a run comes from that ends what another run began.

    parent: folder of the other run, which stays as it is and may be going on. falling: steps in which the
    learning rates fall to zero. steady: steps before that, at the recipe's rates.
    """

    parent: Path
    falling: int
    steady: int = 0


@dataclass(frozen=True)
class Design:
    """What a run is made of, where it is not what recipes describe: the seam for other designs.

    codec: made of a shape. optimiser: made of a module, two learning rates and a dtype. start: sets the
    weights of a new codec, from pictures (B, 3, H, W) in [0, 1] and the base of the rates.
    """

    codec: Callable[[Shape], Codec] = Codec
    optimiser: Callable[[Codec, float, float, torch.dtype], Optimiser] = Optimiser
    start: Callable[[Codec, Tensor, float], None] = start_from_components


STANDARD = Design()


def pretrain(
    recipe: Recipe,
    data_root: Path,
    run: Path,
    device: torch.device,
    *,
    snapshot: Path | None = None,
    fork: Fork | None = None,
    time_budget: float | None = None,
    say: Say = say_nothing,
    design: Design = STANDARD,
) -> Codec:
    """Train, or go on training, in the folder ``run``; returns the codec with averaged weights.

    Under torchrun all processes call this; their folder of the run is one and the same.

    Args:
        recipe: all settings. A run resumes exactly when they are unchanged; a changed schedule
            takes effect from the checkpoint on.
        data_root: folder that the recipe's data paths are relative to.
        run: folder of the log, the checkpoint and the snapshot; made if missing.
        device: where to compute.
        snapshot: weights to start from instead of principal components.
        fork: another run whose newest checkpoint this one starts from; the schedule is then the
            fork's, not the recipe's. A run that has a checkpoint of its own goes on from that.
        time_budget: seconds after which to stop at the next checkpoint.
        say: receives a line of progress now and then.
        design: another one.

    Raises:
        UsageError: bad recipe, data or checkpoint.
        TrainingDiverged: steps stayed non-finite after going back to the last good state.
    """
    with join(device) as processes:
        smallest = min(part.count for part in recipe.pretrain.batches)
        if smallest < processes.count:
            raise UsageError(f"A batch of {smallest} crops cannot be shared by {processes.count} processes.")
        folder = Run(run, processes, time_budget, say)
        if processes.leads and fork is not None and not folder.checkpoint.exists():
            _fork_checkpoint(fork, folder.checkpoint)
        processes.wait()
        state = folder.saved()
        if fork is not None and state is not None and state["decay"] is None:
            raise UsageError(
                f"{run} holds a run of its own, whose rates do not fall; name another folder for the fork of "
                f"{fork.parent}."
            )
        processes.wait()  # the first must not replace what another is reading
        if state is not None and state["decay"] is not None:
            recipe = with_decay(recipe, *state["decay"])
        stage = Pretraining(recipe, processes, folder.log, choose_precision(recipe, processes), design)
        if state is not None:
            stage.load(state)
        if stage.is_done:
            folder.say(f"{run} has taken all its {stage.step} steps; raise pretrain.steps to go on.")
        else:
            _train(stage, folder, data_root, snapshot)
        return stage.averaged()


def _train(stage: Pretraining, run: Run, data_root: Path, snapshot: Path | None) -> None:
    recipe, settings, processes, data = stage.recipe, stage.settings, run.processes, stage.recipe.data
    held_out = load_pictures([data_root / name for name in data.validation])
    crops = training_crops(
        data, data_root, recipe.seed, _START_SIDE, saturated=data.saturated, device=processes.device
    )
    run.begin(recipe, stage.precision)
    if stage.step:
        run.log.write("resume", step=stage.step)
    else:
        stage.start(snapshot, crops)

    def make(step: int) -> Tensor:
        part = stage.batch_at(step)
        cuts = crops.cuts(step, part.count, part.side)
        return crops.gather([cuts[index] for index in processes.share(part.count)], part.side)

    lines = Every(_LOG_EVERY, stage.report, at_end=True), Every(settings.validate_every, stage.validate)
    with Ahead(make, processes.device) as batches:
        stage.feed(batches, held_out)
        run.go(stage, settings.checkpoint_every, *lines)


def _fork_checkpoint(fork: Fork, checkpoint: Path) -> None:
    """Write a run's first checkpoint: its parent's newest, and where the rates fall."""
    source = fork.parent / checkpoint.name
    if not source.exists():
        raise UsageError(f"{fork.parent} has no checkpoint to fork from.")
    state = load_checkpoint(source)
    start = state["step"] + fork.steady
    state["decay"] = [start, start + fork.falling]
    save_checkpoint(checkpoint, state)


class Pretraining:
    """The state of a run and its one step."""

    def __init__(
        self, recipe: Recipe, processes: Processes, log: Log, precision: Choice, design: Design = STANDARD
    ) -> None:
        self.recipe, self.settings = recipe, recipe.pretrain
        self.processes, self.log, self.precision, self._design = processes, log, precision, design
        self.device = processes.device
        # Layers that are kept in float32 need its bits; TensorFloat32 has ten, bfloat16 has seven.
        torch.backends.cudnn.allow_tf32 = False
        model = design.codec(recipe.shape).to(self.device)
        self.codec: Codec = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = design.optimiser(
            self.codec, self.settings.muon_rate, self.settings.adam_rate, precision.dtype
        )
        self._average = self._new_average()
        self._descend_part = Recorded(self._add_gradients)
        self.step = 0
        self.skipped = 0
        self._decay: list[int] | None = None  # first and last step of a fork's falling rates
        self._skipped_in_a_row = 0
        self._running_loss = math.nan
        self._recent: list[dict[str, float]] = []
        self._good: dict[str, Any] | None = None
        self._clock = time.monotonic()
        self._batches: Ahead[Tensor] | None = None
        self._held_out: list[Pixels] = []

    @property
    def is_done(self) -> bool:
        return self.settings.steps is not None and self.step >= self.settings.steps

    def start(self, snapshot: Path | None, crops: Crops) -> None:
        """Begin with a snapshot's weights, or with principal components of crops."""
        torch.manual_seed(self.recipe.seed)
        codec = self._design.codec(self.recipe.shape)
        if snapshot is None:
            batch = torch.from_numpy(crops.batch(_START_BATCH, _START_CROPS, _START_SIDE))
            self._design.start(codec, _unit(batch), self.recipe.rates.base)
        else:
            load_snapshot(snapshot, codec)
        self.codec.load_state_dict(codec.state_dict())
        self.processes.follow_first(list(self.codec.state_dict().values()))
        self._average = self._new_average()

    def feed(self, batches: Ahead[Tensor], held_out: list[Pixels]) -> None:
        """Say what to learn from, this process's crops of every step, and what to validate on."""
        self._batches, self._held_out = batches, held_out

    def batch_at(self, step: int) -> Batches:
        return max((b for b in self.settings.batches if b.start <= step), key=lambda b: b.start)

    def advance(self) -> None:
        """Take a step on this process's crops of it and all others'."""
        assert self._batches is not None  # it was fed
        self.learn(self._batches.take(self.step))

    def learn(self, batch: Tensor) -> None:
        """Take a step on crops, uint8 (B, 3, side, side)."""
        if self.step % self.settings.checkpoint_every == 0:
            self._good = self.state()
        self.codec.set_fixed(self._fixed)
        values = self.descend(batch)
        loss = values["loss"]
        accepted = self._plausible(loss)
        norm = torch.nn.utils.get_total_norm(self._gradients).item() if accepted else math.nan
        if math.isfinite(norm):
            torch._foreach_mul_(self._gradients, min(1.0, self.settings.clip / (norm + 1e-6)))
            self.optimiser.step(rate_factor(self.settings, self.step))
            self._average.follow(self.codec.state_dict(), self.step + 1)
            self._recent.append({**values, "norm": norm})
            self._skipped_in_a_row = 0
        else:
            self._skip(loss)
        self.step += 1

    @property
    def _fixed(self) -> bool:
        return self.settings.fixed_from is not None and self.step >= self.settings.fixed_from

    def descend(self, batch: Tensor) -> dict[str, float]:
        """Compute gradients of the whole batch's loss; what the log says of it, means over crops.

        A process goes through its crops ``at_once`` at a time. Sums over passes and processes come
        before any decision, so that all processes decide alike.
        """
        seed, shape, step, device = self.recipe.seed, self.recipe.shape, self.step, self.device
        count, side = self.batch_at(step).count, batch.shape[-1]
        share = self.processes.share(count)
        spread = draw_spread(seed, step, count)[list(share)]
        position = draw_positions(spread, shape.rate_points, self.recipe.rates.anchor).to(device)
        noise = draw_noise(shape, seed, step, count, share, side, device)
        values = torch.zeros(len(_VALUES), device=device)
        torch._foreach_zero_(self._gradients)
        size = self.settings.at_once or len(share)
        for first in range(0, len(share), size):
            part = slice(first, first + size)
            given = batch[part], position[part], noise.y[part], noise.z[part]
            values += self._descend_part(*given, state=(self._fixed, count))
        self.processes.add([*self._gradients, values])
        return dict(zip(_VALUES, values.tolist(), strict=True))

    @property
    def _gradients(self) -> list[Tensor]:
        """Of all parameters, always the same tensors."""
        for parameter in self.codec.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self.codec.parameters() if parameter.grad is not None]

    def _add_gradients(self, crops: Tensor, position: Tensor, noise_y: Tensor, noise_z: Tensor) -> Tensor:
        """Add gradients of what some crops, uint8 (B, 3, side, side), add to a step's loss.

        Returns that, and what they add to its bits a pixel, to z's, and to its distortion, float32 (4,).
        """
        rates, count, area = self.recipe.rates, self.batch_at(self.step).count, crops.shape[-1] ** 2
        picture = _unit(crops)
        with self.precision.autocast(self.device):
            passage: Passage = self.codec(picture, position, Noise(noise_y, noise_z))
        bpp = (passage.y_bits + passage.z_bits) / area
        error = distortion(rates.distortion, passage.picture, picture, rates.mixture)
        weight = multiplier(position, rates.base)
        loss = ((bpp + weight * error) * (self._centre_weight / weight) ** rates.balance).sum() / count
        loss.backward()
        others = (bpp, passage.z_bits / area, error)
        return torch.stack([loss.detach(), *(value.detach().sum() / count for value in others)])

    @property
    def _centre_weight(self) -> float:
        """Lambda where losses are not weighed: in the middle of the rates, or at the anchor."""
        rates, points = self.recipe.rates, self.recipe.shape.rate_points
        middle = (points - 1) * POSITIONS_PER_POINT // 2 if rates.anchor is None else rates.anchor
        return multiplier(torch.tensor(middle), rates.base).item()

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

    def _new_average(self) -> Average:
        return Average(self.codec.state_dict(), self.settings.average, head_start=9)

    def report(self) -> str:
        """Means over the steps accepted since the last report."""
        recent, self._recent = self._recent, []
        now, before = time.monotonic(), self._clock
        self._clock = now
        if not recent:
            return f"{self.step:7d}  no step accepted"
        mean = {key: float(np.mean([row[key] for row in recent])) for key in recent[0]}
        mean["seconds"] = round((now - before) / len(recent), 4)
        self.log.write("train", step=self.step, skipped=self.skipped, **mean)
        return f"{self.step:7d}  " + "  ".join(f"{k} {v:.4f}" for k, v in mean.items())

    def averaged(self) -> Codec:
        codec = self._design.codec(self.recipe.shape).to(self.device)
        codec.load_state_dict(self._average.weights)
        codec.set_fixed(self._fixed)
        return codec.eval()

    def validate(self) -> str:
        """Held-out pictures at some rates, with averaged weights."""
        top = self.recipe.shape.rate_points - 1
        positions = [round(top * part / 4) * POSITIONS_PER_POINT for part in range(5)]
        if self.recipe.rates.anchor is not None:
            positions = [self.recipe.rates.anchor]
        points = validate(self.averaged(), self._held_out, positions, self.processes)
        self.log.write("validate", step=self.step, points=[asdict(point) for point in points])
        return f"{self.step:7d}  held out  " + "  ".join(
            f"d{p.position} {p.bpp:.3f}/{p.psnr:.2f}" for p in points
        )

    def state(self) -> dict[str, Any]:
        state = {
            "model": self.codec.state_dict(),
            "average": self._average.weights,
            "optimiser": self.optimiser.state(),
            "step": self.step,
            "skipped": self.skipped,
            "running_loss": self._running_loss,
            "decay": self._decay,
        }
        result: dict[str, Any] = copied(state)
        return result

    def load(self, state: dict[str, Any]) -> None:
        state = copied(state)
        self.codec.load_state_dict(state["model"])
        for name, value in state["average"].items():
            self._average.weights[name].copy_(value)
        self.optimiser.load_state(state["optimiser"])
        self.step, self.skipped = state["step"], state["skipped"]
        self._running_loss, self._decay = state["running_loss"], state["decay"]

    def keep(self, folder: Path) -> None:
        """Write the averaged weights."""
        save_snapshot(folder / "snapshot.safetensors", self.recipe.shape, self._average.weights)


def _unit(batch: Tensor) -> Tensor:
    """uint8 crops to float32 in [0, 1], channels last."""
    return (batch.float() / 255).contiguous(memory_format=torch.channels_last)
