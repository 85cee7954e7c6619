"""The mean network phase by phase: less is computed, and the means are those of the whole network."""

from __future__ import annotations

import numpy as np
import pytest

from softstair.codec.geometry import Borders
from softstair.codec.means import Means
from softstair.engine.in_turn import SplitMean, WholeMean
from softstair.engine.onnx_runtime import OnnxNetworks
from softstair.mode import Mode
from softstair.quantize.phases import PHASES, PLACES, phase_map, phase_slices


def latents(channels: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(0, 3, (1, channels, rows, columns)).astype(np.float32)


def expected_in_turn(mean, y) -> np.ndarray:
    """Means of all phases, each put where its latents are."""
    found = np.zeros_like(y)
    for phase in range(PHASES):
        if phase:
            mean.see(phase - 1, [y[0][phase_slices(y.shape[1], phase - 1, place)] for place in PLACES])
        for place, part in zip(PLACES, mean.expect(phase), strict=True):
            found[0][phase_slices(y.shape[1], phase, place)] = part
    return found


def test_slices_are_where_the_phase_map_says():
    phases = phase_map(8, 5, 7)
    for phase in range(PHASES):
        inside = np.zeros(phases.shape, bool)
        for place in PLACES:
            inside[phase_slices(8, phase, place)] = True
        np.testing.assert_array_equal(inside, phases == phase)


@pytest.mark.parametrize("name", ["bundle", "tiny_bundle"])
@pytest.mark.parametrize("size", [(12, 18), (2, 2), (7, 5), (1, 9), (9, 1)])
def test_parts_of_the_network_say_what_the_whole_says(name, size, request):
    bundle = request.getfixturevalue(name)
    networks, y = OnnxNetworks(bundle.graph, 1), latents(bundle.channels, *size)
    z_hat = np.rint(latents(bundle.integers.scale.layers["hyper"].weight.shape[1], 10, 10))
    base = networks.mean_base(z_hat, np.eye(1, bundle.points, 2, dtype=np.float32))
    base = np.ascontiguousarray(base[:, :, : size[0], : size[1]])
    before = base.copy()
    found = networks.mean_in_turn(base, bundle.channels)
    assert isinstance(found, SplitMean) == (min(size) > 1)  # else a class has no positions
    whole = expected_in_turn(WholeMean(networks.mean, base, bundle.channels), y)
    np.testing.assert_allclose(expected_in_turn(found, y), whole, atol=1e-4 * np.abs(whole).max())
    np.testing.assert_array_equal(base, before)


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 6), (5, 1), (2, 3)])
@pytest.mark.parametrize(
    "borders", [Borders(), Borders(True), Borders(False, True, True), Borders(True, True, True, True)]
)
def test_a_tile_is_shown_its_mirror_image(size, borders, tiny_bundle):
    networks, y = OnnxNetworks(tiny_bundle.graph, 1), latents(tiny_bundle.channels, *size)
    hyper = tiny_bundle.integers.scale.layers["hyper"].weight.shape[1]
    z_hat = np.rint(latents(hyper, (size[0] + 1) // 2, (size[1] + 1) // 2))
    means = Means(networks, z_hat, np.eye(1, tiny_bundle.points, dtype=np.float32), size, borders)
    found, phases = np.zeros_like(y), phase_map(*y.shape[1:])
    in_turn = means.in_turn(y.shape[1])
    for phase in range(PHASES):
        known = np.where(phases < phase, y, 0)
        expected = means.of_phase(networks.mean, known, phase)
        in_turn.put_into(found, phase)
        mine = phases == phase
        np.testing.assert_allclose(found[0][mine], expected[mine], atol=1e-4 * np.abs(expected).max())
        found[0][mine] = y[0][mine]


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 6), (40, 3)])
@pytest.mark.parametrize("borders", [Borders(), Borders(True, False, True, True)])
@pytest.mark.parametrize("mode", [Mode.SCALAR, Mode.TCQ8])
def test_symbols_are_put_back_where_means_are(size, borders, mode, tiny_bundle):
    networks, setting = OnnxNetworks(tiny_bundle.graph, 1), tiny_bundle.at(40, mode)
    hyper = tiny_bundle.integers.scale.layers["hyper"].weight.shape[1]
    z_hat = np.rint(latents(hyper, (size[0] + 1) // 2, (size[1] + 1) // 2))
    rng = np.random.default_rng(2)
    symbols = rng.integers(-3, 4, (*size, tiny_bundle.channels)).astype(np.int16)
    symbols[rng.random(symbols.shape) < 0.02] = 40  # beyond those that are looked up
    at_once, one_by_one = (
        Means(networks, z_hat, setting.hat, size, borders).in_turn(tiny_bundle.channels) for _ in range(2)
    )
    found, expected = np.zeros((2, 1, tiny_bundle.channels, *size), np.float32)
    phases = phase_map(*found.shape[1:])
    for phase in range(PHASES):
        at_once.put_back(found, phase, symbols, setting)
        one_by_one.put_into(expected, phase)
        value = symbols.transpose(2, 0, 1) * np.float32(0.5 if mode.states > 1 else 1)
        said = value * setting.step[:, None, None]
        expected[0][phases == phase] += said[phases == phase]
        np.testing.assert_array_equal(found, expected)


def test_a_network_that_is_written_down_otherwise_stays_whole(tiny_bundle):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(tiny_bundle.graph("mean"))
    last = model.graph.node[-1]
    last.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Abs", ["before"], ["output"]))
    networks = OnnxNetworks({"mean": model.SerializeToString()}.__getitem__, 1)
    base = latents(16, 6, 8)  # the width of the tiny network
    found = networks.mean_in_turn(base, tiny_bundle.channels)
    assert isinstance(found, WholeMean)
    assert min(part.min() for part in found.expect(0)) >= 0
