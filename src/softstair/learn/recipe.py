"""A recipe: every setting of a training run, one TOML file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from softstair.bundle import Encoding
from softstair.errors import UsageError

from .shape import Shape


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where pictures come from: folders or tar packs, relative to the data root."""

    train: list[str]
    validation: list[str]


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trained rates: ``lambda(d) = base * 2**(2 d / 32)``, loss weight ``lambda**-balance``."""

    base: float = 0.0005
    balance: float = 0.45


class Batches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Crops of a part of the run, from step ``start`` on."""

    start: int
    count: int
    side: int


class Pretrain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stage ``pretrain``. Learning rates warm up, stay, and fall to zero as a cosine."""

    steps: int
    decay_from: int
    fixed_from: int
    batches: list[Batches]
    warm_up: int = 150
    muon_rate: float = 2e-3
    adam_rate: float = 1.5e-3
    clip: float = 1.0
    average: float = 0.998
    validate_every: int = 500
    checkpoint_every: int = 250


class Export(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a bundle is made: training crops to measure tables on, and the encoder's dead zone."""

    crops: int = 240
    encoding: Encoding = Encoding()


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle's manifest says of the network: one line, licence, data and their licences."""

    description: str = ""
    licence: str = "unstated"
    data: str = "unstated"
    start: str = "principal components"


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of a run."""

    name: str
    data: Data
    pretrain: Pretrain
    about: About = About()
    export: Export = Export()
    seed: int = 0
    shape: Shape = Shape()
    rates: Rates = Rates()


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
