"""The synthesis in layers: what blocks of them show is what the whole graph shows."""

from __future__ import annotations

import numpy as np
import pytest

from softstair import _core
from softstair.engine import in_blocks
from softstair.engine.onnx_runtime import OnnxNetworks
from softstair.engine.synthesis_graph import synthesis_layers
from softstair.errors import InvalidBundle
from softstair.tiles import Box

SIZE = 13, 17


class Whole(OnnxNetworks):
    """The graph in one piece."""

    def layers(self):
        return None


def inputs(bundle) -> tuple[np.ndarray, np.ndarray]:
    """Latents and hat weights between two points."""
    latents = np.random.default_rng(1).normal(0, 2, (1, bundle.channels, *SIZE)).astype(np.float32)
    hat = np.zeros((1, bundle.points), np.float32)
    hat[0, -2:] = 0.25, 0.75
    return latents, hat


@pytest.mark.parametrize("name", ["bundle", "tiny_bundle"])
@pytest.mark.parametrize("cells", [12, 2300])
@pytest.mark.parametrize("shown", [Box(0, 0, *SIZE), Box(5, 0, 8, 17), Box(6, 9, 13, 10)])
def test_blocks_show_what_the_whole_shows(name, cells, shown, request, monkeypatch):
    bundle = request.getfixturevalue(name)
    monkeypatch.setattr(in_blocks, "_MOST_CELLS", cells)
    latents, hat = inputs(bundle)
    assert synthesis_layers(bundle.graph("synthesis")) is not None
    whole = Whole(bundle.graph, 1).synthesis(latents, hat)
    assert whole.shape == (1, 3, *(16 * side for side in SIZE))
    expected = whole[:, :, *shown.times(16).slices]
    found = OnnxNetworks(bundle.graph, 1).synthesis(latents, hat, shown)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(whole).max())
    np.testing.assert_array_equal(Whole(bundle.graph, 1).synthesis(latents, hat, shown), expected)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_blocks_are_shared_among_threads(threads, tiny_bundle, monkeypatch):
    monkeypatch.setattr(in_blocks, "_LEAST_ROWS", 6)
    monkeypatch.setattr(in_blocks, "_LEAST_COLUMNS", 6)
    latents, hat = inputs(tiny_bundle)
    alone, together = (OnnxNetworks(tiny_bundle.graph, t).synthesis(latents, hat) for t in (1, threads))
    np.testing.assert_allclose(together, alone, atol=2e-6 * np.abs(alone).max())


def test_a_network_that_is_written_down_otherwise_stays_whole(tiny_bundle):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(tiny_bundle.graph("synthesis"))
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Abs", ["before"], ["output"]))
    networks = OnnxNetworks({"synthesis": model.SerializeToString()}.__getitem__, 1)
    latents, hat = inputs(tiny_bundle)
    found = networks.synthesis(latents, hat, Box(1, 2, 5, 6))
    assert found.shape == (1, 3, 64, 64)
    assert found.min() >= 0
    with pytest.raises(InvalidBundle, match="synthesis"):
        OnnxNetworks(tiny_bundle.graph, 1).synthesis(latents, hat[:, 1:])


@pytest.mark.parametrize("operator", ["Add", "Concat"])
def test_a_graph_that_names_itself_over_and_over_stays_whole(operator, tiny_bundle):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(tiny_bundle.graph("synthesis"))
    attributes = {"axis": 1} if operator == "Concat" else {}
    for node in model.graph.node:
        node.input[:] = [name if name != "latents" else "twice.99" for name in node.input]
    names = ["latents", *(f"twice.{i}" for i in range(100))]
    for i in range(100):
        twice = onnx.helper.make_node(operator, [names[i]] * 2, [names[i + 1]], **attributes)
        model.graph.node.insert(i, twice)
    assert synthesis_layers(model.SerializeToString()) is None
    del model.graph.node[0]
    model.graph.node[0].input[:] = ["twice.99"] * 2  # a circle
    assert synthesis_layers(model.SerializeToString()) is None


def test_patches_are_spread_where_they_lie():
    block = np.arange(4 * 5 * 2 * 2 * 3, dtype=np.float32).reshape(4, 5, 12)
    expected = block.reshape(4, 5, 2, 2, 3).swapaxes(1, 2).reshape(8, 10, 3)
    plane = np.zeros((8, 10, 3), np.float32)
    _core.spread(block, 1, 2, 3, 2, 2, False, plane, 0, 6)
    np.testing.assert_array_equal(plane[:6, 6:], expected[2:8, 4:8])
    assert not plane[6:].any()
    assert not plane[:, :6].any()
    _core.spread(block, 1, 2, 3, 2, 2, True, plane, 0, 6)
    np.testing.assert_array_equal(plane[:6, 6:], 2 * expected[2:8, 4:8])
    for top, left, rows, columns, factor, row, column in (
        (2, 0, 3, 2, 2, 0, 0),
        (0, 4, 1, 2, 2, 0, 0),
        (0, 0, 4, 2, 2, 2, 0),
        (0, 0, 1, 2, 2, 0, 8),
        (0, 0, 1, 1, 2, 1, 0),
        (0, 0, 1, 1, 3, 0, 0),
    ):
        with pytest.raises(ValueError, match="patches"):
            _core.spread(block, top, left, rows, columns, factor, False, plane, row, column)
