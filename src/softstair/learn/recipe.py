"""A recipe: every setting of a training run, one TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from softstair.errors import UsageError
from softstair.mode import Mode

from .distortion import MIXTURE, SMALLEST_SIDE
from .shape import CODED_IN, Shape


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where pictures come from: folders or tar packs, relative to the data root.

    saturated: share of the crops of ``pretrain`` whose colours are made stronger at random.
    graphics: pictures that no photographer took, graphics_share: share of the crops cut from them.
    """

    train: list[str]
    validation: list[str]
    graphics: list[str] = []
    graphics_share: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.04
    saturated: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trained rates: ``lambda(d) = base * 2**(2 d / 32)``, loss weight ``lambda**-balance``.

    distortion: what lambda multiplies (``softstair.learn.distortion``). mixture: shares of the parts
    of ``eye``.
    anchor: the rate position of the one rate point that is trained; by default all rates are, and
    every rate point is an anchor.
    """

    base: float = 0.0005
    balance: float = 0.45
    distortion: Literal["mse", "ms-ssim", "eye"] = "mse"
    mixture: tuple[float, float, float] = MIXTURE
    anchor: int | None = None


class Batches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Crops of a part of the run, from step ``start`` on."""

    start: int
    count: int
    side: int


class Pretrain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stage ``pretrain``. Learning rates warm up, stay, and fall to zero as a cosine.

    steps: after which the run ends; by default it goes on until it is stopped. decay_from: step from
    which learning rates fall, to zero at the last; by default never: a fork of the run does that.
    forks_at: step at which ``softstair build`` forks a run without an end for its `endings`.
    fixed_from: step from which the scale network is trained on its integer grids. at_once: crops of a
    forward pass, for a machine that cannot hold a batch, or its process's share, in one; gradients are
    those of the whole batch.
    """

    batches: list[Batches]
    steps: int | None = None
    decay_from: int | None = None
    forks_at: int | None = None
    fixed_from: int | None = None
    at_once: Annotated[int, msgspec.Meta(ge=1)] | None = None
    warm_up: int = 150
    muon_rate: float = 2e-3
    adam_rate: float = 1.5e-3
    clip: float = 1.0
    average: float = 0.998
    validate_every: int = 500
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        if self.decay_from is not None and (self.steps is None or self.steps <= self.decay_from):
            raise ValueError("pretrain.decay_from must lie before pretrain.steps, where rates are zero")


class Derive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stage ``derive``: staircases of rate points are learned, everything else is frozen.

    learned, z_learned: levels to either side of zero that have numbers of their own, of y and z.
    steps: of every rate point. crops, side: pictures that a run learns from; their latents are
    computed once. count: of them in a step. rate: of Adam, falling to zero as a cosine.
    """

    learned: int = 4
    z_learned: int = 2
    steps: int = 40
    crops: int = 48
    side: int = 256
    count: int = 4
    rate: float = 0.03
    average: float = 0.9
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        if self.count > self.crops:
            raise ValueError(f"derive.count {self.count} is more than derive.crops {self.crops}")


