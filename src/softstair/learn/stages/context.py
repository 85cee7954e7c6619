"""The stage ``context``: a bundle gets context networks, trained on symbols that its own search chose.

Everything else of the bundle stays, so that pixels do: symbols take fewer bits. Minutes on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from softstair import _core
from softstair.bundle import CONTEXT, Bundle, read_bundle, to_json, write_bundle
from softstair.codec.tile import Begun, TileCoder
from softstair.engine import Engine, Networks, load_networks
from softstair.errors import InvalidBundle, UsageError
from softstair.mode import Mode
from softstair.quantize.context import Context, to_tensors
from softstair.quantize.phases import PHASES
from softstair.quantize.setting import Integers

from ..data import Crops, Pixels, load_pictures
from ..integer.hyper import train_hyper
from ..integer.measure import with_tables_of
from ..integer.place import train_place, train_signs
from ..integer.symbols import Sample, Symbols
from ..log import commit
from ..recipe import Recipe
from ..run import Say

_SIDE, _AT_ONCE = 384, 100  # of crops
_HYPER_POSITIONS = 6  # rate positions of a crop at which z is taken
_MEASURED = 700  # crops of which tables are measured
_HELD_OUT_SIDE = 384  # of a held-out picture: its upper left
_HELD_OUT_POSITIONS = (0.25, 0.5, 0.75)  # of the range
_LEAST_GAIN = 0.002  # share of all bits below which a network is left out
_STEP = 2**31 + 1  # of the crops: one that no run reaches, nor the export


@dataclass(frozen=True)
class Effort:
    """How much is done: crops that are coded, and steps of each training."""

    crops: int = 4800
    place_steps: int = 3000
    sign_steps: int = 3000
    hyper_steps: int = 3000


_ALL = Effort()


def add_context(
    recipe: Recipe, bundle: Bundle, data_root: Path, output: Path, *, effort: Effort = _ALL, say: Say
) -> Bundle:
    """Write a bundle with context networks; those that do not pay on held-out pictures are left out.

    Args:
        recipe: its training pictures, held-out pictures and seed count.
        bundle: has all that an encoder needs, and no context networks yet.

    Raises:
        UsageError: the bundle is not such a one, no network pays, or the data cannot be read.
    """
    if not bundle.encodes or CONTEXT in bundle.entries:
        raise UsageError(f"{bundle.origin} only decodes or has context networks already; take one without.")
    pictures = load_pictures([data_root / name for name in recipe.data.train])
    bundle = _searching_with_context(bundle)
    stage = _Stage(bundle)
    full, measured = stage.trained(_crops(pictures, recipe.seed, effort.crops), recipe.seed, effort, say)
    networks, mode = stage.networks, stage.mode
    held_out = stage.held_out(load_pictures([data_root / name for name in recipe.data.validation]))
    kept, figures = _choose(bundle, full, networks, held_out, mode, say)
    for other in (one for one in kept.codings if kept.context.place is not None and one != mode):
        kept = _measured(kept, networks, measured, other)
        say(f"tables of {other} measured")
    return _write(bundle, kept, figures, output)


def _searching_with_context(bundle: Bundle) -> Bundle:
    """The bundle, whose search counts bits as the context will have them."""
    encoding = msgspec.structs.replace(bundle.manifest.encoding, context_in_search=True)
    manifest = msgspec.structs.replace(bundle.manifest, encoding=encoding)
    return Bundle({**bundle.entries, "manifest.json": to_json(manifest)}, bundle.origin)


def learn_context_anew(
    bundle: Bundle,
    pictures: Sequence[Pixels],
    held_back: Sequence[Pixels],
    seed: int,
    effort: Effort,
    *,
    say: Say,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]] | None:
    """Context networks for pictures of one kind, and the default mode's tables with them, as packs have both.

    None if the bundle has no such networks, or those of its own serve the pictures held back as well.
    """
    if CONTEXT not in bundle.entries:
        return None
    entries = {name: entry for name, entry in bundle.entries.items() if name != CONTEXT}
    stage = _Stage(Bundle(entries, bundle.origin))
    anew, _ = stage.trained(_crops(pictures, seed, effort.crops), seed, effort, say)
    held_out = stage.held_out(held_back)
    own, learned = (_bits(one, stage.networks, held_out, stage.mode).sum() for one in (bundle.integers, anew))
    say(f"of all bits, held back: context networks learned anew save {1 - learned / own:.2%}")
    if learned > (1 - _LEAST_GAIN) * own:
        return None
    return to_tensors(anew.context), anew.codings[stage.mode].tables.tensors(f"y.{stage.mode}")


class _Stage:
    """A bundle without context networks, and what codes pictures with it in its default mode."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.mode = bundle, Mode(bundle.manifest.encoding.mode)
        self.networks = load_networks(bundle, 1, Engine.ONNX_RUNTIME, self.mode)
        self._coder = TileCoder(bundle, self.networks, self.mode)

    def trained(
        self, crops: Iterable[Pixels], seed: int, effort: Effort, say: Say
    ) -> tuple[Integers, list[Begun]]:
        """The integers with all context networks and the mode's tables, and the crops that those are of."""
        bundle, mode = self.bundle, self.mode
        measured: list[Begun] = []
        taken: list[tuple[npt.NDArray[np.int16], int]] = []

        def samples() -> Iterator[Sample]:
            for begun, zs in _begin(self._coder, bundle, crops):
                taken.extend(zs)
                if len(measured) < _MEASURED:
                    measured.append(begun)
                yield _sample(self._coder, bundle, begun, mode)

        symbols = Symbols(samples(), mode.states)
        say(f"{len(symbols.positions)} crops coded")
        hyper = train_hyper(taken, bundle.points, seed, effort.hyper_steps)
        say("network of z trained")
        place = train_place(symbols, bundle.integers.codings[mode].tables, seed, effort.place_steps)
        say("network of the place trained")
        signs = train_signs(symbols, place, seed, effort.sign_steps)
        say("network of signs trained")
        full = replace(bundle.integers, context=Context(place, hyper, signs))
        return _measured(full, self.networks, measured, mode), measured

    def held_out(self, pictures: Iterable[Pixels]) -> list[Begun]:
        """Parts of pictures at some rate positions."""
        last = self.bundle.last_position
        begun = []
        for pixels in pictures:
            analysed = self._coder.analyse(np.ascontiguousarray(pixels[:_HELD_OUT_SIDE, :_HELD_OUT_SIDE]))
            begun += [self._coder.begin(analysed, int(part * last)) for part in _HELD_OUT_POSITIONS]
        return begun


