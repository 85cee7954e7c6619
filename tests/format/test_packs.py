"""Packs: merged to the last bit, found by fingerprint, and harmless whoever made them."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softstair
from softstair.bundle import (
    CONTEXT,
    ICON,
    Bundle,
    Pack,
    find_bundle,
    merged,
    open_bundle,
    pack_entries,
    packed_bundle,
    read_bundle,
    read_pack,
    write_pack,
)
from softstair.bundle.pack import packed_tensors
from softstair.codec import Rate, choose_pack
from softstair.errors import BundleNotFound, CorruptStream, InvalidBundle, SoftstairError, UsageError
from softstair.graphs import weights_of
from softstair.quantize.context import to_tensors
from softstair.stream import read_header

from ..commands.test_commands import run
from ..conftest import GOLDEN
from ..contexts import bundle_with_context, with_context
from ..tiny import photograph
from .test_golden import symbol_hash

FOLDER = GOLDEN / "pack"
TINY = (GOLDEN / "v1" / "tiny.stairs").read_bytes()
GOLDEN_PACK = (FOLDER / "tiny.pack").read_bytes()
HEAD = "synthesis/network.head.layer.weight"
ABOUT = {"licence": "CC0-1.0", "description": "A pack for tests.", "provenance": {}, "figures": {}}


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def adapters(bundle: Bundle, seed: int = 0):
    """Of one weight of the synthesis, one of the mean network and one of the analysis."""
    rng = np.random.default_rng(seed)
    found: dict = {}
    for graph, name in [
        ("synthesis", "network.head.layer.weight"),
        ("mean", "network.known.weight"),
        ("analysis", "network.head.layer.weight"),
    ]:
        shape = weights_of(bytearray(bundle.graph(graph)))[name].shape
        size, rest = int(np.prod(shape)), int(np.prod(shape[1:]))
        found[f"{graph}/{name}/signs"] = rng.integers(0, 256, -(-size // 8), np.uint8)
        found[f"{graph}/{name}/rows"] = rng.uniform(0.1, 0.2, shape[0]).astype(np.float16)
        found[f"{graph}/{name}/columns"] = rng.uniform(0.1, 0.2, rest).astype(np.float16)
        bias = rng.normal(0, 0.01, shape[0]).astype(np.float16)
        found[f"{graph}/{name.replace('weight', 'bias')}/add"] = bias
    return found


def signed(**changes):
    """Adapters of the synthesis' first weight, of 64 by 64 numbers."""
    ones = np.ones(64, np.float16)
    parts = {"signs": np.zeros(512, np.uint8), "rows": ones, "columns": ones} | changes
    return {f"{HEAD}/{kind}": value for kind, value in parts.items()}


def integers(bundle: Bundle):
    scale = bundle.integers.scale
    return {
        "gains": np.full((bundle.points, bundle.channels), 2, np.int16),
        "log_scale_head.bias": np.full(bundle.channels, 900, np.int32),
        "rate_bias": np.ones_like(scale.rate_bias),
    }


def tables(bundle: Bundle):
    """Those of another mode."""
    found = bundle.integers.codings["tcq4"].tables
    return {"y.tcq8.cdf": found.cdf, "y.tcq8.offsets": found.offsets}


def entries_of(bundle: Bundle, name: str = "tests", **changes) -> dict[str, bytes]:
    parts = {"adapters": adapters(bundle), "integers": integers(bundle), "tables": tables(bundle)}
    return pack_entries(bundle, **(parts | changes), name=name, **ABOUT)


@pytest.fixture(scope="module")
def pack(tiny_bundle) -> Pack:
    return read_pack(zipped(entries_of(tiny_bundle)), "tests.pack")


@pytest.fixture(scope="module")
def adapted(tiny_bundle, pack) -> Bundle:
    return merged(tiny_bundle, pack)


# What merging does


