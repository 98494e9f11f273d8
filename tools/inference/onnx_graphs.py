"""ONNX graphs of the network, for whole recordings and for a step of a stream, checked in onnxruntime."""

import contextlib
import functools
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import SAMPLE_RATE
from models.streaming import Step, streaming_step
from tools.common.errors import UserError
from tools.common.files import replacing
from tools.inference.graph_stream import Graph, open_graph

OPSET = 17
WORTH_HALVING = 64  # values of a weight: the node that converts it takes some 120 bytes
TOLERANCE = 1e-4  # largest allowed difference between a graph and PyTorch


class OfflineGraph(nn.Module):
    """The network on whole waveforms [B, samples], without FFT and complex numbers, which ONNX lacks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.step = streaming_step(model, for_export=True)

    def forward(self, noisy: Tensor) -> Tensor:
        whole, present = with_ending(self.step, noisy)
        estimate, _ = self.step(whole, self.step.initial_state(noisy.shape[0]), present)
        return estimate[:, self.step.delay * self.step.hop :][:, : noisy.shape[1]]


class StepGraph(nn.Module):
    """The streaming step with its state as separate arguments and results, in the order of `names`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.step = streaming_step(model, for_export=True)
        self.names = list(self.step.initial_state())

    def forward(self, noisy: Tensor, present: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        estimate, following = self.step(noisy, dict(zip(self.names, state, strict=True)), present)
        return estimate, *(following[name] for name in self.names)


@functools.cache
def streaming_graph(model: nn.Module) -> Graph:
    """Return the graph of a network's streaming step, kept for the next call: exporting it takes some 3 s."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.onnx"
        export_step(model, path)
        return Graph(path.read_bytes())


def with_ending(step: Step, noisy: Tensor) -> tuple[Tensor, Tensor]:
    """Return the input of a step for a whole waveform [B, samples], and its `present` flags."""
    present = torch.cat([noisy, step.ending(noisy)], 1)
    whole = F.pad(present, (0, step.look_ahead * step.hop))
    hops = present.shape[1] // step.hop
    return whole, torch.cat([noisy.new_ones(hops), noisy.new_zeros(step.look_ahead)])


def export_offline(model: nn.Module, path: Path, int8: bool = False) -> float:
    """Write the graph from noisy [batch, samples] to estimate; return its largest difference from PyTorch.

    Raises UserError if the difference is too large.
    """
    axes = {"noisy": {0: "batch", 1: "samples"}, "estimate": {0: "batch", 1: "samples"}}
    with _exported(OfflineGraph(model), {"noisy": _noise(2, 1234)}, ["estimate"], axes, path, int8) as session:
        pairs = []
        for shape in ((1, 1), (3, 4000), (1, 16001)):
            noisy = _noise(*shape)
            pairs.append((noisy, session.run(None, {"noisy": noisy.numpy()})[0]))
        return _largest_difference(model, pairs, path, int8)


def export_step(model: nn.Module, path: Path, int8: bool = False) -> float:
    """Write the graph of a streaming step; return its largest difference from PyTorch over a whole signal.

    Inputs: noisy [1, T * hop], present [T] and a state_* for every array of the state; outputs: estimate
    [1, T * hop] and a next_* for every array. The graph's metadata holds sample_rate, hop, look_ahead, and the
    ending of a `Step`: `edge` hops of silence, or (mirrored 1) the signal mirrored.
    Raises UserError if the difference is too large.
    """
    graph = StepGraph(model)
    step = graph.step
    state = {f"state_{name}": tensor for name, tensor in step.initial_state().items()}
    inputs = {"noisy": _noise(1, 3 * step.hop), "present": torch.ones(3), **state}
    outputs = ["estimate", *(f"next_{name}" for name in graph.names)]
    axes = {"noisy": {1: "block"}, "present": {0: "hops"}, "estimate": {1: "block"}}
    with _exported(graph, inputs, outputs, axes, path, int8, describe_step(step)) as session:
        noisy = _noise(1, 37 * step.hop + 1)
        whole, present = (tensor.numpy() for tensor in with_ending(step, noisy))
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        blocks = []
        for hops in np.split(np.arange(len(present)), [1, 2, 5, 30]):
            block = whole[:, hops[0] * step.hop : (hops[-1] + 1) * step.hop]
            results = session.run(None, {"noisy": block, "present": present[hops], **arrays})
            blocks.append(results[0])
            arrays = dict(zip(state, results[1:], strict=True))
        estimate = np.concatenate(blocks, 1)[:, step.delay * step.hop :][:, : noisy.shape[1]]
        return _largest_difference(model, [(noisy, estimate)], path, int8)


def describe_step(step: Step) -> dict[str, int]:
    """Return what a program needs to feed a step: sizes in hops of `hop` samples, and the kind of its ending."""
    sizes = {"hop": step.hop, "edge": step.delay - step.look_ahead, "look_ahead": step.look_ahead}
    return sizes | {"mirrored": int(step.history > 0), "sample_rate": SAMPLE_RATE}


@contextlib.contextmanager
def _exported(
    graph: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    axes: dict[str, dict[int, str]],
    path: Path,
    int8: bool,
    metadata: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Any]:
    """Yield an onnxruntime session of the exported graph, which is kept if the block succeeds."""
    import onnx

    with replacing(path) as temporary:
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of the tracer, about Python numbers that do not depend on the signal
            torch.onnx.export(
                graph.eval(),
                tuple(inputs.values()),
                str(temporary),
                input_names=list(inputs),
                output_names=outputs,
                dynamic_axes=axes,
                opset_version=OPSET,
                do_constant_folding=int8,  # which needs constant weights; else onnxruntime does it
                dynamo=False,
            )
        if int8:
            _quantise(temporary)
        content = onnx.load(temporary)
        _store_in_halves(content.graph)
        onnx.helper.set_model_props(content, {name: str(value) for name, value in metadata.items()})
        onnx.save(content, temporary)
        yield open_graph(Graph(temporary.read_bytes()))


def _quantise(path: Path) -> None:
    """Quantise weights of products and LSTMs to 7 bits, stored as 8, and their inputs dynamically to 8 bits.

    With 8 bits of both, onnxruntime's sums of two products overflow on processors without VNNI.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(path, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def _store_in_halves(graph: Any) -> None:
    """Store weights that half precision holds exactly, as those of the packaged network, in half of the space."""
    import onnx

    for weight in graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= WORTH_HALVING and (values == np.float16(values)).all():
            name, half = weight.name, f"{weight.name}_half"
            weight.CopyFrom(onnx.numpy_helper.from_array(np.float16(values), half))
            graph.node.insert(0, onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))


def _noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _largest_difference(model: nn.Module, pairs: list[tuple[Tensor, np.ndarray]], path: Path, int8: bool) -> float:
    """Return the largest difference of estimates from the model's. Raises UserError if it is too large."""
    with torch.no_grad():
        largest = max(float(np.abs(model(noisy).numpy() - estimate).max()) for noisy, estimate in pairs)
    if not int8 and largest > TOLERANCE:
        raise UserError(f"{path}: onnxruntime differs from PyTorch by {largest:.1e}, expected {TOLERANCE}")
    return largest
