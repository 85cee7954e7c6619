"""Checkpoints: whole or not at all, and small snapshots of weights alone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from softstair.errors import UsageError

from .codec import Codec
from .recipe import Recipe
from .shape import Shape


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint beside ``path``, flush it to disk, then rename it over ``path``."""
    temporary = path.with_name(path.name + ".partial")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint of ``save_checkpoint``; tensors only, no code is run."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise UsageError(f"Checkpoint {path} cannot be read: {error}.") from error
    return state


def save_snapshot(path: Path, shape: Shape, weights: dict[str, Tensor]) -> None:
    """Write weights in half precision with their shape: what a later run can start from."""
    half = {name: tensor.half().contiguous().cpu() for name, tensor in weights.items()}
    temporary = path.with_name(path.name + ".partial")
    save_file(half, temporary, metadata={"shape": msgspec.json.encode(shape).decode()})
    temporary.replace(path)


def load_snapshot(path: Path, codec: Codec) -> None:
    """Set a codec's weights from a snapshot of the same shape.

    Raises:
        UsageError: unreadable, or of another shape.
    """
    try:
        weights = load_file(path)
        codec.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"Snapshot {path} does not fit this recipe's shape: {error}.") from error


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_codec(recipe: Recipe, snapshot: Path) -> Codec:
    """The codec of a snapshot, frozen as it will be used: on integer grids, at all rates.

    Raises:
        UsageError: unreadable, or of another shape.
    """
    codec = Codec(recipe.shape)
    load_snapshot(snapshot, codec)
    if recipe.rates.anchor is not None:
        codec.pin(recipe.rates.anchor)
    codec.set_fixed(True)
    return codec.eval()