def test_a_weight_is_the_bundles_and_the_adapters_sum(tiny_bundle, pack, adapted):
    before = weights_of(bytearray(tiny_bundle.graph("synthesis")))["network.head.layer.weight"]
    after = weights_of(bytearray(adapted.graph("synthesis")))["network.head.layer.weight"]
    rows, columns = (pack.adapters[f"{HEAD}/{kind}"].astype(np.float64) for kind in ("rows", "columns"))
    bits = np.unpackbits(pack.adapters[f"{HEAD}/signs"])[: before.size].reshape(before.shape)
    sizes = np.outer(rows, columns).reshape(before.shape)
    expected = before.astype(np.float64) + np.where(bits, -sizes, sizes)
    assert np.abs(after - expected).max() < 2e-3
    assert np.abs(after.astype(np.float64) - before).max() > 0.01


def test_only_the_numbers_of_the_weights_change_in_a_graph(tiny_bundle, adapted):
    onnx = pytest.importorskip("onnx", reason="the extra learn is not installed")
    before, after = (onnx.load_from_string(one.graph("mean")) for one in (tiny_bundle, adapted))
    changed = {
        old.name
        for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True)
        if old != new
    }
    assert {name.removesuffix(".half") for name in changed} == {"network.known.weight", "network.known.bias"}
    for model in (before, after):
        del model.graph.initializer[:]
    assert before == after


@pytest.mark.parametrize("graph", ["synthesis", "mean"])
def test_an_icon_network_stays_while_the_means_do(tiny_bundle, graph):
    icon = (GOLDEN / "icon" / "tiny.onnx").read_bytes()
    bundle = Bundle({**tiny_bundle.entries, ICON: icon}, "with icon")
    some = {name: tensor for name, tensor in adapters(bundle).items() if name.startswith(f"{graph}/")}
    pack = read_pack(zipped(entries_of(bundle, adapters=some)), "tests.pack")
    assert merged(bundle, pack).icons == (graph == "synthesis")


def test_integers_are_added_and_tables_replaced(tiny_bundle, adapted):
    assert (adapted.integers.gains == tiny_bundle.integers.gains + 2).all()
    old, new = (one.integers.scale.layers["log_scale_head"].bias for one in (tiny_bundle, adapted))
    assert (new == old + 900).all()
    codings = adapted.integers.codings
    assert (codings["tcq8"].tables.cdf == codings["tcq4"].tables.cdf).all()


def of_context(bundle: Bundle, seed: int = 0):
    """A pack of context networks alone."""
    context = to_tensors(with_context(bundle.integers, signs=True, seed=seed).context)
    return entries_of(bundle, adapters={}, integers={}, tables={}, context=context)


def test_context_networks_replace_all_that_there_are(tmp_path, tiny_bundle, small_photo):
    for bundle in (tiny_bundle, bundle_with_context(tiny_bundle)):
        write_pack(tmp_path / "context.pack", of_context(bundle, seed=1))
        pack = read_pack((tmp_path / "context.pack").read_bytes(), "context.pack")
        changed = merged(bundle, pack)
        assert changed.fingerprint not in (bundle.fingerprint, tiny_bundle.fingerprint)
        expected = with_context(tiny_bundle.integers, signs=True, seed=1).context
        assert (changed.integers.context.place.weight == expected.place.weight).all()
        assert (changed.integers.context.signs.weight == expected.signs.weight).all()
        assert changed.graph("synthesis") == bundle.graph("synthesis")
        data = softstair.encode(small_photo, bundle=changed)
        flat = read_bundle(packed_bundle(changed.entries), "flat.stairs")
        assert np.array_equal(softstair.decode(data, bundle=flat), softstair.decode(data, bundle=changed))


