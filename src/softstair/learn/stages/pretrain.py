"""Stage ``pretrain``: end to end, one network over all rates.

Rate is priced with additive noise, everything else sees straight-through rounding (Minnen and
Singh, "Channel-wise autoregressive entropy models", ICIP 2020, section 3). The loss of a picture
at rate position d is ``(bpp + lambda(d) * distortion) * lambda(d)**-balance``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from ..noise import draw_noise, draw_spread
from ..optimiser import Optimiser
from ..precision import Choice, choose_precision
from ..principal import start_from_components
from ..processes import Processes, join
from ..recipe import Batches, Recipe
from ..schedule import rate_factor, with_decay
from ..validation import validate

_START_CROPS, _START_SIDE = 32, 256
_START_BATCH = 2**31 - 1  # as a step of the crops: one that no run reaches
_OUTLIER = 4.0  # a loss this many times the running mean is skipped
_PATIENCE = 5  # skipped steps in a row before going back
_LOG_EVERY = 50
_COMPILER = "inductor"
_VALUES = ("loss", "bpp", "z_bpp", "distortion")  # of a step, for the log


@dataclass(frozen=True)
class Fork:
    """Where a run comes from that ends what another run began.

    parent: folder of the other run, which stays as it is and may be going on. steps: in which the
    learning rates fall to zero.
    """

    parent: Path
    steps: int


def pretrain(
    recipe: Recipe,
    data_root: Path,
    run: Path,
    device: torch.device,
    *,
    snapshot: Path | None = None,
    fork: Fork | None = None,
    time_budget: float | None = None,
    say: Callable[[str], None] = lambda line: None,
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
        fork: another run whose newest checkpoint this one starts from; the schedule is then its
            ``steps``, not the recipe's. A run that has a checkpoint of its own goes on from that.
        time_budget: seconds after which to stop at the next checkpoint.
        say: receives a line of progress now and then.

    Raises:
        UsageError: bad recipe, data or checkpoint.
        TrainingDiverged: steps stayed non-finite after going back to the last good state.
    """
    with join(device) as processes:
        if not processes.leads:
            say = _say_nothing
        smallest = min(part.count for part in recipe.pretrain.batches)
        if smallest < processes.count:
            raise UsageError(f"A batch of {smallest} crops cannot be shared by {processes.count} processes.")
        checkpoint = run / "checkpoint.json"
        if processes.leads:
            run.mkdir(parents=True, exist_ok=True)
            if fork is not None and not checkpoint.exists():
                _fork_checkpoint(fork, checkpoint)
        processes.wait()
        state = load_checkpoint(checkpoint) if checkpoint.exists() else None
        if fork is not None and state is not None and state["decay"] is None:
            raise UsageError(
                f"{run} holds a run of its own, whose rates do not fall; name another folder for the fork of "
                f"{fork.parent}."
            )
        processes.wait()  # the first must not replace what another is reading
        if state is not None and state["decay"] is not None:
            recipe = with_decay(recipe, *state["decay"])
        precision = choose_precision(recipe, processes)
        log = Log(run / "log.jsonl" if processes.leads else None)
        trainer = _Trainer(recipe, processes, log, precision)
        if state is not None:
            trainer.load(state)
        if trainer.is_done:
            say(f"{run} has taken all its {trainer.step} steps; raise pretrain.steps to go on.")
        else:
            _train(trainer, data_root, run, snapshot, time_budget, say)
        return trainer.averaged()


