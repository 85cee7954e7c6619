from __future__ import annotations

import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softstair.bundle import (
    find_bundle,
    fingerprint,
    installed,
    open_bundle,
    read_bundle,
    write_bundle,
)
from softstair.errors import BundleNotFound, InvalidBundle, SoftstairError

from ..conftest import GOLDEN

TINY = (GOLDEN / "v1" / "tiny.stairs").read_bytes()


def entries_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_entry(path, name: str, content: bytes) -> bytes:
    write_bundle(path, entries_of(TINY) | {name: content})
    return path.read_bytes()


def with_levels(levels: list[list[int]]) -> bytes:
    """A list of staircases for two rate points."""
    modes = {"scalar": {"levels": levels}}
    return json.dumps({"gains": [[0], [0]], "base": 0, "modes": modes}).encode()


def test_shipped_bundle_is_under_twelve_megabytes(bundle):
    assert bundle.size < 12_000_000


def test_shipped_bundle_says_where_it_comes_from(bundle):
    manifest = bundle.manifest
    assert manifest.licence
    assert manifest.description
    assert {"recipe", "commit", "snapshot", "data"} <= set(manifest.provenance)


def test_writing_again_gives_the_same_bytes(tmp_path):
    write_bundle(tmp_path / "again.stairs", entries_of(TINY))
    assert (tmp_path / "again.stairs").read_bytes() == TINY


def test_the_manifest_does_not_change_the_fingerprint(tiny_bundle):
    entries = entries_of(TINY)
    manifest = json.loads(entries["manifest.json"]) | {"description": "another"}
    assert fingerprint(entries | {"manifest.json": json.dumps(manifest).encode()}) == tiny_bundle.fingerprint


@pytest.mark.parametrize(
    "name", ["synthesis.onnx", "scale.safetensors", "tables.safetensors", "staircases.json"]
)
def test_what_decides_decoding_changes_the_fingerprint(tiny_bundle, name):
    entries = entries_of(TINY)
    assert fingerprint(entries | {name: entries[name] + b" "}) != tiny_bundle.fingerprint


def test_a_bundle_in_a_named_folder_is_found(tmp_path, monkeypatch, tiny_bundle):
    with pytest.raises(BundleNotFound, match="SOFTSTAIR_MODELS"):
        find_bundle(tiny_bundle.fingerprint)
    (tmp_path / "mine.stairs").write_bytes(TINY)
    monkeypatch.setenv("SOFTSTAIR_MODELS", str(tmp_path))
    assert find_bundle(tiny_bundle.fingerprint).name == "tiny"
    assert open_bundle("tiny").fingerprint == tiny_bundle.fingerprint
    assert [bundle.name for bundle in installed()] == ["photo", "photo-psnr", "tiny"]


def test_unknown_names_are_told():
    with pytest.raises(BundleNotFound, match="installed are"):
        open_bundle("nothing")
    with pytest.raises(BundleNotFound, match="cannot be read"):
        open_bundle("nowhere.stairs")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("manifest.json", b"{}", "manifest.json"),
        ("manifest.json", b"\xff", "manifest.json"),
        ("staircases.json", b'{"gains":[[0]],"base":0,"modes":{"scalar":{}}}', "gains"),
        ("staircases.json", b'{"gains":[[0],[0,1]],"base":0,"modes":{"scalar":{}}}', "gains"),
        ("staircases.json", b'{"gains":[[0],[0]],"base":0,"modes":{"magic":{}}}', "modes"),
        ("staircases.json", b'{"gains":[[0],[0]],"base":0,"modes":{"scalar":{"step":999}}}', "step"),
        ("staircases.json", with_levels([[9, 8]] * 2), "rise"),
        ("staircases.json", with_levels([[512, 1 << 20]] * 2), "rise"),
        ("staircases.json", with_levels([[512], [512, 1024]]), "as many"),
        ("staircases.json", with_levels([[512]]), "rate points"),
        ("scale.safetensors", b"", "scale.safetensors"),
        ("tables.safetensors", b"\x00" * 64, "tables.safetensors"),
    ],
)
def test_damaged_entries_are_named(tmp_path, name, content, word):
    with pytest.raises(InvalidBundle, match=word):
        read_bundle(with_entry(tmp_path / "b.stairs", name, content), "b")


def test_a_damaged_graph_is_named(tmp_path):
    with pytest.raises(InvalidBundle, match="analysis"):
        read_bundle(with_entry(tmp_path / "b.stairs", "analysis.onnx", b"nonsense"), "b")


def test_not_a_zip_and_a_zip_of_something_else():
    with pytest.raises(InvalidBundle, match="ZIP"):
        read_bundle(b"not a zip", "b")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("hello", "world")
    with pytest.raises(InvalidBundle, match="entries"):
        read_bundle(buffer.getvalue(), "b")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_never_crash(data):
    """A flip is refused, or it lands where it changes nothing but names, dates or weights."""
    damaged = bytearray(TINY)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(TINY) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read_bundle(bytes(damaged), "damaged")
    except SoftstairError as error:
        assert isinstance(error, InvalidBundle)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(TINY) - 1))
def test_truncated_bundles_are_refused(length):
    with pytest.raises(InvalidBundle):
        read_bundle(TINY[:length], "cut")