def test_context_networks_that_do_not_fit_are_refused(tiny_bundle):
    entries = of_context(tiny_bundle)
    context = to_tensors(with_context(tiny_bundle.integers).context)
    wrong = (
        context | {"place.weight": context["place.weight"][:, :-16, :-16]},
        context | {"place.expected": np.full_like(context["place.expected"], -1)},
        context | {"hyper.live": context["hyper.live"][::-1]},
        {name: value for name, value in context.items() if name != "place.near"},
        {"place.weights": context["place.weight"]},
    )
    for tensors in wrong:
        damaged = {**entries, CONTEXT: packed_tensors(tensors)}
        with pytest.raises(InvalidBundle):
            merged(tiny_bundle, read_pack(zipped(damaged), "tests.pack"))
    for content in (b"", b"\xff" * 40):
        with pytest.raises(InvalidBundle):
            merged(tiny_bundle, read_pack(zipped({**entries, CONTEXT: content}), "tests.pack"))


def test_an_encoders_adapter_changes_no_fingerprint(tiny_bundle):
    only = {name: value for name, value in adapters(tiny_bundle).items() if name.startswith("analysis")}
    entries = entries_of(tiny_bundle, adapters=only, integers={}, tables={})
    pack = read_pack(zipped(entries), "encoder.pack")
    assert pack.fingerprint == tiny_bundle.fingerprint
    assert merged(tiny_bundle, pack).graph("analysis") != tiny_bundle.graph("analysis")


def test_a_bundle_for_decoding_alone_takes_what_is_for_decoders(tiny_bundle, pack):
    entries = {n: c for n, c in tiny_bundle.entries.items() if "analysis" not in n}
    assert merged(Bundle(entries, "decoder"), pack).fingerprint == pack.fingerprint


def test_writing_again_gives_the_same_bytes(tmp_path, tiny_bundle):
    for name in ("a", "b"):
        write_pack(tmp_path / f"{name}.pack", entries_of(tiny_bundle))
    assert (tmp_path / "a.pack").read_bytes() == (tmp_path / "b.pack").read_bytes()


def test_the_own_writer_of_tensors_is_read_by_safetensors():
    from safetensors.numpy import load

    tensors = {"b": np.arange(6, dtype=np.int32).reshape(2, 3), "a": np.ones(3, np.float16)}
    found = load(packed_tensors(tensors))
    assert all(np.array_equal(found[name], value) for name, value in tensors.items())
    assert packed_tensors({}) == b"\x08\0\0\0\0\0\0\0{}      "
    assert load(packed_tensors({})) == {}


# Streams


def test_a_stream_names_bundle_and_pack(tiny_bundle, pack, adapted, small_photo):
    data = softstair.encode(small_photo, bundle=adapted)
    header = read_header(data)
    assert (header.fingerprint, header.pack) == (tiny_bundle.fingerprint, pack.fingerprint)
    assert softstair.info(data).pack == pack.fingerprint.hex()


def test_a_stream_without_learned_tiles_names_no_pack(adapted, small_photo):
    assert softstair.info(softstair.encode(small_photo, bundle=adapted, lossless=True)).pack is None


def test_an_archive_opens_from_the_flattened_bundle(adapted, small_photo):
    flat = read_bundle(packed_bundle(adapted.entries), "flat.stairs")
    data = softstair.encode(small_photo, bundle=adapted)
    assert np.array_equal(softstair.decode(data, bundle=flat), softstair.decode(data, bundle=adapted))
    again = softstair.encode(small_photo, bundle=flat)
    assert softstair.info(again).fingerprint == adapted.fingerprint.hex()


def test_pack_and_flattened_bundle_open_each_others_streams(
    tiny_bundle, adapted, small_photo, tmp_path, monkeypatch
):
    flat = read_bundle(packed_bundle(adapted.entries), "flat.stairs")
    streams = [softstair.encode(small_photo, bundle=one) for one in (adapted, flat)]
    monkeypatch.setenv("SOFTSTAIR_MODELS", str(tmp_path))
    (tmp_path / "flat.stairs").write_bytes(packed_bundle(adapted.entries))
    from_flat = [softstair.decode(data) for data in streams]
    (tmp_path / "flat.stairs").unlink()
    (tmp_path / "tiny.stairs").write_bytes(TINY)
    write_pack(tmp_path / "tests.pack", entries_of(tiny_bundle))
    for before, data in zip(from_flat, streams, strict=True):
        assert np.array_equal(softstair.decode(data), before)


