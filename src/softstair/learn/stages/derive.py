"""Stage ``derive``: further rates from a frozen network, by learning its staircases alone.

STanH (arXiv 2410.00557, IEEE TIP 2025): a network is trained at few rates, the anchors, and others
are derived by refining the few numbers of its quantizers. Every rate point wanted starts from the
nearest one that has staircases, so that derivations chain outward; the first starts from rounding.
The loss is that of ``pretrain`` at the rate point, ``bpp + lambda(d) * distortion``, through the
frozen synthesis, with the bits of tables measured on the levels of the last steps, as files have them.
Baselines are the same stage with less to learn (``staircases.Derivation.kind``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from softstair.errors import UsageError

from ..checkpoint import hash_file, load_codec
from ..codec import Codec
from ..data import Crops, load_pictures
from ..distortion import PEAK, distortion
from ..integer.measure import latents_of
from ..layers.rates import multiplier
from ..precision import Choice, choose_precision
from ..processes import Processes
from ..recipe import Recipe
from ..run import Average, Run, Say, copied, say_nothing
from ..schedule import falling
from ..staircases import Derivation, Kind, write_derivation
from .rate_point import RatePoint, code, no_counts, prices

_HELD_OUT, _MEASURED = 12, 24  # crops
_KEPT = 0.9  # of the counts of levels that prices come from, a step
_CPU = torch.device("cpu")


def derive(
    recipe: Recipe,
    snapshot: Path,
    data_root: Path,
    run: Path,
    *,
    kind: Kind = "stanh",
    positions: Collection[int] = (),
    time_budget: float | None = None,
    say: Say = say_nothing,
) -> Derivation:
    """Learn staircases of rate points in the folder ``run``, or go on.

    Args:
        recipe: all settings.
        snapshot: the network; it stays as it is.
        data_root: folder that the recipe's data paths are relative to.
        run: folder of the log, the checkpoint and ``staircases.json``; made if missing. Rate points
            that it has already are kept, and others start from them.
        kind: what is learned.
        positions: rate positions of the rate points that are wanted; by default all.
        time_budget: seconds after which to stop at the next checkpoint.
        say: receives a line for every rate point.

    Raises:
        UsageError: bad recipe, data, snapshot, checkpoint or position.
    """
    wanted = sorted(positions or recipe.shape.positions)
    if set(wanted) - set(recipe.shape.positions):
        raise UsageError(
            f"--rate must be a rate point of the recipe: {', '.join(map(str, recipe.shape.positions))}."
        )
    folder = Run(run, Processes(_CPU), time_budget, say)
    codec, origin = load_codec(recipe, snapshot), hash_file(snapshot)
    precision = choose_precision(recipe, folder.processes)
    folder.begin(recipe, precision)
    stage = Deriving(recipe, codec, kind, origin, wanted, folder, precision)
    stage.learn_from(data_root)
    if (state := folder.saved()) is not None:
        stage.load(state)
        folder.log.write("resume", position=stage.position, step=stage.step)
    folder.go(stage, recipe.derive.checkpoint_every)
    return stage.derivation()


def next_position(wanted: Collection[int], done: Collection[int], start: int) -> tuple[int, int | None]:
    """The wanted position nearest to those that are done, and which of them that is, if any."""
    sources = done or (start,)
    pairs = [(abs(one - source), one, source) for one in wanted if one not in done for source in sources]
    _, position, source = min(pairs)
    return position, source if done else None


class Deriving:
    """The rate points done, the one in work, and the latents of the pictures that they learn from."""

    def __init__(
        self,
        recipe: Recipe,
        codec: Codec,
        kind: Kind,
        origin: str,
        wanted: Collection[int],
        run: Run,
        precision: Choice,
    ) -> None:
        self._recipe, self._kind, self._origin, self._precision = recipe, kind, origin, precision
        self._wanted, self._run = wanted, run
        self._codec = codec.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._done: dict[int, dict[str, Tensor]] = {}
        self._turn_to(recipe.shape.positions[len(recipe.shape.positions) // 2], None)

    def learn_from(self, data_root: Path) -> None:
        """Analyse crops of the recipe's pictures. Whatever the staircases, that gives the same latents."""
        settings, data, seed = self._recipe.derive, self._recipe.data, self._recipe.seed
        train = load_pictures([data_root / name for name in data.train])
        held_out = load_pictures([data_root / name for name in data.validation])
        self._pool = self._analyse(Crops(train, seed + 2).batch(0, settings.crops, settings.side))
        self._held_out = self._analyse(Crops(held_out, seed).batch(0, _HELD_OUT, settings.side))

    def _analyse(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, H, W) in [0, 1] and their latents (N, C, h, w)."""
        latents = torch.cat([latents_of(self._codec, crop) for crop in pixels])
        return torch.from_numpy(pixels).float() / 255, latents

    @property
    def is_done(self) -> bool:
        """Whether all rate points that are wanted have their staircases."""
        return set(self._wanted) <= set(self._done)

    def advance(self) -> None:
        """Take a step of the rate point in work, or finish it and turn to the next."""
        if self.step == 0 or self.position in self._done:
            anchor = self._recipe.rates.anchor
            middle = self._recipe.shape.positions[self._recipe.shape.rate_points // 2]
            self._turn_to(*next_position(self._wanted, self._done, middle if anchor is None else anchor))
        if not self._is_learned:
            self._learn()
        if self._is_learned:
            self._finish()

    def _turn_to(self, position: int, source: int | None) -> None:
        self.position, self.step = position, 0
        self._point = RatePoint(self._kind, self._recipe.derive)
        if source is not None:
            self._point.load_state_dict(self._done[source])
        self._average = Average(self._point.state_dict(), self._recipe.derive.average)
        self._counts = no_counts()
        groups = [{"params": [one], "share": self._point.share_of(one)} for one in self._point.learned]
        self._optimiser = torch.optim.Adam(groups, self._recipe.derive.rate) if groups else None
        self._began = time.monotonic()

    @property
    def _is_learned(self) -> bool:
        return self._optimiser is None or self.step >= self._recipe.derive.steps

    def _learn(self) -> None:
        """One step on crops that depend on the step and the position alone."""
        settings = self._recipe.derive
        rng = np.random.default_rng((self._recipe.seed, self.position, self.step))
        chosen = torch.from_numpy(rng.choice(settings.crops, settings.count, replace=False))
        pictures, latents = (part[chosen] for part in self._pool)
        self._point.learn()
        table = prices(self._counts) if self._counts.any() else None
        with self._precision.autocast(_CPU, cache_enabled=False):
            coded = code(self._codec, self.position, self._point, latents, table)
        self._counts = (_KEPT * self._counts).astype(np.int64) + coded.counts
        assert self._optimiser is not None  # there is something to learn
        self._optimiser.zero_grad()
        rate = settings.rate * falling(self.step / settings.steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self._cost(coded.bits, coded.picture, pictures).mean().backward()
        self._optimiser.step()
        self.step += 1
        self._average.follow(self._point.state_dict(), self.step)

    def _cost(self, bits: Tensor, decoded: Tensor, pictures: Tensor) -> Tensor:
        rates = self._recipe.rates
        error = distortion(rates.distortion, decoded.float(), pictures, rates.mixture)
        return _bpp(bits, pictures) + multiplier(torch.tensor([self.position]), rates.base) * error

    def _finish(self) -> None:
        """Keep the averaged staircases, or what they started from if held-out pictures cost less so."""
        plain = RatePoint(self._kind, self._recipe.derive)
        learned = RatePoint(self._kind, self._recipe.derive)
        learned.load_state_dict(self._average.weights)
        learned.settle()
        if self._kind == "stanh":
            learned = self._with_or_without_z(learned)
        before, after = (self._measure(one, *self._held_out) for one in (plain, learned))
        kept = learned if after[0] <= before[0] else plain
        self._done[self.position] = copied(kept.state_dict())
        point, seconds = kept.harden(), time.monotonic() - self._began
        names = ("cost", "bpp", "psnr")
        figures = {
            "position": self.position,
            "rounding": dict(zip(names, before, strict=True)),
            "learned": dict(zip(names, after, strict=True)),
            "staircases": msgspec.to_builtins(learned.harden()),
            "kept": kept is learned,
            "bytes": point.size,
            "seconds": round(seconds, 1),
        }
        change = 100 * (after[0] / before[0] - 1)
        self._run.log.write("derive", **figures)
        self._run.say(
            f"d{self.position:<4d} rounding {before[1]:.4f}/{before[2]:.3f}  "
            f"{self._kind} {after[1]:.4f}/{after[2]:.3f}  cost {change:+.2f} %  "
            f"{point.size} bytes  {seconds:.0f} s{'' if kept is learned else '  not kept'}"
        )
        self._run.keep(self)

    def _with_or_without_z(self, learned: RatePoint) -> RatePoint:
        """The rate point with z's thresholds as learned or as they were, whichever codes crops better.

        Gradients promise too much there: some channels hardly vary and lie next to a threshold, and
        when they cross it all at once, the scale network is told what it was never trained with.
        """
        rounding = RatePoint(self._kind, self._recipe.derive)
        rounding.load_state_dict(learned.state_dict() | {"z.place": rounding.z.place.detach()})
        pool = [part[:_MEASURED] for part in self._pool]
        return min((learned, rounding), key=lambda point: self._measure(point, *pool)[0])

    @torch.no_grad()
    def _measure(self, point: RatePoint, pictures: Tensor, y: Tensor) -> tuple[float, float, float]:
        """Cost, bits a pixel and PSNR of crops, by tables measured on crops to learn from."""
        rows = []
        point.eval()
        counts = no_counts()
        for latents in self._pool[1][:_MEASURED]:
            counts += code(self._codec, self.position, point, latents[None], None).counts
        table = prices(counts)
        for picture, latents in zip(pictures, y, strict=True):
            coded = code(self._codec, self.position, point, latents[None], table)
            bits, decoded = coded.bits, (coded.picture.clamp(0, 1) * 255).round() / 255
            cost = self._cost(bits, decoded, picture[None])
            psnr = 10 * math.log10(PEAK**2 / distortion("mse", decoded, picture[None]).item())
            rows.append((cost.item(), _bpp(bits, picture[None]).item(), psnr))
        cost, bpp, psnr = np.mean(rows, axis=0).tolist()
        return cost, bpp, psnr

    def derivation(self) -> Derivation:
        """All rate points done."""
        points = {}
        for position, state in sorted(self._done.items()):
            point = RatePoint(self._kind, self._recipe.derive)
            point.load_state_dict(state)
            points[position] = point.harden()
        return Derivation(1, self._kind, self._origin, points)

    def state(self) -> dict[str, Any]:
        return {
            "kind": self._kind,
            "snapshot": self._origin,
            "done": self._done,
            "position": self.position,
            "step": self.step,
            "point": self._point.state_dict(),
            "average": self._average.weights,
            "counts": torch.from_numpy(self._counts),
            "optimiser": None if self._optimiser is None else self._optimiser.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        if (state["kind"], state["snapshot"]) != (self._kind, self._origin):
            raise UsageError(
                "The checkpoint in this folder is of another kind or snapshot; choose another folder."
            )
        self._done = state["done"]
        self._turn_to(state["position"], None)
        self._point.load_state_dict(state["point"])
        self._average.weights, self.step = state["average"], state["step"]
        self._counts = state["counts"].numpy()
        if self._optimiser is not None:
            self._optimiser.load_state_dict(state["optimiser"])

    def keep(self, folder: Path) -> None:
        """Write the staircases of all rate points done."""
        if self._done:
            write_derivation(folder / "staircases.json", self.derivation())


def _bpp(bits: Tensor, pictures: Tensor) -> Tensor:
    return bits / (pictures.shape[-1] * pictures.shape[-2])
