"""ONNX graphs compute what PyTorch does, for any length, as a whole and as a stream, without this project."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from networks import STREAMING, offline, trained_like
from programs import refused, run

from tools import enhance
from tools.inference import enhance as enhance_waveform
from tools.inference.graph_stream import Graph, GraphStream
from tools.inference.onnx_graphs import export_offline, export_step, streaming_graph

EXAMPLE = Path(__file__).parents[1] / "tools" / "enhance_onnx.py"
KINDS = [
    {"mask": "E"},
    {"mask": "C", "norm": "complex"},
    {"mask": "R", "lstm": "real"},
    {"mask": "none", "skip": False},
    {"name": "CRN"},
    {"name": "CRN without skips"},
    {"name": "FullSubNet cumulative"},
    {"name": "GTCRN"},
]


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def model(request):
    return trained_like(**request.param)


def test_the_offline_graph_takes_any_length_and_batch(tmp_path, model):
    assert export_offline(model, tmp_path / "a.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    for shape in ((1, 1), (1, 100), (4, 101), (1, 256), (2, 512), (2, 5678)):
        noisy = torch.randn(shape) * 0.1
        estimate = session.run(None, {"noisy": noisy.numpy()})[0]
        with torch.no_grad():
            np.testing.assert_allclose(estimate, model(noisy), rtol=0, atol=1e-5)


def test_the_streaming_graph_gives_the_offline_estimate(tmp_path, model):
    assert export_step(model, tmp_path / "a.onnx") < 1e-5
    stream = GraphStream(Graph((tmp_path / "a.onnx").read_bytes()), 2)
    for samples, block in itertools.product((1, 99, 100, 255, 256, 257, 511, 512, 513, 2345), (1600, 37)):
        noisy = 0.1 * torch.randn(2, samples)
        blocks = noisy.numpy()[:, :0], *np.split(noisy.numpy(), range(block, samples, block), 1)
        estimate = np.concatenate([*map(stream.push, blocks), stream.flush()], 1)
        with torch.no_grad():
            np.testing.assert_allclose(estimate, model(noisy), rtol=0, atol=1e-5)


def test_a_graph_enhances_files_as_its_network_does_and_other_graphs_are_refused(here, capsys):
    model = trained_like("GTCRN")
    export_step(model, Path("step.onnx"))
    export_offline(model, Path("whole.onnx"))
    Path("text.onnx").write_text("no graph")
    noisy = (0.1 * np.random.default_rng(0).standard_normal((1, 9000))).astype(np.float32)
    soundfile.write("a.wav", noisy[0], 16000, subtype="FLOAT")
    assert run(enhance, "step.onnx", "a.wav", "-o", "b.wav") == 0
    estimate = enhance_waveform(noisy, 16000, model)[0]
    np.testing.assert_allclose(soundfile.read("b.wav")[0], estimate, rtol=0, atol=1e-5)
    for name, reason in {"whole": "a graph of whole recordings", "text": "not a graph that onnxruntime"}.items():
        error = refused(capsys, enhance, f"{name}.onnx", "a.wav", "-o", "c.wav")
        assert f"error: {name}.onnx: {reason}" in error


@pytest.mark.parametrize(("name", "latency"), STREAMING.items())
def test_a_graph_gives_every_sample_no_later_than_the_latency(name, latency):
    stream, ready = GraphStream(streaming_graph(trained_like(name)), 1), 0
    assert stream.latency == latency
    for arrived in range(10, 2501, 10):
        ready += stream.push(np.zeros((1, 10), np.float32)).shape[1]
        assert ready > arrived - latency


@pytest.mark.parametrize(
    ("graph", "name"),
    [("offline", "DCCRN"), ("step", "DCCRN"), ("step", "GTCRN"), ("step", "FullSubNet cumulative")],
)
def test_the_example_needs_nothing_of_this_project(tmp_path, graph, name):
    model = trained_like(name)
    {"offline": export_offline, "step": export_step}[graph](model, tmp_path / "a.onnx")
    noisy = 0.1 * np.random.default_rng(0).standard_normal(4352)
    soundfile.write(tmp_path / "a.wav", noisy, 16000)
    command = [sys.executable, "-I", str(EXAMPLE), "a.onnx", "a.wav", "b.wav"]
    subprocess.run(command, cwd=tmp_path, check=True)
    whole = offline(model, soundfile.read(tmp_path / "a.wav", dtype="float32")[0])
    estimate = soundfile.read(tmp_path / "b.wav", dtype="float32")[0]
    np.testing.assert_allclose(estimate, whole, rtol=0, atol=1 / 32768)


def test_int8_is_smaller_and_near_also_on_processors_whose_8_bit_products_overflow(tmp_path):
    model = trained_like()
    export_step(model, tmp_path / "whole.onnx")
    assert export_step(model, tmp_path / "int8.onnx", int8=True) < 0.02
    assert (tmp_path / "int8.onnx").stat().st_size < 0.7 * (tmp_path / "whole.onnx").stat().st_size