def test_a_missing_pack_is_one_sentence_that_names_it(adapted, pack, small_photo, tiny_bundle):
    data = softstair.encode(small_photo, bundle=adapted)
    with pytest.raises(BundleNotFound, match=rf"pack {pack.fingerprint.hex()} of bundle .*--pack FILE"):
        softstair.decode(data)
    with pytest.raises(BundleNotFound, match=pack.fingerprint.hex()):
        softstair.decode(data, bundle=tiny_bundle)


def test_packs_beside_a_named_bundle_are_found(tmp_path, tiny_bundle, adapted, small_photo):
    (tmp_path / "tiny.stairs").write_bytes(TINY)
    write_pack(tmp_path / "tests.pack", entries_of(tiny_bundle))
    data = softstair.encode(small_photo, bundle=adapted)
    beside = open_bundle(tmp_path / "tiny.stairs")
    assert np.array_equal(softstair.decode(data, bundle=beside), softstair.decode(data, bundle=adapted))
    assert open_bundle(tmp_path / "tiny.stairs", pack="tests").fingerprint == adapted.fingerprint


def test_a_pack_for_another_bundle_is_refused(bundle, pack):
    with pytest.raises(UsageError, match=r"changes bundle .*, not photo"):
        merged(bundle, pack)


def test_unknown_names_are_said_with_those_that_are_there():
    with pytest.raises(BundleNotFound, match="No pack is called 'nothing'"):
        open_bundle(pack="nothing")


def test_a_stream_with_a_pack_and_no_bundle_is_corrupt(adapted, small_photo):
    data = bytearray(softstair.encode(small_photo, bundle=adapted))
    data[6:14] = bytes(8)
    with pytest.raises(CorruptStream, match="no bundle"):
        read_header(bytes(data))


# The pack that a picture asks for


@pytest.fixture
def rough(tiny_bundle):
    """The tiny bundle with scales that are far too large, and a pack that mends them."""
    bias = tiny_bundle.integers.scale.layers["log_scale_head"].bias
    more = {"log_scale_head.bias": np.full_like(bias, 60_000)}
    worse = read_pack(zipped(entries_of(tiny_bundle, adapters={}, integers=more, tables={})), "worse.pack")
    rough = Bundle(merged(tiny_bundle, worse).entries, "rough.stairs")
    less = {"log_scale_head.bias": np.full_like(bias, -60_000)}
    mending = entries_of(rough, name="mending", adapters={}, integers=less, tables={})
    return rough, mending, worse


def test_of_some_packs_the_one_that_helps_is_chosen(rough, tiny_bundle, small_photo):
    bundle, mending, worse = rough
    again = {"log_scale_head.bias": np.full_like(bundle.integers.scale.layers["log_scale_head"].bias, 30_000)}
    still_worse = entries_of(bundle, name="worse", adapters={}, integers=again, tables={})
    packs = [Pack(entries, "tests") for entries in (still_worse, mending)]
    chosen = choose_pack(bundle, packs, small_photo, Rate(), 1)
    assert chosen.fingerprint == packs[1].fingerprint
    assert choose_pack(bundle, packs[:1], small_photo, Rate(), 1) is bundle
    assert choose_pack(tiny_bundle, [worse], small_photo, Rate(target_size=900), 1) is tiny_bundle
    assert choose_pack(tiny_bundle, [], small_photo, Rate(), 1) is tiny_bundle
    grey = np.ascontiguousarray(small_photo[..., 1])
    assert choose_pack(bundle, packs, grey, Rate(), 1).fingerprint == packs[1].fingerprint