class Finetune(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stage ``finetune``: crops are coded in ``mode``; learning rates fall to zero as a cosine.

    parts: what is retrained. count, side: of the crops of a step. measured_crops: what the mode's
    tables are measured on. validate_every: steps after which held-out pictures are coded and, where
    parts decide symbols, the quantizer goes on with what was learned. patience: so many validations
    in a row without a gain end the stage. cut: share of the crops whose latents are means alone from some
    phase on, as in a file that ends early. across: what ``eye`` counts errors across the lines of the
    lattice by; it belongs to this stage, where the encoder cannot pay for it in bits.
    """

    mode: Mode = Mode.SCALAR
    parts: tuple[Literal["synthesis", "mean", "scale"], ...] = ("synthesis",)
    steps: int = 2000
    count: int = 8
    side: int = 256
    warm_up: int = 100
    muon_rate: float = 3e-4
    adam_rate: float = 3e-4
    average: float = 0.995
    checkpoint_every: int = 250
    measured_crops: int = 40
    validate_every: int = 250
    patience: int = 3
    cut: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    across: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Quantizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mode of the bundle; see ``softstair.quantize.staircase``.

    step: 1/32 octave wider than one over the gain. skip: table row below which nothing is coded.
    rate_weight: squared steps that a bit is worth to the encoder.
    """

    step: int = 0
    skip: int = 0
    rate_weight: float = 0.0


class Export(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a bundle is made: crops to measure tables on, its modes, the one that is taken by default, and
    how its encoders have pixels smoothed, by rate point, in grey levels, none if nothing is given; and the
    share of it that pictures full of grain get."""

    crops: int = 240
    mode: Mode = Mode.SCALAR
    modes: dict[Mode, Quantizer] = msgspec.field(default_factory=lambda: {mode: Quantizer() for mode in Mode})
    smoothing: list[int] = []
    smoothing_of_grain: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in self.modes:
            raise ValueError(f"modes must be some of {', '.join(Mode)} and hold {self.mode}")


class Evaluate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``softstair build`` measures: data sets below the data root, at all rate points and in the
    bundle's own mode unless others are named."""

    data_sets: list[str] = []
    positions: list[int] = []
    modes: list[str] = []


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bundle of a run without an end: a fork of the run, and what follows it.

    name, description: of the bundle. distortion: that the fork is trained for. steady: steps at the run's
    learning rates, falling: steps after them in which rates fall to zero. synthesis_inner: as of ``Shape``,
    what the blocks of the synthesis are narrowed to between the fork and ``finetune``. finetune: in place of
    the recipe's.
    """

    name: str
    description: str
    falling: Annotated[int, msgspec.Meta(ge=1)]
    steady: Annotated[int, msgspec.Meta(ge=0)] = 0
    distortion: Literal["mse", "ms-ssim", "eye"] = "mse"
    synthesis_inner: tuple[int, int, int] | None = None
    finetune: Finetune | None = None


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle's manifest says of the network: one line, licence, data and their licences."""

    description: str = ""
    licence: str = "unstated"
    data: str = "unstated"
    start: str = "principal components"


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of a run.

    stages: of those that can be left out, what ``softstair build`` runs: ``derive`` and ``finetune``
    before ``export``, ``context`` and ``preview`` after it. endings: what it makes of a run without an
    end. precision: what training computes in; ``auto`` measures what is faster when a run starts or
    goes on. A run that goes on is the same as an uninterrupted one only in the same precision.
    """

    name: str
    data: Data
    pretrain: Pretrain
    finetune: Finetune = Finetune()
    derive: Derive = Derive()
    about: About = About()
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    stages: tuple[Literal["derive", "finetune", "context", "preview"], ...] = ("finetune",)
    endings: tuple[Ending, ...] = ()
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    shape: Shape = Shape()
    rates: Rates = Rates()

    def __post_init__(self) -> None:
        if min(self.rates.mixture) < 0 or self.rates.mixture[2] == 0:
            raise ValueError(
                "rates.mixture must not be negative, and its last share, squared error, not zero"
            )
        if self.finetune.mode not in self.export.modes:
            raise ValueError(f"finetune.mode {self.finetune.mode} is none of export.modes")
        if len(self.export.smoothing) not in (0, points := self.shape.rate_points):
            raise ValueError(f"export.smoothing needs a threshold for each of the {points} rate points")
        sides = [self.finetune.side, self.derive.side, *(part.side for part in self.pretrain.batches)]
        if min(sides) < (smallest := SMALLEST_SIDE[self.rates.distortion]):
            raise ValueError(f"crops for {self.rates.distortion} need sides of {smallest} pixels or more")
        if self.endings and (self.pretrain.forks_at is None or self.pretrain.steps is not None):
            raise ValueError("endings need pretrain.forks_at, and a run without pretrain.steps")
        if self.rates.anchor is not None and self.rates.anchor not in self.shape.positions:
            raise ValueError(f"rates.anchor must be a rate point, one of {list(self.shape.positions)}")
        for name, unit in CODED_IN.items():
            if (width := getattr(self.shape, name)) % unit:
                raise ValueError(f"shape.{name} must be a multiple of {unit} to be coded, not {width}")


def ending_of(recipe: Recipe, ending: Ending) -> Recipe:
    """The recipe of an ending: of its fork and of all that follows."""
    replace = msgspec.structs.replace
    return replace(
        recipe,
        name=ending.name,
        about=replace(recipe.about, description=ending.description),
        rates=replace(recipe.rates, distortion=ending.distortion),
        finetune=ending.finetune or recipe.finetune,
        endings=(),
    )


def read_recipe(path: Path) -> Recipe:
    """Read and validate a recipe.

    Raises:
        UsageError: unreadable, not TOML, an unknown or missing setting, a value of another type.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Recipe)
    except OSError as error:
        raise UsageError(f"Recipe {path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise UsageError(f"Recipe {path} is not valid: {error}.") from error


def change_finetune(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other settings of the stage ``finetune``; those that are None stay.

    Raises:
        UsageError: a value that a recipe could not have.
    """
    settings = msgspec.to_builtins(recipe)
    settings["finetune"] |= {name: value for name, value in changes.items() if value is not None}
    try:
        return msgspec.convert(settings, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(f"The settings for finetune are not valid: {error}.") from error
