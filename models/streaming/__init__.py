"""Streaming enhancement: blocks of any number of samples in, the samples that are ready out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from .step import State, Step, can_stream, require_streaming, streaming_step

__all__ = ["Step", "StreamState", "StreamingEnhancer", "can_stream", "require_streaming", "streaming_step"]


@dataclass(frozen=True)
class StreamState:
    """The state of a stream, never changed in place: keep one and set it again to return to it."""

    network: State
    heard: Tensor  # [channels, samples], the newest: some that were fed, and those that do not fill a hop yet
    arrived: int  # samples
    hops: int  # fed to the network

    def copy(self) -> StreamState:
        """Return an independent copy, which shares no memory with the stream."""
        network = {name: tensor.clone() for name, tensor in self.network.items()}
        return replace(self, network=network, heard=self.heard.clone())


class StreamingEnhancer:
    """The network of `model` on a live signal; the concatenated output equals that of `model` for the whole.

        enhancer = StreamingEnhancer(model)
        estimate = enhancer.push(noisy)  # [n] to [m], any n; m may be 0
        rest = enhancer.flush()  # ends the signal; the next push starts another

    numpy arrays give numpy arrays.
    channels: None for signals [samples]; a number for [channels, samples], enhanced separately.
    Samples are float, [-1, 1], at 16 kHz. The estimate of a sample is ready at most `latency` samples after it
    began (1000, 62.5 ms, for the full network: window of 25 ms and one hop for each decoder layer).
    The stream copies the model's weights; later training does not change it.
    """

    def __init__(self, model: nn.Module, channels: int | None = None) -> None:
        self.step = streaming_step(model)
        self.channels = channels
        self.latency = (self.step.delay + 1) * self.step.hop
        self._is_numpy = False
        self.reset()

    def reset(self) -> None:
        """Clear the state: the next sample is the first."""
        network = self.step.first_state(self.channels or 1)
        self.state = StreamState(network, next(iter(network.values())).new_zeros(self.channels or 1, 0), 0, 0)

    def push(self, samples: Tensor | np.ndarray) -> Tensor | np.ndarray:
        """Return the estimate [m] that is ready after noisy [n]; with channels, [channels, m] and [channels, n].

        Raises ValueError for another shape.
        """
        self._is_numpy = isinstance(samples, np.ndarray)
        if self._is_numpy:
            samples = torch.from_numpy(np.ascontiguousarray(samples))
        expected = "[samples]" if self.channels is None else f"[{self.channels}, samples]"
        if samples.ndim != (1 if self.channels is None else 2) or (
            samples.numel() and (self.channels not in (None, samples.shape[0]))
        ):
            raise ValueError(f"samples: found shape {list(samples.shape)}, expected {expected}")
        state, hop = self.state, self.step.hop
        samples = samples.to(state.heard).view(self.channels or 1, -1)
        waiting, arrived = state.arrived % hop, state.arrived + samples.shape[1]
        heard = torch.cat([state.heard, samples], 1)
        begin, end = state.heard.shape[1] - waiting, heard.shape[1] - arrived % hop
        estimate = self._feed(heard[:, begin:end], present=True)
        heard = heard[:, max(0, end - self.step.kept * hop) :]
        self.state = replace(self.state, arrived=arrived, heard=heard)
        return self._as_given(estimate)

    def flush(self) -> Tensor | np.ndarray:
        """Return the remaining estimate and reset the stream."""
        state = self.state
        out = max(state.hops - self.step.delay, 0) * self.step.hop
        waiting = state.heard[:, state.heard.shape[1] - state.arrived % self.step.hop :]
        last = torch.cat([waiting, self.step.ending(state.heard)], 1)
        silence = last.new_zeros(last.shape[0], self.step.look_ahead * self.step.hop)
        estimate = torch.cat([self._feed(last, present=True), self._feed(silence, present=False)], 1)
        estimate = estimate[:, : state.arrived - out]
        self.reset()
        return self._as_given(estimate)

    def _as_given(self, estimate: Tensor) -> Tensor | np.ndarray:
        """Return the estimate in the shape and type that was pushed last."""
        estimate = estimate[0] if self.channels is None else estimate
        return estimate.cpu().numpy() if self._is_numpy else estimate

    def _feed(self, samples: Tensor, present: bool) -> Tensor:
        """Return the network's output for whole hops, without what lies before the signal's beginning."""
        hops = samples.shape[1] // self.step.hop
        if hops == 0:
            return samples
        with torch.inference_mode():
            if hops == 1 and present:
                estimate, network = self._one_hop(samples, self.state.network)
            else:
                flags = None if present else samples.new_zeros(hops)
                estimate, network = self.step(samples, self.state.network, flags)
        early = min(max(self.step.delay - self.state.hops, 0), hops) * self.step.hop
        self.state = replace(self.state, network=network, hops=self.state.hops + hops)
        return estimate[:, early:]

    @functools.cached_property
    def _one_hop(self) -> Callable[[Tensor, State], tuple[Tensor, State]]:
        """Return `step` for a single hop, as TorchScript: this saves the calls from Python, a third of the time.

        TorchScript is deprecated, but torch's replacement needs a C++ compiler and half a minute.
        """
        hop = self.state.heard.new_zeros(self.channels or 1, self.step.hop)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about the deprecation, and the fixed number of hops
            traced = torch.jit.trace(self.step, (hop, self.state.network), check_trace=False, strict=False)
            return torch.jit.freeze(traced)
