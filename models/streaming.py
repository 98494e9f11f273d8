"""Enhancement of a signal that is still arriving: any number of samples in, those that are ready out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .dccrn import DCCRN
from .safe_load import ModelError
from .streaming_step import State, StreamingStep


@dataclass(frozen=True)
class StreamState:
    """All that a stream remembers. Never changed in place: keep one, and set it again to go back to it."""

    network: State
    waiting: Tensor  # [channels, less than a hop], samples that have arrived but do not fill a hop
    arrived: int  # samples
    hops: int  # fed to the network

    def copy(self) -> StreamState:
        """An independent copy, which shares no memory with the stream."""
        network = {name: tensor.clone() for name, tensor in self.network.items()}
        return replace(self, network=network, waiting=self.waiting.clone())


class StreamingEnhancer:
    """The network of `model` on a live signal; the outputs put together are what `model` gives for the whole.

        enhancer = StreamingEnhancer(model)
        estimate = enhancer.push(noisy)  # [n] to [m], any n; m may be 0
        rest = enhancer.flush()  # ends the signal; the next push starts another

    numpy arrays come out as numpy arrays.
    channels: None for signals [samples]; a number for [channels, samples], each channel a signal of its own.
    Samples are float, [-1, 1], at 16 kHz. A sample's estimate is ready `latency` samples after the sample began at
    the latest (1000, 62.5 ms, for the full network: window of 25 ms and one hop for each decoder layer).
    The model's weights are taken as they are now; later training does not reach the stream.
    """

    def __init__(self, model: DCCRN, channels: int | None = None) -> None:
        if not isinstance(model, DCCRN):
            raise ModelError(f"{type(model).__name__}: this network cannot be computed hop by hop; DCCRN can")
        with torch.no_grad():
            self.step = StreamingStep(model).eval()
        self.channels = channels
        self.latency = self.step.latency
        self._is_numpy = False
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next sample is the first."""
        network = self.step.first_state(self.channels or 1)
        self.state = StreamState(network, network["hops"].new_zeros(self.channels or 1, 0), 0, 0)

    def push(self, samples: Tensor | np.ndarray) -> Tensor | np.ndarray:
        """Noisy [n] to the estimate [m] that is ready now; with channels, [channels, n] to [channels, m].

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
        state = self.state
        samples = torch.cat([state.waiting, samples.to(state.waiting).view(self.channels or 1, -1)], 1)
        self.state = replace(state, arrived=state.arrived + samples.shape[1] - state.waiting.shape[1])
        whole = samples.shape[1] // self.step.hop * self.step.hop
        estimate = self._feed(samples[:, :whole], present=True)
        self.state = replace(self.state, waiting=samples[:, whole:])
        return self._as_given(estimate)

    def flush(self) -> Tensor | np.ndarray:
        """The estimate of all samples that have arrived and are not out yet; the stream starts anew."""
        state = self.state
        out = max(state.hops - self.step.delay, 0) * self.step.hop
        fill = -state.waiting.shape[1] % self.step.hop + self.step.edge * self.step.hop
        padded = torch.nn.functional.pad(state.waiting, (0, fill))
        silence = padded.new_zeros(padded.shape[0], self.step.look_ahead * self.step.hop)
        estimate = torch.cat([self._feed(padded, present=True), self._feed(silence, present=False)], 1)
        estimate = estimate[:, : state.arrived - out]
        self.reset()
        return self._as_given(estimate)

    def _as_given(self, estimate: Tensor) -> Tensor | np.ndarray:
        """Of the shape and kind of what was pushed last."""
        estimate = estimate[0] if self.channels is None else estimate
        return estimate.cpu().numpy() if self._is_numpy else estimate

    def _feed(self, samples: Tensor, present: bool) -> Tensor:
        """Whole hops through the network; what it puts out before the signal's beginning is dropped."""
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
        """`step` for a single hop, as TorchScript: a third of a hop's time is calling operations from Python.

        torch calls TorchScript deprecated; what it offers instead needs a C++ compiler and half a minute.
        """
        hop = self.state.waiting.new_zeros(self.channels or 1, self.step.hop)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the number of hops, which is fixed here, and of the deprecation
            traced = torch.jit.trace(self.step, (hop, self.state.network), check_trace=False, strict=False)
            return torch.jit.freeze(traced)