def _train(
    trainer: _Trainer,
    data_root: Path,
    run: Path,
    snapshot: Path | None,
    time_budget: float | None,
    say: Callable[[str], None],
) -> None:
    recipe, settings, processes = trainer.recipe, trainer.settings, trainer.processes
    held_out = load_pictures([data_root / name for name in recipe.data.validation])
    data = recipe.data
    crops = training_crops(
        data, data_root, recipe.seed, _START_SIDE, saturated=data.saturated, device=processes.device
    )
    trainer.log.open_run(recipe, processes.device, processes.count)
    trainer.log.write("precision", **asdict(trainer.precision))
    if trainer.step:
        trainer.log.write("resume", step=trainer.step)
    else:
        trainer.start(snapshot, crops)

    def keep() -> None:
        if processes.leads:
            save_checkpoint(run / "checkpoint.json", trainer.state())
            save_snapshot(run / "snapshot.safetensors", recipe.shape, trainer.average)

    def load(step: int) -> Tensor:
        part = trainer.batch_at(step)
        cuts = crops.cuts(step, part.count, part.side)
        return crops.gather([cuts[index] for index in processes.share(part.count)], part.side)

    deadline = math.inf if time_budget is None else time.monotonic() + time_budget
    with ThreadPoolExecutor(1) as loader:
        upcoming = loader.submit(load, trainer.step)
        while not trainer.is_done:
            batch = upcoming.result()
            upcoming = loader.submit(load, trainer.step + 1)
            trainer.advance(batch)
            if trainer.step % _LOG_EVERY == 0 or trainer.is_done:
                say(trainer.report())
            if trainer.step % settings.validate_every == 0:
                say(trainer.validate(held_out))
            if trainer.step % settings.checkpoint_every == 0:
                keep()
                if processes.agree(time.monotonic() > deadline):
                    break
        upcoming.cancel()
    keep()


def _fork_checkpoint(fork: Fork, checkpoint: Path) -> None:
    """Write a run's first checkpoint: its parent's newest, and that the rates fall from there."""
    source = fork.parent / checkpoint.name
    if not source.exists():
        raise UsageError(f"{fork.parent} has no checkpoint to fork from.")
    state = load_checkpoint(source)
    state["decay"] = [state["step"], state["step"] + fork.steps]
    save_checkpoint(checkpoint, state)


