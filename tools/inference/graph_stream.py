"""A network's streaming graph on a signal, in onnxruntime, without torch, which takes two seconds to load."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from tools.common.errors import UserError

PACKAGED = Path(__file__).parents[2] / "models" / "pretrained" / "enhancer.onnx"  # exported from enhancer.pt


@dataclass(frozen=True)
class Graph:
    """The content of a file by `tools.export --streaming`, and the number of threads that compute it."""

    content: bytes
    threads: int = 1


@functools.cache
def packaged_graph(threads: int = 1) -> Graph:
    """Return the graph of the packaged network."""
    return read_graph(PACKAGED, threads)


def read_graph(path: Path, threads: int = 1) -> Graph:
    """Return the streaming graph in a file. Raises UserError for another file."""
    graph = Graph(path.read_bytes(), threads)
    try:
        sizes = open_graph(graph).get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime has a type for each reason
        raise UserError(f"{path}: not a graph that onnxruntime reads ({error})") from None
    if "hop" not in sizes:
        raise UserError(f"{path}: a graph of whole recordings, expected one by tools.export --streaming")
    return graph


@functools.lru_cache(maxsize=4)
def open_graph(graph: Graph) -> onnxruntime.InferenceSession:
    """Return a session on the CPU, the same for each call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = graph.threads
    return onnxruntime.InferenceSession(graph.content, options, providers=["CPUExecutionProvider"])


class GraphStream:
    """A graph on every channel of a signal, with the interface and output of `StreamingEnhancer(channels=n)`.

    Arrays only: float32 [channels, samples], at 16 kHz.
    """

    def __init__(self, graph: Graph, channels: int) -> None:
        self.session, self.channels = open_graph(graph), channels
        sizes = {name: int(size) for name, size in self.session.get_modelmeta().custom_metadata_map.items()}
        self.hop, self.edge, self.look_ahead = (sizes[name] for name in ("hop", "edge", "look_ahead"))
        self.is_mirrored = bool(sizes["mirrored"])
        self.delay = self.edge + self.look_ahead  # hops
        self.latency = (self.delay + 1) * self.hop
        self.reset()

    def reset(self) -> None:
        """Clear the state: the next sample is the first."""
        inputs = self.session.get_inputs()[2:]
        self.states = self.channels * [{array.name: np.zeros(array.shape, np.float32) for array in inputs}]
        self.newest = np.zeros((self.channels, 0), np.float32)  # up to three hops, the last of them incomplete
        self.arrived, self.given = 0, -self.delay * self.hop

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Return the estimate [channels, m] that is ready after [channels, n]."""
        begin = self.newest.shape[1] - self.arrived % self.hop
        signal = np.concatenate([self.newest, samples], 1)
        self.arrived += samples.shape[1]
        self.newest = signal[:, -3 * self.hop :]
        return self._feed(signal[:, begin : signal.shape[1] - self.arrived % self.hop])

    def flush(self) -> np.ndarray:
        """Return the rest of the estimate; the next push starts another signal."""
        hop = self.hop
        waiting = self.newest[:, self.newest.shape[1] - self.arrived % hop :]  # of the incomplete hop
        if self.is_mirrored:
            newest = np.pad(self.newest, ((0, 0), (0, max(0, hop + 1 - self.arrived))))
            mirrored = hop - max(self.arrived, hop + 1) % hop
            newest = np.pad(newest, ((0, 0), (0, mirrored)), mode="reflect")
            last = newest[:, self.newest.shape[1] - waiting.shape[1] :]
        else:
            last = np.pad(waiting, ((0, 0), (0, -waiting.shape[1] % hop + self.edge * hop)))
        left = self.arrived - max(self.given, 0)
        silence = np.zeros((self.channels, self.look_ahead * hop), np.float32)
        estimate = np.concatenate([self._feed(last), self._feed(silence, present=0)], 1)[:, :left]
        self.reset()
        return estimate

    def _feed(self, samples: np.ndarray, present: int = 1) -> np.ndarray:
        """Return the estimate of whole hops, without what lies before the signal's beginning."""
        hops = samples.shape[1] // self.hop
        if hops == 0:
            return samples
        estimate = np.empty_like(samples)
        flags = np.full(hops, present, np.float32)
        for number, (noisy, state) in enumerate(zip(samples, self.states, strict=True)):
            estimate[number], *following = self.session.run(
                None, {"noisy": noisy[None], "present": flags, **state}
            )
            self.states[number] = dict(zip(state, following, strict=True))
        early = max(0, -self.given)
        self.given += samples.shape[1]
        return estimate[:, early:]