def test_auto_takes_what_is_installed_and_helps(tmp_path, rough):
    from PIL import Image

    bundle, mending, _ = rough
    (tmp_path / "rough.stairs").write_bytes(packed_bundle(bundle.entries))
    Image.fromarray(photograph(300, 420)).save(tmp_path / "picture.png")
    sizes = []
    for _ in range(2):
        made = run(
            "encode",
            tmp_path / "picture.png",
            *("-o", tmp_path / "a.stair", "--force", "--pack", "auto"),
            *("--model", tmp_path / "rough.stairs"),
        )
        assert made.returncode == 0, made.stderr
        sizes.append((tmp_path / "a.stair").stat().st_size)
        write_pack(tmp_path / "mending.pack", mending)
    assert sizes[1] < sizes[0]
    assert read_header((tmp_path / "a.stair").read_bytes()).pack == Pack(mending, "tests").fingerprint
    refused = run("encode", tmp_path / "picture.png", "--pack", "auto", "--like", tmp_path / "a.stair")
    assert refused.returncode == 2


# Commands


def test_commands_encode_list_decode_and_flatten(tmp_path, tiny_bundle, adapted):
    from PIL import Image

    models, picture = tmp_path / "models", tmp_path / "picture.png"
    models.mkdir()
    Image.fromarray(photograph(40, 60)).save(picture)
    (models / "tiny.stairs").write_bytes(TINY)
    write_pack(models / "tests.pack", entries_of(tiny_bundle))
    own = {"SOFTSTAIR_MODELS": str(models)}
    made = run("encode", picture, "-o", tmp_path / "a.stair", "--pack", "tests", **own)
    assert made.returncode == 0, made.stderr
    listed = run("models", "--json", **own).stdout.splitlines()
    assert adapted.fingerprint.hex() in {
        json.loads(line)["fingerprint"] for line in listed if b"pack_of" in line
    }
    assert run("decode", tmp_path / "a.stair", "-o", tmp_path / "a.png", **own).returncode == 0
    missing = run("decode", tmp_path / "a.stair", "-o", tmp_path / "b.png")
    assert missing.returncode == 4
    assert adapted.fingerprint.hex().encode() in missing.stderr
    flat = run("pack", "flatten", "tests", "-o", tmp_path / "flat.stairs", **own)
    assert flat.returncode == 0, flat.stderr
    opened = run(
        "decode", tmp_path / "a.stair", "-o", tmp_path / "b.png", "--model", tmp_path / "flat.stairs"
    )
    assert opened.returncode == 0, opened.stderr
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert run("pack", "flatten", "tests", "-o", tmp_path / "flat.stairs", **own).returncode == 2


