"""Whoever made a bundle: it can make pictures, and nothing else."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softstair
from softstair.bundle import installed, open_bundle, read_bundle, write_bundle
from softstair.codec import decode_picture
from softstair.errors import BundleError, CorruptStream, InvalidBundle
from softstair.graphs import INPUTS, check_graph
from softstair.stream import read_stream, write_stream

from ..commands.test_commands import run
from ..conftest import GOLDEN
from ..tiny import photograph
from .test_bundle import TINY, entries_of

onnx = pytest.importorskip("onnx", reason="the extra learn is not installed")
FLOAT = onnx.TensorProto.FLOAT
PLAIN = (GOLDEN / "v1" / "plain.stair").read_bytes()


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def graph_of(nodes: list, tensors=(), inputs=("latents", "hat"), kind: int = FLOAT, **more) -> bytes:
    """A synthesis of one's own."""
    infos = [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in inputs]
    output = onnx.helper.make_tensor_value_info("output", kind, None)
    graph = onnx.helper.make_graph(nodes, "graph", infos, [output], list(tensors))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], **more)
    model.ir_version = 8
    return model.SerializeToString()


def node(operator: str, *inputs: str, output: str = "output", **attributes):
    return onnx.helper.make_node(operator, list(inputs), [output], **attributes)


def decode_with(synthesis: bytes, name: str = "synthesis.onnx"):
    """The plain stream by a bundle with another graph."""
    bundle = read_bundle(zipped(entries_of(TINY) | {name: synthesis}), "hostile")
    stream = read_stream(PLAIN)
    header = replace(stream.header, fingerprint=bundle.fingerprint)
    return decode_picture(write_stream(replace(stream, header=header)), bundle, threads=1)


def refused(graph: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        check_graph(graph, "synthesis")
    with pytest.raises(InvalidBundle, match=f"synthesis.onnx .*{word}"):
        decode_with(graph)


# What points outside


def outside(how: str) -> onnx.TensorProto:
    tensor = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "secret")
    tensor.ClearField("raw_data")
    if how == "both" or how == "place":
        tensor.data_location = onnx.TensorProto.EXTERNAL
    if how == "both" or how == "path":
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "secret.bin"
    return tensor