def _crops(pictures: Sequence[Pixels], seed: int, count: int) -> Iterator[Pixels]:
    """So many crops, a few at a time."""
    source = Crops(list(pictures), seed)
    for first in range(0, count, _AT_ONCE):
        for crop in source.batch(_STEP + first, min(_AT_ONCE, count - first), _SIDE):
            yield np.ascontiguousarray(crop.transpose(1, 2, 0))


def _begin(
    coder: TileCoder, bundle: Bundle, crops: Iterable[Pixels]
) -> Iterator[tuple[Begun, list[tuple[npt.NDArray[np.int16], int]]]]:
    """Every crop at a rate position of its own, and its z at that and some more."""
    count = bundle.last_position + 1
    for index, crop in enumerate(crops):
        analysed = coder.analyse(crop)
        # Neighbouring crops lie far apart: a step of the golden section.
        position = int(index * 0.6180339887 % 1 * count)
        begun = coder.begin(analysed, position)
        more = [(position + k * count // _HYPER_POSITIONS) % count for k in range(1, _HYPER_POSITIONS)]
        yield begun, [(begun.z, position), *((coder.begin(analysed, at).z, at) for at in more)]


def _sample(coder: TileCoder, bundle: Bundle, begun: Begun, mode: Mode) -> Sample:
    """What the mode's search decides of a crop, and the rows that it knew."""
    setting, latents = bundle.at(begun.position, mode), begun.analysed.latents
    y, decoded = np.ascontiguousarray(latents[0]), np.zeros_like(latents)
    tile = _core.TileEncoder(setting.model, begun.z, *y.shape[1:])
    means, rows = begun.means.in_turn(coder.channels), []
    for phase in range(PHASES):
        rows.append(tile.begin_phase())
        means.put_into(decoded, phase)
        tile.quantize(y, decoded[0], setting.inverse_step, setting.rate_weight, setting.grid, decoded[0])
    all_rows, (coded_rows, coded_levels) = np.stack(rows), tile.coded
    coded = all_rows >= 0
    levels, quantizers = np.zeros_like(all_rows), np.zeros_like(all_rows)
    levels[coded] = coded_levels
    if mode.states > 1:
        quantizers[coded] = coded_rows & 1
    return Sample(begun.position, all_rows, levels, quantizers)


def _measured(integers: Integers, networks: Networks, begun: Sequence[Begun], mode: Mode) -> Integers:
    """The integers with tables of the rows that a mode's symbols are coded with."""
    coding = with_tables_of(TileCoder(integers, networks, mode), integers.codings[mode], begun)
    return replace(integers, codings={**integers.codings, mode: coding})


def _choose(
    bundle: Bundle, full: Integers, networks: Networks, held_out: Sequence[Begun], mode: Mode, say: Say
) -> tuple[Integers, dict[str, Any]]:
    """The integers with the networks that pay, and what they save."""
    without = replace(full, context=replace(full.context, signs=None))
    before, unsigned, after = (
        _bits(one, networks, held_out, mode) for one in (bundle.integers, without, full)
    )
    z, y = ((before - unsigned) / before.sum()).tolist()
    saved = {"z": z, "y": y, "signs": float((unsigned - after)[1] / before.sum())}
    say(
        f"of all bits, held out: z saves {z:.2%}, symbols of the same place {y:.2%}, "
        f"their signs {saved['signs']:.2%}"
    )
    keeps = {name: share >= _LEAST_GAIN for name, share in saved.items()}
    keeps["signs"] &= keeps["y"]
    if not any(keeps.values()):
        raise UsageError(
            f"No context network saves {_LEAST_GAIN:.1%} of the bits; the bundle is better without."
        )
    place = full.context.place if keeps["y"] else None
    hyper = full.context.hyper if keeps["z"] else None
    signs = full.context.signs if keeps["signs"] else None
    codings = full.codings if keeps["y"] else bundle.integers.codings
    figures = {name: round(100 * share, 2) for name, share in saved.items() if keeps[name]}
    return replace(full, context=Context(place, hyper, signs), codings=codings), figures


def _bits(
    integers: Integers, networks: Networks, begun: Sequence[Begun], mode: Mode
) -> npt.NDArray[np.float64]:
    """What z and y cost by the tables, (2,)."""
    coder = TileCoder(integers, networks, mode)
    return np.sum([coder.decide(one).tile.cross_entropy() for one in begun], axis=0)


def _write(bundle: Bundle, integers: Integers, figures: Mapping[str, float], output: Path) -> Bundle:
    """The bundle's entries with context networks and their tables."""
    tables = load_safetensors(bundle.entries["tables.safetensors"])
    for mode, coding in integers.codings.items():
        tables |= coding.tables.tensors(f"y.{mode}")
    provenance = {**bundle.manifest.provenance, "context": {"commit": commit(), "saves": dict(figures)}}
    manifest = msgspec.structs.replace(bundle.manifest, provenance=provenance)
    entries = {
        **bundle.entries,
        "manifest.json": to_json(manifest),
        "tables.safetensors": save_safetensors(tables),
        CONTEXT: save_safetensors(to_tensors(integers.context)),
    }
    try:
        checked = Bundle(entries, str(output))
    except ValueError as error:
        raise InvalidBundle(f"The context networks cannot be made integer: {error}.") from error
    write_bundle(output, dict(checked.entries))
    return read_bundle(output.read_bytes(), str(output))
