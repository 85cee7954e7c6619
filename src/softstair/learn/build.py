"""A whole recipe: every stage in turn, the bundle, and what it measures. Interrupted, it goes on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import torch

from softstair.bundle import read_bundle
from softstair.errors import SoftstairError
from softstair.evaluate import evaluate, find_data_set, markdown, softstair_codec
from softstair.whole_file import write_whole

from .checkpoint import hash_file, load_codec, save_snapshot
from .data import Crops, load_pictures
from .export.bundle import export_snapshot, provenance_of
from .lineage import Trained, published, train_networks
from .recipe import Recipe
from .resize.narrow import with_narrower_blocks
from .run import Say
from .stages.context import add_context
from .stages.derive import derive
from .stages.finetune import finetune
from .stages.icon import train_icon
from .stages.preview import add_preview, train_preview

_NARROWING = 2**31  # as a step of the crops: one that no run reaches
_NARROW_CROPS, _NARROW_SIDE = 96, 256


def build(
    recipe: Recipe,
    data_root: Path,
    runs: Path,
    device: torch.device,
    *,
    start: Path | None = None,
    networks: Path | None = None,
    begin: Say,
    say: Say,
) -> list[Path]:
    """Run the recipe's stages in folders of ``runs``; the bundles, beside their measurements.

    Args:
        start: snapshot that ``pretrain`` starts from.
        networks: folder of trained networks, NAME.safetensors, in place of training them.
        begin: receives the name of every stage when it begins.
        say: receives lines of progress.

    Raises:
        UsageError: the recipe trains without an end and has no endings, or what the stages raise.
    """
    if networks is None:
        trained = train_networks(recipe, data_root, runs, device, start=start, begin=begin, say=say)
    else:
        trained = published(recipe, networks)
    return [_finish(network, data_root, runs, begin, say) for network in trained]


def _finish(network: Trained, data_root: Path, runs: Path, begin: Say, say: Say) -> Path:
    """The stages after ``pretrain``."""
    recipe, snapshot, staircases = network.recipe, network.snapshot, None
    if network.synthesis_inner is not None:
        begin("narrow")
        recipe, snapshot = _narrowed(network, network.synthesis_inner, data_root, runs)
    if "derive" in recipe.stages:
        begin("derive")
        folder = runs / f"{recipe.name}-stanh"
        derive(recipe, snapshot, data_root, folder, say=say)
        staircases = folder / "staircases.json"
    if "finetune" in recipe.stages:
        begin("finetune")
        folder = runs / f"{recipe.name}-fine"
        finetune(recipe, snapshot, data_root, folder, staircases=staircases, say=say)
        snapshot = folder / "snapshot.safetensors"
        staircases = staircases and folder / "staircases.json"
    begin("export")
    place = runs / recipe.name
    place.mkdir(parents=True, exist_ok=True)
    bundle = place / f"{recipe.name}.stairs"
    if _is_finished(recipe, snapshot, staircases, bundle):
        say(f"{bundle} is finished already")
    else:
        _export(recipe, snapshot, staircases, data_root, bundle, begin, say)
    for name in recipe.evaluate.data_sets:
        begin(f"evaluate {name}")
        _measure(recipe, bundle, name, data_root, place / f"{name}.json", say)
    return bundle


def _narrowed(
    network: Trained, inner: tuple[int, int, int], data_root: Path, runs: Path
) -> tuple[Recipe, Path]:
    """The recipe and a snapshot of the network with narrower blocks in its synthesis."""
    recipe, of = network.recipe, hash_file(network.snapshot)[:8]
    path = runs / f"{recipe.name}-narrow-{of}-{'-'.join(map(str, inner))}.safetensors"
    shape = msgspec.structs.replace(recipe.shape, synthesis_inner=inner)
    if not path.exists():
        crops = Crops(load_pictures([data_root / name for name in recipe.data.train]), recipe.seed)
        pictures = torch.from_numpy(crops.batch(_NARROWING, _NARROW_CROPS, _NARROW_SIDE)).float() / 255
        weights = with_narrower_blocks(load_codec(recipe, network.snapshot), inner, pictures)
        save_snapshot(path, shape, weights)
    return msgspec.structs.replace(recipe, shape=shape), path


def _is_finished(recipe: Recipe, snapshot: Path, staircases: Path | None, path: Path) -> bool:
    """Whether a bundle is there already, made of the same."""
    try:
        found = read_bundle(path.read_bytes(), str(path)).manifest.provenance
    except (OSError, SoftstairError):
        return False
    return provenance_of(recipe, snapshot, staircases).items() <= found.items()


def _export(
    recipe: Recipe,
    snapshot: Path,
    staircases: Path | None,
    data_root: Path,
    path: Path,
    begin: Say,
    say: Say,
) -> None:
    """Write the bundle, with what is added to it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        bundle = export_snapshot(recipe, snapshot, data_root, made, staircases=staircases)
        if "context" in recipe.stages:
            begin("context")
            bundle = add_context(recipe, bundle, data_root, made, say=say)
        if "preview" in recipe.stages:
            begin("preview")
            pictures = load_pictures([data_root / name for name in recipe.data.train])
            threads = torch.get_num_threads()
            head = train_preview(bundle, pictures, threads=threads, say=say)
            icon = train_icon(bundle, pictures, threads=threads, say=say)
            bundle = add_preview(bundle, head, icon, made)
        made.replace(path)
    say(f"{path}: {bundle.name} {bundle.fingerprint.hex()}, {path.stat().st_size} bytes")


def _measure(recipe: Recipe, bundle: Path, name: str, data_root: Path, path: Path, say: Say) -> None:
    """Files of all pictures at the recipe's rate positions; what is measured already is kept."""
    wanted = recipe.evaluate
    modes: list[str | None] = [*wanted.modes] or [None]
    codecs = [softstair_codec(bundle, wanted.positions or None, mode=mode) for mode in modes]
    results = evaluate(codecs, find_data_set(data_root / name), path)
    write_whole(path.with_suffix(".md"), markdown(results).encode())
    say(f"{path}: {results.pictures} pictures")
