"""Stage ``adapt``: a pack for a folder of pictures, learned from a bundle as it is shipped.

Tables are measured in any case, and context networks learned anew where that pays. What learns beside them
makes a small file: integer biases and gains, and signs of changes to some of the weights of decoder and
encoder, into which they are merged. A part of the pictures is held back: it says when to stop, and whether
the pack is worth having at all.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from softstair.bundle import Bundle, merged, pack_entries, to_json, write_pack
from softstair.bundle.pack import Pack
from softstair.codec import DEFAULT_QUALITY, encode_picture, position_of_quality
from softstair.codec.decoder import decode_picture
from softstair.codec.encoder import Rate
from softstair.errors import UsageError
from softstair.evaluate.curves import delta_rate
from softstair.mode import Mode
from softstair.pictures import Picture
from softstair.whole_file import write_whole

from ..checkpoint import load_checkpoint, save_checkpoint
from ..data import Crops, Pixels
from ..distortion import distortion
from ..export.imported import import_bundle
from ..integer.domain import measure_tables
from ..log import commit
from ..own import own_pictures
from ..precision import Precision, faster_precision
from ..run import Say, say_nothing
from ..shape import Shape
from .adapting import CROPS, PARTS, SEED, VALIDATE_EVERY, Adapted, Learning, Part, planes, squares_of
from .coded import CodedCrops, code_crops
from .context import Effort, learn_context_anew

_TOGETHER, _SIGNS = 0.5, 0.25  # shares of the minutes that the first stages have
_HELD_BACK = 5  # every so many pictures one
_CODED_AS_FILES = 12  # of those that are held back, at most
_MEASURED, _MEASURED_SIDE = 24, 256  # crops for tables
_CODED, _CODED_A_MINUTE, _CODED_SIDE = 400, 20, 192  # crops of the second stage
_MEASURING = 2**31  # as a step of the crops: one that no run reaches
_CODING = _MEASURING + 1
_OF_CONTEXT = Effort(crops=700, place_steps=1000, sign_steps=800, hyper_steps=1000)
_Tensors = Mapping[str, npt.NDArray[Any]]
_JUDGED = (15, 35, 55, DEFAULT_QUALITY)  # qualities


@dataclass(frozen=True)
class Adaptation:
    """What an adaptation is to do. minutes: of training, validation included. parts: what learns. data: what
    the pictures are, in words."""

    name: str
    licence: str
    minutes: float
    parts: tuple[Part, ...] = PARTS
    data: str = ""


@dataclass(frozen=True)
class Gain:
    """What a pack gains on pictures that were held back.

    bits: per cent of bits at equal distortion, negative where it saves; None if curves do not compare.
    base, packed: bytes of all files at the default quality.
    """

    bits: float | None
    base: int
    packed: int

    @property
    def order(self) -> float:
        """Least is best."""
        return math.inf if self.bits is None else self.bits


def adapt(
    bundle: Bundle, folder: Path, output: Path, settings: Adaptation, *, say: Say = say_nothing
) -> Gain:
    """Write a pack for the pictures of a folder; what was interrupted goes on beside ``output``.

    Raises:
        UsageError: too few pictures, or the pack gains nothing on those held back; none is written then.
    """
    pictures = own_pictures(folder, say)
    learning, held_back = split(pictures)
    run = output.with_name(output.name + ".run")
    adapters, integers, steps = trained(bundle, learning, held_back, run, settings, say)
    provenance = {
        "commit": commit(),
        "data": settings.data,
        "pictures": len(pictures),
        "steps": steps,
        "minutes": settings.minutes,
        "parts": list(settings.parts),
    }
    say("measuring tables")
    files = HeldBack(bundle, held_back[:: -(-len(held_back) // _CODED_AS_FILES)], say)
    pack = with_tables(bundle, adapters, integers, learning, settings, provenance)
    if adapters or integers:
        # What is learned of few pictures may not hold on others; how symbols are coded nearly always does.
        provenance |= {"steps": 0, "parts": []}
        untouched = with_tables(bundle, {}, {}, learning, settings, provenance)
        if files.gain(untouched).order <= files.gain(pack).order:
            say("the transforms stay as they are, which serves the pictures held back better")
            pack = untouched
    pack = with_context(bundle, pack, learning, held_back, say)
    gain = files.gain(pack)
    if gain.bits is None or gain.bits >= 0:
        raise UsageError(
            f"The pack was not written: on the {len(files.pictures)} pictures held back it gains nothing "
            f"({_spoken(gain.bits)}); give it more minutes, what was learned is in {run}, or more pictures."
        )
    figures = {
        "held_back": {"pictures": len(files.pictures), "bits": gain.bits, "bytes": [gain.base, gain.packed]}
    }
    manifest = msgspec.structs.replace(pack.manifest, figures=figures)
    write_pack(output, {**pack.entries, "pack.json": to_json(manifest)})
    shutil.rmtree(run, ignore_errors=True)
    return gain


def split(pictures: Sequence[Pixels]) -> tuple[list[Pixels], list[Pixels]]:
    """Those that are learned from and those that are held back.

    Raises:
        UsageError: there are too few.
    """
    if len(pictures) < _HELD_BACK:
        raise UsageError(
            f"There are {len(pictures)} pictures to adapt to; {_HELD_BACK} are the fewest, and 25 do well."
        )
    held_back = list(pictures[_HELD_BACK - 1 :: _HELD_BACK])
    return [one for index, one in enumerate(pictures) if index % _HELD_BACK != _HELD_BACK - 1], held_back


def with_tables(
    bundle: Bundle,
    adapters: _Tensors,
    integers: _Tensors,
    pictures: Sequence[Pixels],
    settings: Adaptation,
    provenance: dict[str, Any],
) -> Pack:
    """A pack whose tables are measured for all the rest of it."""

    def pack(tables: _Tensors) -> Pack:
        return Pack(_entries(bundle, adapters, integers, tables, settings, provenance), settings.name)

    crops = Crops(list(pictures), SEED).batch(_MEASURING, _MEASURED, _MEASURED_SIDE)
    cut = [np.ascontiguousarray(crop.transpose(1, 2, 0)) for crop in crops]
    return pack(measure_tables(merged(bundle, pack({})), cut, _mode(bundle)))


def with_context(
    bundle: Bundle, pack: Pack, pictures: Sequence[Pixels], held_back: Sequence[Pixels], say: Say
) -> Pack:
    """The pack with context networks learned anew for it; as it is if those do not serve it better."""
    anew = learn_context_anew(merged(bundle, pack), pictures, held_back, SEED, _OF_CONTEXT, say=say)
    if anew is None:
        return pack
    context, tables = anew
    own = pack.manifest
    entries = pack_entries(
        bundle,
        pack.adapters,
        pack.integers,
        {**pack.tables, **tables},
        context,
        name=own.name,
        licence=own.licence,
        description=own.description,
        provenance=own.provenance,
        figures=own.figures,
    )
    return Pack(entries, pack.origin)


def _entries(
    bundle: Bundle,
    adapters: _Tensors,
    integers: _Tensors,
    tables: _Tensors,
    settings: Adaptation,
    provenance: dict[str, Any],
) -> dict[str, bytes]:
    return pack_entries(
        bundle,
        adapters,
        integers,
        tables,
        name=settings.name,
        licence=settings.licence,
        description=f"Adapts {bundle.name} to pictures like those it was made of.",
        provenance=provenance,
        figures={},
    )


def _mode(bundle: Bundle) -> Mode:
    return Mode(bundle.manifest.encoding.mode)


def _coded_squares(bundle: Bundle, pictures: Sequence[Pixels], positions: Sequence[int]) -> list[CodedCrops]:
    """What training is validated on, each by itself, at some rate positions."""
    squares = [np.ascontiguousarray(one.transpose(2, 0, 1)[None]) for one in squares_of(pictures)]
    mode = _mode(bundle)
    return [code_crops(bundle, one, np.array([at]), mode, 1) for one in squares for at in positions]


def trained(
    bundle: Bundle,
    learning: list[Pixels],
    held_back: list[Pixels],
    run: Path,
    settings: Adaptation,
    say: Say,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]], int]:
    """Adapters and integers as a pack has them, and after how many steps they were best."""
    if not settings.parts or settings.minutes <= 0:
        return {}, {}, 0
    start = time.monotonic()
    across = bundle.manifest.provenance["recipe"].get("finetune", {}).get("across", 0.0)
    run.mkdir(parents=True, exist_ok=True)
    imported = import_bundle(bundle)
    precision = _precision(run / "precision.json", imported.codec.shape)
    adapted = Adapted(imported, settings.parts, across, precision)
    seconds = 60 * settings.minutes
    first = adapted.together(learning, held_back, _TOGETHER * seconds)
    _train(first, run / "together.json", say)
    steps = first.best_step
    if adapted.learned.kinds["weight"] and "full" not in settings.parts:
        adapted.keep_signs()
        signs = adapted.together(learning, held_back, _SIGNS * seconds, SEED + 1)
        _train(signs, run / "signs.json", say)
        steps += signs.best_step
    if {"decoder", "full"} & set(settings.parts):
        found = Pack(_entries(bundle, *adapted.found(bundle), {}, settings, {}), settings.name)
        changed = merged(bundle, found)
        count = min(_CODED, max(CROPS, round(_CODED_A_MINUTE * settings.minutes)))
        crops = Crops(learning, SEED).batch(_CODING, count, _CODED_SIDE)
        coded = code_crops(changed, crops, adapted.positions(len(crops)), _mode(bundle), 1)
        beside = _coded_squares(changed, held_back, adapted.validated)
        say(f"{len(coded)} crops coded")
        least = (1 - _TOGETHER - _SIGNS) / 2 * seconds
        left = max(least, seconds - (time.monotonic() - start))
        last = adapted.synthesis_alone(coded, beside, left)
        _train(last, run / "synthesis.json", say)
        steps += last.best_step
    return *adapted.found(bundle), steps


def _precision(path: Path, shape: Shape) -> Precision:
    """What is faster here, as it was found when training began."""
    if not path.exists():
        write_whole(path, msgspec.json.encode(faster_precision(shape)))
    found: Precision = msgspec.json.decode(path.read_bytes(), type=Precision)
    return found


def _train(learning: Learning, checkpoint: Path, say: Say) -> None:
    """Train, or go on; the parameters are the best in the end."""
    if checkpoint.exists():
        learning.load(load_checkpoint(checkpoint))
        say(f"going on after {learning.step} steps")
    if learning.step == 0:
        say(learning.validate())
    while not learning.is_done:
        learning.advance()
        if learning.step % VALIDATE_EVERY == 0 or learning.is_done:
            say(learning.validate())
            save_checkpoint(checkpoint, learning.state())
    learning.set(learning.best)


@dataclass(frozen=True)
class HeldBack:
    """Real files of pictures that were held back, with the base and with packs of it."""

    base: Bundle
    pictures: Sequence[Pixels]
    say: Say

    def gain(self, pack: Pack) -> Gain:
        """Of a pack against the base, at four qualities, the last the default."""
        curve = _curve(self.base, merged(self.base, pack), self.pictures)
        self.say(f"files held back: {self._own} before, {curve} with it")
        return _gain(self._own, curve)

    @cached_property
    def _own(self) -> list[tuple[float, float | None]]:
        return _curve(self.base, self.base, self.pictures)


def _curve(base: Bundle, bundle: Bundle, pictures: Sequence[Pixels]) -> list[tuple[float, float | None]]:
    """Bytes, and distortion in dB as the base was trained for."""
    recipe = base.manifest.provenance["recipe"]["rates"]
    kind, mixture = recipe["distortion"], tuple(recipe.get("mixture", (0.4, 0.4, 0.2)))
    points: list[tuple[float, float | None]] = []
    for quality in _JUDGED:
        position = position_of_quality(quality, base.last_position)
        size = error = 0.0
        for pixels in pictures:
            data = encode_picture(Picture(pixels), Rate(position=position), bundle, threads=1).data
            decoded = decode_picture(data, bundle, threads=1).pixels
            size += len(data)
            error += distortion(kind, planes(decoded), planes(pixels), mixture).item() * pixels.size
        points.append((size, -10 * math.log10(error) if error else None))
    return points


def _gain(base: list[tuple[float, float | None]], changed: list[tuple[float, float | None]]) -> Gain:
    try:
        bits: float | None = delta_rate(base, changed).pchip
    except UsageError:
        bits = None
    return Gain(bits, int(base[-1][0]), int(changed[-1][0]))


def _spoken(bits: float | None) -> str:
    return "the curves do not compare" if bits is None else f"{bits:+.1f} % of bits"