class _Trainer:
    """The state of a run and its one step."""

    def __init__(self, recipe: Recipe, processes: Processes, log: Log, precision: Choice) -> None:
        self.recipe, self.settings = recipe, recipe.pretrain
        self.processes, self.log, self.precision = processes, log, precision
        self.device = processes.device
        # Layers that are kept in float32 need its bits; TensorFloat32 has ten, bfloat16 has seven.
        torch.backends.cudnn.allow_tf32 = False
        model = Codec(recipe.shape).to(self.device)
        self.codec: Codec = model.to(memory_format=torch.channels_last)
        if self.settings.encoder_frozen:
            for part in (self.codec.analysis, self.codec.hyper_analysis, self.codec.gains):
                part.requires_grad_(False)
        self._pass: Callable[..., Passage] = self.codec
        if self.settings.compile:  # a version a size of batch: there are few
            self._pass = torch.compile(self.codec, dynamic=False, backend=_COMPILER)
        self.optimiser = Optimiser(
            self.codec, self.settings.muon_rate, self.settings.adam_rate, precision.dtype
        )
        self.average = {k: v.clone() for k, v in self.codec.state_dict().items()}
        self.step = 0
        self.skipped = 0
        self._decay: list[int] | None = None  # first and last step of a fork's falling rates
        self._skipped_in_a_row = 0
        self._running_loss = math.nan
        self._recent: list[dict[str, float]] = []
        self._good: dict[str, Any] | None = None
        self._clock = time.monotonic()

    @property
    def is_done(self) -> bool:
        return self.settings.steps is not None and self.step >= self.settings.steps

    def start(self, snapshot: Path | None, crops: Crops) -> None:
        """Begin with a snapshot's weights, or with principal components of crops."""
        torch.manual_seed(self.recipe.seed)
        codec = Codec(self.recipe.shape)
        if snapshot is None:
            batch = torch.from_numpy(crops.batch(_START_BATCH, _START_CROPS, _START_SIDE))
            start_from_components(codec, _unit(batch), self.recipe.rates.base)
        else:
            load_snapshot(snapshot, codec)
        self.codec.load_state_dict(codec.state_dict())
        self.processes.follow_first(list(self.codec.state_dict().values()))
        self.average = {k: v.clone() for k, v in self.codec.state_dict().items()}

    def batch_at(self, step: int) -> Batches:
        return max((b for b in self.settings.batches if b.start <= step), key=lambda b: b.start)

    def advance(self, batch: Tensor) -> None:
        """Take a step on this process's crops of it, uint8 (B, 3, side, side), and all others'."""
        if self.step % self.settings.checkpoint_every == 0:
            self._good = self.state()
        self.codec.set_fixed(self._fixed)
        values = self._descend(batch)
        loss = values["loss"]
        accepted = self._plausible(loss)
        if accepted:
            norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), self.settings.clip)
            accepted = bool(torch.isfinite(norm))
        if accepted:
            self.optimiser.step(rate_factor(self.settings, self.step))
            self._update_average()
            self._recent.append({**values, "norm": norm.item()})
            self._skipped_in_a_row = 0
        else:
            self._skip(loss)
        self.step += 1

    @property
    def _fixed(self) -> bool:
        return self.settings.fixed_from is not None and self.step >= self.settings.fixed_from

    @property
    def _rounds(self) -> bool:
        return self.settings.rounds_from is not None and self.step >= self.settings.rounds_from

    def _descend(self, batch: Tensor) -> dict[str, float]:
        """Compute gradients of the whole batch's loss; what the log says of it, means over crops.

        A process goes through its crops ``at_once`` at a time. Sums over passes and processes come
        before any decision, so that all processes decide alike.
        """
        share = self.processes.share(self.batch_at(self.step).count)
        size = self.settings.at_once or len(share)
        self.codec.zero_grad(set_to_none=True)
        values = torch.zeros(len(_VALUES), device=self.device)
        for first in range(0, len(share), size):
            piece = slice(first, first + size)
            loss, others = self._loss(_unit(batch[piece]), share[piece])
            loss.backward()
            values += torch.stack([loss.detach(), *others])
        gradients = [p.grad for p in self.codec.parameters() if p.grad is not None]
        self.processes.add([*gradients, values])
        return dict(zip(_VALUES, values.tolist(), strict=True))

    def _loss(self, picture: Tensor, crops: range) -> tuple[Tensor, list[Tensor]]:
        """What some crops of a step add to its loss, and to its bits a pixel, z's, and distortion.

        Args:
            picture: (B, 3, side, side) in [0, 1].
            crops: their indices in the whole batch.
        """
        rates, seed, shape = self.recipe.rates, self.recipe.seed, self.recipe.shape
        count, side = self.batch_at(self.step).count, picture.shape[-1]
        spread = draw_spread(seed, self.step, count)[list(crops)]
        position = draw_positions(spread, shape.rate_points, rates.anchor).to(self.device)
        noise = None if self._rounds else draw_noise(shape, seed, self.step, crops, side, self.device)
        with self.precision.autocast(self.device):
            passage = self._pass(picture, position, noise)
        bpp = (passage.y_bits + passage.z_bits) / side**2
        error = distortion(rates.distortion, passage.picture, picture, rates.mixture)
        weight = multiplier(position, rates.base)
        middle = (shape.rate_points - 1) * POSITIONS_PER_POINT // 2
        centre = torch.tensor([middle if rates.anchor is None else rates.anchor])
        scale = (multiplier(centre, rates.base).item() / weight) ** rates.balance
        loss = ((bpp + weight * error) * scale).sum() / count
        others = (bpp, passage.z_bits / side**2, error)
        return loss, [value.detach().sum() / count for value in others]

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
        mean["seconds"] = round((now - before) / len(recent), 4)
        self.log.write("train", step=self.step, skipped=self.skipped, **mean)
        return f"{self.step:7d}  " + "  ".join(f"{k} {v:.4f}" for k, v in mean.items())

    def averaged(self) -> Codec:
        codec = Codec(self.recipe.shape).to(self.device)
        codec.load_state_dict(self.average)
        codec.set_fixed(self._fixed)
        return codec.eval()

    def validate(self, pictures: list[Pixels]) -> str:
        top = self.recipe.shape.rate_points - 1
        positions = [round(top * part / 4) * POSITIONS_PER_POINT for part in range(5)]
        if self.recipe.rates.anchor is not None:
            positions = [self.recipe.rates.anchor]
        points = validate(self.averaged(), pictures, positions, self.processes)
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
            "decay": self._decay,
        }
        copied: dict[str, Any] = _copy(state)
        return copied

    def load(self, state: dict[str, Any]) -> None:
        state = _copy(state)
        self.codec.load_state_dict(state["model"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimiser.load_state(state["optimiser"])
        self.step, self.skipped = state["step"], state["skipped"]
        self._running_loss, self._decay = state["running_loss"], state["decay"]


def _unit(batch: Tensor) -> Tensor:
    """uint8 crops to float32 in [0, 1], channels last."""
    return (batch.float() / 255).contiguous(memory_format=torch.channels_last)


def _say_nothing(line: str) -> None:
    """What a process says that does not lead."""


def _copy(value: Any) -> Any:
    """A deep copy of nested containers of tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