# Whoever made it


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"adapters": {f"{HEAD}/signs": np.ones(512, np.uint8)}}, "does not fit"),
        ({"adapters": {f"{HEAD}/signs": np.ones(512, np.float16)}}, "does not fit"),
        ({"adapters": {f"{HEAD}/up": np.ones((64, 1), np.float16)}}, "does not fit"),
        ({"adapters": signed(signs=np.ones(511, np.uint8))}, "does not fit"),
        ({"adapters": signed(rows=np.ones(63, np.float16))}, "does not fit"),
        ({"adapters": signed(columns=np.ones((64, 1), np.float16))}, "does not fit"),
        ({"adapters": signed(rows=np.full(64, np.inf, np.float16))}, "finite"),
        ({"adapters": {f"{HEAD}/add": np.ones(3, np.float16)}}, "does not fit"),
        ({"adapters": {"evil/network.head.layer.weight/add": np.ones(3, np.float16)}}, "does not fit"),
        ({"adapters": {"synthesis/network.nothing/add": np.ones(3, np.float16)}}, "does not fit"),
        ({"adapters": {"synthesis/network.head.layer.bias/add": np.full(64, np.nan, np.float16)}}, "finite"),
        ({"integers": {"gains": np.ones((2, 2), np.int32)}}, "does not fit"),
        ({"integers": {"mix.weight": np.ones(2, np.int32)}}, "does not fit"),
        ({"integers": {"log_scale_head.bias": np.full(64, 2**31 - 1, np.int32)}}, "too large"),
        ({"tables": {"y.nothing.cdf": np.ones(2, np.uint16)}}, "does not fit"),
        ({"tables": {"z.offsets": np.ones(2, np.int32)}}, "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_used(changes, word, tiny_bundle):
    empty = {"adapters": {}, "integers": {}, "tables": {}}
    with pytest.raises(InvalidBundle, match=word):
        entries_of(tiny_bundle, **(empty | changes))


def test_tables_that_are_no_cdfs_are_refused(tiny_bundle):
    old = tiny_bundle.integers.z_tables
    with pytest.raises(InvalidBundle, match="tables"):
        entries_of(tiny_bundle, tables={"z.cdf": old.cdf[::-1].copy(), "z.offsets": old.offsets})


def test_a_sum_that_leaves_half_precision_is_refused(tiny_bundle):
    large = signed(rows=np.full(64, 6e4, np.float16), columns=np.full(64, 6e4, np.float16))
    with pytest.raises(InvalidBundle, match="finite"):
        entries_of(tiny_bundle, adapters=large)


def test_a_pack_that_makes_something_else_than_it_says_is_refused(tiny_bundle):
    entries = entries_of(tiny_bundle)
    manifest = json.loads(entries["pack.json"]) | {"fingerprint": "00" * 8}
    pack = read_pack(zipped(entries | {"pack.json": json.dumps(manifest).encode()}), "liar.pack")
    with pytest.raises(InvalidBundle, match=r"liar.pack .*damaged"):
        merged(tiny_bundle, pack)


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries | {"evil.onnx": b""},
        lambda entries: {name: entries[name] for name in list(entries)[1:]},
        lambda entries: entries | {"adapters.safetensors": b"\xff" * 64},
        lambda entries: entries | {"pack.json": b"[" * 100_000},
        lambda entries: entries | {"pack.json": entries["pack.json"].replace(b'"schema":1', b'"schema":9')},
    ],
)
def test_other_entries_are_refused(change, tiny_bundle):
    with pytest.raises(InvalidBundle):
        read_pack(zipped(change(entries_of(tiny_bundle))), "hostile")


def test_compressed_entries_are_refused(tiny_bundle):
    with pytest.raises(InvalidBundle, match="compressed"):
        read_pack(zipped(entries_of(tiny_bundle), zipfile.ZIP_DEFLATED), "hostile")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_makes_anything_but_an_error(data, tiny_bundle):
    whole = bytearray(GOLDEN_PACK)
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        merged(tiny_bundle, read_pack(bytes(whole), "damaged"))
    except SoftstairError as error:
        assert str(error)


# For ever


def test_the_golden_pack_and_its_stream(tiny_bundle):
    expected = json.loads((FOLDER / "expected.json").read_text())
    adapted = merged(tiny_bundle, read_pack(GOLDEN_PACK, "tiny.pack"))
    assert adapted.fingerprint.hex() == expected["fingerprint"]
    data = (FOLDER / "plain.stair").read_bytes()
    assert read_header(data).pack == adapted.fingerprint
    assert symbol_hash(data, adapted) == expected["symbols"]
    with np.load(FOLDER / "plain.npz") as stored:
        assert np.abs(softstair.decode(data, bundle=adapted).astype(int) - stored["arr_0"]).max() <= 1


def test_no_shipped_bundle_has_the_golden_packs_fingerprint(tiny_bundle):
    with pytest.raises(BundleNotFound):
        find_bundle(tiny_bundle.fingerprint, read_pack(GOLDEN_PACK, "tiny.pack").fingerprint)