@pytest.mark.parametrize("how", ["both", "place", "path"])
def test_tensors_in_other_files_are_refused(how, tmp_path, monkeypatch):
    (tmp_path / "secret.bin").write_bytes(np.full(3, 0.75, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    add = node("Add", "latents", "secret")
    refused(graph_of([add], [outside(how)]), "tensor")
    constant = node("Constant", output="secret", value=outside(how))
    refused(graph_of([constant, add]), "tensor")


def test_a_changed_analysis_carries_no_file_out(tiny_bundle):
    """Its bytes are not in the fingerprint, so that they are looked at like all others."""
    graph = graph_of([node("Add", "picture", "secret")], [outside("both")], ["picture"])
    entries = entries_of(TINY) | {"analysis.onnx": graph}
    with pytest.raises(InvalidBundle, match=r"analysis.onnx .*tensor"):
        read_bundle(zipped(entries), "hostile")


# What may never end, or does something else


def body() -> onnx.GraphProto:
    return onnx.helper.make_graph([], "body", [], [])


@pytest.mark.parametrize(
    ("nodes", "word"),
    [
        ([node("Loop", "latents", body=body())], "operator that no bundle needs, Loop"),
        (
            [node("If", "latents", then_branch=body(), else_branch=body())],
            "operator that no bundle needs, If",
        ),
        ([node("ConstantOfShape", "hat")], "ConstantOfShape"),
        ([node("Add", "latents", "latents", body=body())], "attribute with field 6"),
        ([node("Evil", "latents", domain="evil")], "Evil"),
        ([node("Add", "latents", "latents", domain="evil")], "foreign domain"),
    ],
)
def test_loops_branches_and_foreign_operators_are_refused(nodes, word):
    refused(graph_of(nodes), word)


def test_functions_are_refused():
    opset = onnx.helper.make_opsetid("", 17)
    function = onnx.helper.make_function("", "Add", ["a"], ["b"], [node("Abs", "a", output="b")], [opset])
    refused(graph_of([node("Add", "latents", "latents")], functions=[function]), "model with field 25")


def test_a_foreign_opset_is_refused():
    model = onnx.load_from_string(entries_of(TINY)["synthesis.onnx"])
    model.opset_import.append(onnx.helper.make_opsetid("evil", 1))
    refused(model.SerializeToString(), "foreign domain")


@pytest.mark.parametrize("inputs", [["latents"], ["latents", "hat", "more"], ["picture"]])
def test_other_inputs_are_refused(inputs):
    refused(graph_of([node("Abs", inputs[0])], inputs=inputs), "other inputs or outputs")


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x3a\xff\xff\xff\xff\x0f", b"\x3b", b"\xff" * 40])
def test_what_is_no_graph_is_refused(data):
    with pytest.raises(ValueError, match="graph|field"):
        check_graph(data, "synthesis")


@pytest.mark.parametrize("name", INPUTS)
def test_graphs_of_all_bundles_pass(name):
    found = [entries_of(path.read_bytes()) for path in GOLDEN.rglob("*.stairs")]
    found += [dict(bundle.entries) for bundle in installed()]
    graphs = [entries[f"{name}.onnx"] for entries in found if f"{name}.onnx" in entries]
    if name == "icon":
        graphs.append((GOLDEN / "icon" / "tiny.onnx").read_bytes())
    else:  # of the quick ones none has a head
        assert len(graphs) >= len(list(installed())) - (name == "preview") * 2
    for graph in graphs:
        check_graph(graph, name)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_graphs_are_refused_or_pass_and_never_crash(data):
    graph = bytearray(entries_of(TINY)["mean_base.onnx"])
    for _ in range(data.draw(st.integers(1, 5))):
        graph[data.draw(st.integers(0, len(graph) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_graph(bytes(graph), "mean_base")
    except ValueError as error:
        assert str(error)


# What comes out


def flat(*shape: int, value: float = 0.5, dtype: type = np.float32) -> bytes:
    """A synthesis that gives the same, whatever it sees."""
    tensor = onnx.numpy_helper.from_array(np.full(shape, value, dtype))
    return graph_of(
        [node("Constant", value=tensor)], kind=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    )


@pytest.mark.parametrize(
    ("graph", "word"),
    [
        (flat(1, 3, 16, 16), r"shape \(1, 3, 16, 16\)"),
        (flat(1, 1, 80, 96), r"shape \(1, 1, 80, 96\)"),
        (flat(7), r"shape \(7,\)"),
        (flat(1, 3, 80, 96, dtype=np.int64), "int64"),
        (flat(1, 3, 80, 96, dtype=np.float64), "float64"),
        (flat(1, 3, 80, 96, value=np.nan), "not finite"),
        (flat(1, 3, 80, 96, value=np.inf), "not finite"),
    ],
)
def test_outputs_of_other_kinds_are_refused(graph, word):
    with pytest.raises(InvalidBundle, match=f"synthesis .*{word}"):
        decode_with(graph)


def test_an_output_that_is_right_is_a_picture():
    np.testing.assert_array_equal(decode_with(flat(1, 3, 80, 96)).pixels, np.full((75, 90, 3), 128))


@pytest.mark.parametrize(
    ("name", "inputs"), [("mean", ["known", "base", "phase"]), ("mean_base", ["z_hat", "hat"])]
)
def test_outputs_of_the_mean_networks_are_looked_at(name, inputs):
    constant = node("Constant", output="k", value=onnx.numpy_helper.from_array(np.float32(np.nan)))
    graph = graph_of([constant, node("Add", inputs[0], "k")], inputs=inputs)
    with pytest.raises(InvalidBundle, match=f"graph {name} "):
        decode_with(graph, f"{name}.onnx")


def test_latents_that_only_a_stream_can_make_up_are_not_the_bundles_fault(tiny_bundle):
    from softstair.codec import networks_of

    networks = networks_of(tiny_bundle, 1)
    hat = np.full((1, tiny_bundle.points), 1 / tiny_bundle.points, np.float32)
    with pytest.raises(CorruptStream, match="no picture has"), np.errstate(all="ignore"):
        networks.synthesis(np.full((1, tiny_bundle.channels, 2, 2), 3e38, np.float32), hat)


# The other entries


def changed(name: str, change: Callable[[dict], None]) -> bytes:
    content = json.loads(entries_of(TINY)[name])
    change(content)
    return zipped(entries_of(TINY) | {name: json.dumps(content).encode()})


def test_deep_json_and_numbers_beyond_sense_are_refused():
    manifest = entries_of(TINY)["manifest.json"]
    deep = b'"provenance":{"x":' + b"[" * 200_000 + b"]" * 200_000 + b","
    with pytest.raises(InvalidBundle, match=r"manifest.json"):
        read_bundle(
            zipped(entries_of(TINY) | {"manifest.json": manifest.replace(b'"provenance":{', deep, 1)}), "b"
        )
    for base in (2**62, 2**31 - 1, -(2**40)):
        with pytest.raises(InvalidBundle):
            read_bundle(changed("staircases.json", lambda found, base=base: found.update(base=base)), "b")


def test_one_bad_file_among_the_models_is_passed_over(tmp_path, monkeypatch, tiny_bundle):
    (tmp_path / "a.stairs").write_bytes(b"not a bundle")
    (tmp_path / "b.stairs").write_bytes(TINY)
    monkeypatch.setenv("SOFTSTAIR_MODELS", str(tmp_path))
    with pytest.warns(UserWarning, match=r"a.stairs .*passed over"):
        assert open_bundle("tiny").fingerprint == tiny_bundle.fingerprint
    done = run(
        "decode", GOLDEN / "v1" / "plain.stair", "-o", tmp_path / "a.png", SOFTSTAIR_MODELS=str(tmp_path)
    )
    assert done.returncode == 0
    assert done.stderr.startswith(b"softstair: Bundle ")
    assert b"passed over" in done.stderr.splitlines()[0]


def test_a_bundle_for_decoding_alone(tmp_path, tiny_bundle):
    entries = {name: content for name, content in entries_of(TINY).items() if "analysis" not in name}
    write_bundle(tmp_path / "decoder.stairs", entries)
    bundle = open_bundle(tmp_path / "decoder.stairs")
    assert (bundle.fingerprint, bundle.encodes) == (tiny_bundle.fingerprint, False)
    np.testing.assert_array_equal(
        decode_picture(PLAIN, bundle).pixels, decode_picture(PLAIN, tiny_bundle).pixels
    )
    with pytest.raises(BundleError, match="can only decode"):
        softstair.encode(photograph(20, 30), bundle=bundle)
