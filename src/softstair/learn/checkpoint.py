"""Checkpoints: whole or not at all, in pieces that travel; and small snapshots of weights alone."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any

import msgspec
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from softstair.errors import UsageError
from softstair.whole_file import write_whole

from .codec import Codec
from .recipe import Recipe
from .shape import Shape

Piece = Annotated[str, msgspec.Meta(pattern=r"^[^/\\\x00]+\.part$")]  # beside the index, nowhere else
PIECE_BYTES = 15_000_000  # bytes; some places that files must travel through take no more than 16 MiB


class Index(msgspec.Struct, frozen=True):
    """The file that makes pieces a checkpoint.

    generation: grows with every checkpoint, so that names of pieces never return while they are in
    use. sha256: of all pieces together.
    """

    generation: int
    pieces: list[Piece]
    sha256: str


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write pieces of 15 MB at most beside ``path``, then the index ``path`` that names them.

    The index is replaced at one stroke when all it names is on the disk, and only then do the pieces
    of the checkpoint before go: whenever this is interrupted, ``path`` leads to one or the other.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    generation = read_index(path).generation + 1 if path.exists() else 0
    names = []
    for number, start in enumerate(range(0, len(data), PIECE_BYTES)):
        names.append(f"{path.stem}-{generation:06d}-{number:02d}.part")
        write_whole(path.with_name(names[-1]), data[start : start + PIECE_BYTES])
    index = Index(generation, names, hashlib.sha256(data).hexdigest())
    _flush_folder(path.parent)
    write_whole(path, msgspec.json.encode(index))
    _flush_folder(path.parent)
    for piece in path.parent.glob(f"{path.stem}-*.part"):
        if piece.name not in names:
            piece.unlink()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ``save_checkpoint`` into memory; tensors only, no code is run.

    A run that is going on may be read, too: pieces that were replaced meanwhile are looked up anew.

    Raises:
        UsageError: unreadable, or its pieces are not those that the index names.
    """
    try:
        while True:
            index = read_index(path)
            try:
                data = b"".join(path.with_name(name).read_bytes() for name in index.pieces)
                break
            except FileNotFoundError:
                if read_index(path) == index:
                    raise
        if hashlib.sha256(data).hexdigest() != index.sha256:
            raise UsageError(f"Checkpoint {path} cannot be read: its pieces have changed.")
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise UsageError(f"Checkpoint {path} cannot be read: {error}.") from error
    return state


def read_index(path: Path) -> Index:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Index)
    except msgspec.MsgspecError as error:
        raise UsageError(f"Checkpoint {path} cannot be read: {error}.") from error


def _flush_folder(folder: Path) -> None:
    """Make new names last through a loss of power, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_snapshot(path: Path, shape: Shape, weights: dict[str, Tensor]) -> None:
    """Write weights in half precision with their shape: what a later run can start from."""
    half = {name: tensor.half().contiguous().cpu() for name, tensor in weights.items()}
    write_whole(path, save(half, metadata={"shape": msgspec.json.encode(shape).decode()}))


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
