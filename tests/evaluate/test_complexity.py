"""The cost of the tiny bundle against one counted by hand.

Its sizes are those of tiny.TINY_RECIPE: 16, 32 and 64 channels at 1/4, 1/8 and 1/16 of a side, 64
latents, 16 hyper latents, 32 wide hyper networks, 16 wide context and scale networks.
"""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="evaluation needs the extra eval")
pytest.importorskip("ssimulacra2", reason="evaluation needs the extra eval")

from softstair.bundle import Bundle
from softstair.errors import InvalidBundle
from softstair.evaluate import complexity_of

PIXELS = 768 * 512
POINTS = 11

# Products a position, at a resolution; a block is two 3x3 convolutions, to 8 channels and back.
SYNTHESIS = (
    64 * 64 / 256  # head
    + 2 * 9 * 64 * 8 / 256  # a deep block
    + 64 * 4 * 32 / 256  # to four times 32 channels, spread over 2x2 positions
    + 2 * 9 * 32 * 8 / 64
    + 32 * 4 * 16 / 64
    + 2 * 9 * 16 * 8 / 16
    + 9 * 16 * 48 / 16  # to 4x4 pixels of 3 colours
    + POINTS * 64 / PIXELS  # the bias of the rate
)
SCALE = (
    (9 * 16 * 16 + 16 * 4 * 16) / 1024  # hyper, expand
    + (9 * 16 * 16 + 16 * 64 + 64 * 16) / 256  # mix, log_scale_head, log_scale_entry
    + 3 * (25 * 64 + 64 * 16) / 256  # neighbours, gather: not in the first phase
    + 4 * (9 * 16 + 16 * 16) / 256  # local, widen
    + 16 * 64 / 256  # correction_head: a quarter in every phase
)


def test_the_synthesis_costs_what_a_hand_counts(tiny_bundle):
    parts = {part.name: part for part in complexity_of(tiny_bundle, "tiny").parts}
    assert 1000 * parts["synthesis"].kmac == pytest.approx(SYNTHESIS, abs=1e-6)
    weights = 64 * 64 + 2 * 9 * 64 * 8 + 64 * 128 + 2 * 9 * 32 * 8 + 32 * 64 + 2 * 9 * 16 * 8 + 9 * 16 * 48
    biases = 64 + (8 + 64) + 128 + (8 + 32) + 64 + (8 + 16) + 48
    assert parts["synthesis"].parameters == weights + biases + POINTS * 64


def test_the_scale_network_costs_what_a_hand_counts(tiny_bundle):
    parts = {part.name: part for part in complexity_of(tiny_bundle, "tiny").parts}
    assert 1000 * parts["scale"].kmac == pytest.approx(SCALE, abs=1e-6)


def test_both_directions_predict_symbols(tiny_bundle):
    cost = complexity_of(tiny_bundle, "tiny")
    kmac = {part.name: part.kmac for part in cost.parts}
    predict = kmac["scale"] + kmac["mean_base"] + kmac["mean"]
    assert cost.decoder_kmac == pytest.approx(predict + kmac["synthesis"])
    assert cost.encoder_kmac == pytest.approx(predict + kmac["analysis"] + kmac["hyper_analysis"])
    assert cost.parameters == sum(part.parameters for part in cost.parts)
    assert (cost.fingerprint, cost.bundle_bytes) == (tiny_bundle.fingerprint.hex(), tiny_bundle.size)


def test_a_graph_that_cannot_be_read_is_named(tiny_bundle):
    entries = dict(tiny_bundle.entries) | {"synthesis.onnx": b"no graph"}
    with pytest.raises(InvalidBundle, match="The graph synthesis of broken cannot be counted"):
        complexity_of(Bundle(entries, "broken"), "tiny")
