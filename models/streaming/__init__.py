"""Streaming enhancement: blocks of any number of samples in, the samples that are ready out."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tools.common.errors import UserError

State = dict[str, Tensor]
TRACED_AFTER = 8  # blocks of a single hop


class Step(Protocol):
    """A network as a function of some hops of waveform and a state, as a network's `streaming_step` returns it.

        state = step.initial_state(batch)
        estimate, state = step(noisy, state, present)

    noisy, estimate: [B, T * hop] samples; present: [T], 1 for hops of the waveform and its ending, 0 for later
    ones (left out: all 1). A state is never changed in place, so it can be kept and used again.

    The estimate is delayed by `delay` hops. After a waveform, feed its `ending` with present 1, which fills the
    last hop, and then `look_ahead` hops of silence with present 0; without its first `delay` hops, the output
    equals that of the offline network for the whole waveform.
    """

    hop: int  # samples
    delay: int  # hops
    look_ahead: int  # hops
    history: int  # hops of past waveform that `ending` needs

    def initial_state(self, batch: int = 1) -> State: ...

    def ending(self, waveform: Tensor) -> Tensor: ...

    def __call__(self, noisy: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]: ...


def can_stream(model: nn.Module) -> bool:
    """Return whether the network can be computed hop by hop."""
    return getattr(model, "streams", hasattr(model, "streaming_step"))


def require_streaming(model: nn.Module) -> None:
    """Raise UserError for a network that cannot be computed hop by hop."""
    if not can_stream(model):
        raise UserError(
            f"{type(model).__name__} needs the whole recording and cannot enhance block by block; DCCRN, CRN, "
            "GTCRN and FullSubNet with --normalisation cumulative can"
        )


def streaming_step(model: nn.Module, for_export: bool = False) -> Step:
    """Return the network hop by hop, with a copy of its weights.

    for_export: for an ONNX graph instead of PyTorch.
    Raises UserError for a network that cannot be computed hop by hop.
    """
    require_streaming(model)
    with torch.no_grad():
        return model.streaming_step(for_export).eval()


@dataclass(frozen=True)
class StreamState:
    """The state of a stream, never changed in place: keep one and set it again to return to it."""

    network: State
    input: Tensor  # [channels, samples], the newest: some that were fed, and those that do not fill a hop yet
    arrived: int = 0  # samples
    hops: int = 0  # fed to the network


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
        self._single_hops = 0
        self.reset()

    def reset(self) -> None:
        """Clear the state: the next sample is the first."""
        network = self.step.initial_state(self.channels or 1)
        self.state = StreamState(network, next(iter(network.values())).new_zeros(self.channels or 1, 0))

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
        samples = samples.to(state.input).reshape(self.channels or 1, -1)
        arrived = state.arrived + samples.shape[1]
        waveform = torch.cat([state.input, samples], 1)
        begin, end = state.input.shape[1] - state.arrived % hop, waveform.shape[1] - arrived % hop
        estimate = self._feed(waveform[:, begin:end])
        kept = waveform[:, max(0, end - self.step.history * hop) :]
        self.state = replace(self.state, arrived=arrived, input=kept)
        return self._as_given(estimate)

    def flush(self) -> Tensor | np.ndarray:
        """Return the remaining estimate and reset the stream."""
        state, hop = self.state, self.step.hop
        waiting = state.input[:, state.input.shape[1] - state.arrived % hop :]
        last = torch.cat([waiting, self.step.ending(state.input)], 1)
        silence = last.new_zeros(last.shape[0], self.step.look_ahead * hop)
        rest = state.arrived - max(state.hops - self.step.delay, 0) * hop
        estimate = torch.cat([self._feed(last), self._feed(silence, present=False)], 1)[:, :rest]
        self.reset()
        return self._as_given(estimate)

    def _as_given(self, estimate: Tensor) -> Tensor | np.ndarray:
        """Return the estimate in the shape and type that was pushed last."""
        estimate = estimate[0] if self.channels is None else estimate
        return estimate.cpu().numpy() if self._is_numpy else estimate

    def _feed(self, samples: Tensor, present: bool = True) -> Tensor:
        """Return the network's output for whole hops, without what lies before the signal's beginning."""
        hops = samples.shape[1] // self.step.hop
        if hops == 0:
            return samples
        self._single_hops += hops == 1 and present
        with torch.inference_mode():
            if self._single_hops > TRACED_AFTER and hops == 1 and present:
                estimate, network = self._traced(samples, self.state.network)
            else:
                flags = None if present else samples.new_zeros(hops)
                estimate, network = self.step(samples, self.state.network, flags)
        early = min(max(self.step.delay - self.state.hops, 0), hops) * self.step.hop
        self.state = replace(self.state, network=network, hops=self.state.hops + hops)
        return estimate[:, early:]

    @functools.cached_property
    def _traced(self) -> Callable[[Tensor, State], tuple[Tensor, State]]:
        """Return `step` for a single hop, as TorchScript: this saves the calls from Python, a third of the time.

        TorchScript is deprecated, but torch's replacement needs a C++ compiler and half a minute. Tracing takes as
        long as tens of hops: a recording in large blocks, whose last one may be a single hop, does without it.
        """
        hop = self.state.input.new_zeros(self.channels or 1, self.step.hop)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about the deprecation, and the fixed number of hops
            traced = torch.jit.trace(self.step, (hop, self.state.network), check_trace=False, strict=False)
            return torch.jit.freeze(traced)
