"""Enhancement of recordings at any rate, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import soxr
from msgspec import Meta

from config import SAMPLE_RATE, PositiveFloat, check
from tools.common.errors import UserError
from tools.inference.gains import (
    LEVEL_SECONDS,
    TINY,
    HighBand,
    HighBandWay,
    Line,
    SlowGain,
    usual_gain,
)
from tools.inference.graph_stream import Graph, GraphStream

if TYPE_CHECKING:
    from torch import nn

    from models.streaming import StreamingEnhancer
    from models.streaming.chunks import ChunkEnhancer

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # Hz
BLOCK_SECONDS, LIVE_BLOCK_SECONDS = 2.0, 0.02
LEAD_SECONDS = 0.3


@dataclass(frozen=True)
class EnhanceOptions:
    """What is done beside the network."""

    dry: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the noisy signal in the output, 0 to 1."""
    limit_db: PositiveFloat | None = None
    """Largest attenuation: 12 keeps at least a quarter of the noisy signal, as --dry 0.25 does."""
    highband: HighBandWay = "follow"
    """Band above 8 kHz, which the network does not process: follow its gain from 4 to 8 kHz, keep, or drop."""

    stereo: Literal["linked", "separate"] = "linked"
    """Two channels: linked enhances their sum and difference, so that a voice in the middle stays there; separate
    is for a microphone for each talker."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Recording:
    """What is found by reading a recording before it is enhanced."""

    frames: int
    gain: np.ndarray  # [channels], to a usual level
    lead: np.ndarray  # [n, channels], its mirrored beginning


def inspect(blocks: Iterable[np.ndarray], rate: int) -> Recording:
    """Return what is found in a recording in blocks [n, channels], one or more.

    Its level is that of the loudest twentieth of its frames of 20 ms. Raises UserError for NaN and infinity.
    """
    frames, peak, powers, lead = 0, np.float32(TINY), [], None
    for block in blocks:
        require_finite(block, frames)
        if lead is None:
            lead = block[round(LEAD_SECONDS * rate) : 0 : -1].copy()
        size = min(len(block), max(1, round(LEVEL_SECONDS * rate)))
        whole = block[: len(block) // size * size]
        powers.append(np.square(whole).reshape(-1, size, block.shape[1]).mean(1))
        frames, peak = frames + len(block), np.maximum(peak, np.abs(block).max(0))
    level = np.sqrt(np.percentile(np.concatenate(powers), 95, axis=0))
    return Recording(frames, np.minimum(usual_gain(level), 1 / peak), lead)


def require_finite(samples: np.ndarray, before: int) -> None:
    """Raise UserError for NaN and infinity in [n, channels], given the number of samples before."""
    if not (finite := np.isfinite(samples).all(1)).all():
        raise UserError(f"sample {before + int(np.argmin(finite))} is NaN or infinity, expected finite numbers")


class SignalChain:
    """Resampling to the network's rate, the network on every channel, resampling back, and the options.

        chain = SignalChain(model, 44_100, 2, EnhanceOptions())
        estimate = chain.push(noisy)  # [n, channels] to [m, channels]
        rest = chain.finish()  # the whole output then has the length of the input, without delay

    Args:
        model: The network, on any device, or its streaming graph.
        rate, channels: Sample rate in Hz and number of channels.
        options: What is done beside the network.
        recording: What is known of the whole signal; left out for a live one, whose gain follows its level. The
            network's state is warmed up by the mirrored beginning.
        stream: Whether blocks are small, so that on a CPU onnxruntime is faster than PyTorch.
    """

    def __init__(
        self,
        model: nn.Module | Graph,
        rate: int,
        channels: int,
        options: EnhanceOptions,
        recording: Recording | None = None,
        stream: bool = False,
    ) -> None:
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UserError(f"rate: found {rate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE}")
        seconds = math.inf if recording is None else (recording.frames + len(recording.lead)) / rate
        self.network, warms_up = open_network(model, channels, seconds, stream)
        self.linked = options.stereo == "linked" and channels == 2
        self.down = self.up = None
        if rate != SAMPLE_RATE:
            self.down = soxr.ResampleStream(rate, SAMPLE_RATE, channels)
            way = options.highband if rate > SAMPLE_RATE else "drop"
            self.up = HighBand(way, rate, channels)
        floor = 0.0 if options.limit_db is None else 10 ** (-options.limit_db / 20)
        self.dry = np.float32(max(options.dry, floor))
        self.noisy, self.levels = Line(channels), Line(channels)  # whose estimate is not out yet, and its gains
        self.gain = SlowGain(rate, channels).push if recording is None else lambda _: recording.gain
        self.taken = self.given = 0  # samples
        self.early = 0  # samples of output to drop
        if recording is not None and warms_up:
            self.early = len(recording.lead)
            self.push(recording.lead)

    def push(self, noisy: np.ndarray) -> np.ndarray:
        """Return the output that is ready after float32 [n, channels]. Raises UserError for NaN and infinity."""
        require_finite(noisy, self.taken)
        return self._process(noisy, last=False)

    def finish(self) -> np.ndarray:
        """Return the rest of the output."""
        return self._process(self.noisy.samples[:0], last=True)

    def _process(self, noisy: np.ndarray, last: bool) -> np.ndarray:
        self.taken += len(noisy)
        gain = self.gain(noisy)
        gain = np.broadcast_to(gain.min(-1, keepdims=True) if self.linked else gain, noisy.shape)
        noisy = noisy * gain
        low = self.down.resample_chunk(np.ascontiguousarray(noisy), last) if self.down else noisy
        heard = sum_and_difference(low) / 2 if self.linked else low
        estimate = self.network.push(np.ascontiguousarray(heard.T)).T
        if last:
            estimate = np.concatenate([estimate, self.network.flush().T])
        if self.linked:
            estimate = sum_and_difference(estimate)
        if self.up:
            estimate = self.up.push(noisy, low, estimate, last)
        left = self.taken - self.given
        estimate = estimate[:left]
        if last:  # two resamplings may round the length down
            estimate = np.pad(estimate, ((0, left - len(estimate)), (0, 0)))
        self.given += len(estimate)
        present, gain = self.noisy.exchange(noisy, len(estimate)), self.levels.exchange(gain, len(estimate))
        estimate = (estimate + self.dry * (present - estimate)) / gain
        drop = min(self.early, len(estimate))
        self.early -= drop
        return estimate[drop:]


def sum_and_difference(stereo: np.ndarray) -> np.ndarray:
    """Return the sum of two channels and their difference, [n, 2]."""
    return np.stack([stereo.sum(1), stereo[:, 0] - stereo[:, 1]], 1)


def open_network(
    model: nn.Module | Graph, channels: int, seconds: float, stream: bool
) -> tuple[GraphStream | StreamingEnhancer | ChunkEnhancer, bool]:
    """Return the network for [channels, n] samples, block by block, and whether earlier ones warm it up.

    seconds: of the whole signal, infinity if it is not known. stream: whether blocks are small.
    """
    if isinstance(model, Graph):
        return GraphStream(model, channels), True
    from models.streaming import StreamingEnhancer, can_stream  # torch, which takes two seconds to load
    from models.streaming.chunks import CHUNK_SECONDS, ChunkEnhancer
    from tools.inference.onnx_graphs import streaming_graph

    if not can_stream(model):
        return ChunkEnhancer(model, channels), False
    if stream and next(model.parameters()).device.type == "cpu":
        return GraphStream(streaming_graph(model), channels), True
    return (ChunkEnhancer if seconds <= CHUNK_SECONDS else StreamingEnhancer)(model, channels), True
