"""Every engine reads the same symbols and shows the same picture, a grey level apart at most."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import softstair
from softstair import engine as engines
from softstair.codec import networks_of, read_symbols
from softstair.engine import ENGINE_VARIABLE, Engine, choose_engine
from softstair.errors import InvalidBundle, UsageError

from ..tiny import photograph

ENGINES = [
    Engine.ONNX_RUNTIME,
    pytest.param(
        Engine.OPENVINO,
        marks=pytest.mark.skipif(
            not engines.openvino_installed(), reason="the extra openvino is not installed"
        ),
    ),
]
needs_openvino = ENGINES[1].marks[0]


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch) -> Engine:
    monkeypatch.setenv(ENGINE_VARIABLE, request.param)
    return request.param


def symbols_of(data):
    return [(symbols.z.tobytes(), symbols.y.tobytes()) for symbols in read_symbols(data, threads=1)]


@pytest.mark.parametrize("mode", ["scalar", "tcq32"])
def test_a_stream_of_one_engine_on_another(engine, monkeypatch, photo, mode):
    data = softstair.encode(photo, quality=60, mode=mode, threads=1)
    symbols, pixels = symbols_of(data), softstair.decode(data, threads=1).astype(int)
    monkeypatch.setenv(ENGINE_VARIABLE, Engine.ONNX_RUNTIME)
    assert symbols_of(data) == symbols
    assert np.abs(softstair.decode(data, threads=1) - pixels).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (17, 200), (250, 33)])
def test_sizes(engine, monkeypatch, size):
    pixels = photograph(*size)
    data = softstair.encode(pixels, threads=1)
    decoded = softstair.decode(data, threads=1).astype(int)
    monkeypatch.setenv(ENGINE_VARIABLE, Engine.ONNX_RUNTIME)
    assert np.abs(softstair.decode(data, threads=1) - decoded).max() <= 1


def test_many_threads_share_networks(engine, bundle):
    """Pictures of a folder go side by side through one set of networks."""
    networks = networks_of(bundle, 1)
    pictures = [np.full((1, 3, 32, 16 * (1 + index % 3)), index / 8, np.float32) for index in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(networks.analysis, pictures))
    for picture, latents in zip(pictures, together, strict=True):
        np.testing.assert_array_equal(networks.analysis(picture), latents)


def test_a_broken_graph_is_one_error(engine, bundle):
    class Broken:
        channels, integers = bundle.channels, bundle.integers

        def graph(self, name, mode):
            return b"no graph"

    networks = engines.load_networks(Broken(), 1, engine)
    with pytest.raises(InvalidBundle, match="analysis"):
        networks.analysis(np.zeros((1, 3, 16, 16), np.float32))


@needs_openvino
def test_openvino_computes_in_float32_and_reports_to_nobody(bundle):
    code = (
        "import sys, numpy as np, softstair\n"
        "from softstair.engine.openvino import OpenVinoNetworks\n"
        "networks = OpenVinoNetworks(softstair.open_bundle().graph, 1)\n"
        "networks.analysis(np.zeros((1, 3, 16, 16), np.float32))\n"
        "compiled, = networks._idle['analysis']\n"
        "assert compiled.get_property('INFERENCE_PRECISION_HINT').get_type_name() == 'f32'\n"
        "assert not any(name.startswith('openvino_telemetry') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unless_asked_for_openvino_is_not_loaded():
    code = (
        "import sys, numpy as np, softstair\n"
        "softstair.decode(softstair.encode(np.zeros((40, 50, 3), np.uint8)))\n"
        "assert 'openvino' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_engine_that_is_not_there(monkeypatch, small_photo):
    monkeypatch.setenv(ENGINE_VARIABLE, "abacus")
    with pytest.raises(UsageError, match="onnxruntime or openvino, not abacus"):
        softstair.encode(small_photo)
    monkeypatch.setattr(engines, "openvino_installed", lambda: False)
    monkeypatch.setenv(ENGINE_VARIABLE, "openvino")
    with pytest.raises(UsageError, match=r"softstair\[openvino\]"):
        softstair.encode(small_photo)
    monkeypatch.setenv(ENGINE_VARIABLE, "")
    assert choose_engine() is Engine.ONNX_RUNTIME
