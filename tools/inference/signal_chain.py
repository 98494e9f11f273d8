"""Enhancement of recordings at any rate, block by block."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import soxr
import torch
from msgspec import Meta
from torch import nn

from config import SAMPLE_RATE, PositiveFloat, check
from models.streaming import StreamingEnhancer, can_stream
from tools.common.errors import UserError
from tools.inference.gains import HighBand, HighBandWay, Limiter, Line

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # Hz
BLOCK_SECONDS, LIVE_BLOCK_SECONDS = 4.0, 0.02
CHUNK_SECONDS, OVERLAP_SECONDS = 10, 1


@dataclass(frozen=True)
class EnhanceOptions:
    """What is done beside the network."""

    dry: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the noisy signal in the output, 0 to 1."""
    limit_db: PositiveFloat | None = None
    """Largest attenuation of any part of the spectrum, such as 12; left out: no limit."""
    highband: HighBandWay = "follow"
    """Band above 8 kHz, which the network does not process: follow its gain from 4 to 8 kHz, keep, or drop."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Recording:
    """What is found by reading a recording before it is enhanced."""

    frames: float
    peak: float  # highest magnitude; floating-point files may go beyond 1


LIVE = Recording(math.inf, 1.0)


def inspect(blocks: Iterable[np.ndarray]) -> Recording:
    """Return the properties of a recording in blocks [n, channels]."""
    frames, peak = 0, 0.0
    for block in blocks:
        frames, peak = frames + len(block), max(peak, float(np.abs(block).max()))
    return Recording(frames, peak)


class SignalChain:
    """Resampling to the network's rate, the network on every channel, resampling back, and the options.

        chain = SignalChain(model, rate=44_100, channels=2)
        estimate = chain.push(noisy)  # [n, channels] to [m, channels]
        rest = chain.finish()  # the whole output then has the length of the input, without delay

    Args:
        model: The network, on any device.
        rate, channels: Sample rate in Hz and number of channels.
        options: What is done beside the network.
        recording: What is known of the whole signal; left out for a live one. Above a peak of 1, it is scaled down
            for the network, which clips at 1. Signals of up to 10 s are enhanced as a whole, which is faster.
    """

    def __init__(
        self,
        model: nn.Module,
        rate: int,
        channels: int,
        options: EnhanceOptions,
        recording: Recording = LIVE,
    ) -> None:
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UserError(f"rate: found {rate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE}")
        is_short = recording.frames <= CHUNK_SECONDS * rate
        self.network = (StreamingEnhancer if can_stream(model) and not is_short else ChunkEnhancer)(
            model, channels
        )
        self.limiter = self.down = self.up = None
        floor = 0.0 if options.limit_db is None else 10 ** (-options.limit_db / 20)
        if floor > 0:
            self.limiter = Limiter(floor, channels)
        if rate != SAMPLE_RATE:
            self.down = soxr.ResampleStream(rate, SAMPLE_RATE, channels)
            way = options.highband if rate > SAMPLE_RATE else "drop"
            self.up = HighBand(way, rate, channels, floor)
        self.dry, self.gain = np.float32(options.dry), np.float32(max(recording.peak, 1.0))
        self.noisy = Line(channels)
        self.taken = self.given = 0  # samples

    def push(self, noisy: np.ndarray) -> np.ndarray:
        """Return the output that is ready after float32 [n, channels]. Raises UserError for NaN and infinity."""
        if not np.isfinite(noisy).all():
            first = int(np.flatnonzero(~np.isfinite(noisy).all(1))[0])
            raise UserError(f"sample {self.taken + first} is NaN or infinity, expected finite numbers")
        return self._process(noisy, last=False)

    def finish(self) -> np.ndarray:
        """Return the rest of the output."""
        return self._process(self.noisy.samples[:0], last=True)

    def _process(self, noisy: np.ndarray, last: bool) -> np.ndarray:
        self.taken += len(noisy)
        noisy = noisy / self.gain
        low = self.down.resample_chunk(np.ascontiguousarray(noisy), last) if self.down else noisy
        estimate = self.network.push(np.ascontiguousarray(low.T)).T
        if last:
            estimate = np.concatenate([estimate, self.network.flush().T])
        if self.limiter:
            estimate = self.limiter.push(low, estimate, last)
        if self.up:
            estimate = self.up.push(noisy, low, estimate, last)
        left = self.taken - self.given
        estimate = estimate[:left]
        if last:  # two resamplings may round the length down
            estimate = np.pad(estimate, ((0, left - len(estimate)), (0, 0)))
        self.given += len(estimate)
        present = self.noisy.exchange(noisy, len(estimate))
        return (estimate + self.dry * (present - estimate)) * self.gain


class ChunkEnhancer:
    """A network that needs the whole recording, on overlapping chunks, with the interface of `StreamingEnhancer`.

    Signals of up to 10 s are enhanced as a whole. Longer ones are cut into chunks of 5.5 to 10 s that overlap by a
    second, over which the estimate fades from one to the next.
    """

    chunk, overlap = CHUNK_SECONDS * SAMPLE_RATE, OVERLAP_SECONDS * SAMPLE_RATE  # samples

    def __init__(self, model: nn.Module, channels: int) -> None:
        self.model = model
        self.device = next(model.parameters(), torch.empty(0)).device
        self.waiting = np.zeros((channels, 0), np.float32)  # from the next chunk on
        self.before: np.ndarray | None = None  # the end of the last estimate, which overlaps the next chunk
        self.latency = 2 * self.chunk - self.overlap

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Return the estimate [channels, m] that is ready after [channels, n]."""
        self.waiting = np.concatenate([self.waiting, samples], 1)
        ready = [self.waiting[:, :0]]
        while self.waiting.shape[1] >= self.latency:  # leaves a whole chunk or more
            ready.append(self._next(self.chunk))
        return np.concatenate(ready, 1)

    def flush(self) -> np.ndarray:
        """Return the rest of the estimate, of one chunk or of two of equal length."""
        left = self.waiting.shape[1]
        ready = [self._next((left + self.overlap + 1) // 2)] if left > self.chunk else []
        ready.append(self._next(self.waiting.shape[1], last=True))
        return np.concatenate(ready, 1)

    def _next(self, samples: int, last: bool = False) -> np.ndarray:
        """Return the next chunk's estimate up to the beginning of the chunk after it."""
        with torch.inference_mode():
            noisy = torch.from_numpy(self.waiting[:, :samples]).to(self.device)
            estimate = torch.cat([self.model(pair) for pair in noisy.split(2)]).cpu().numpy()
        if self.before is not None:
            share = ((np.arange(self.overlap) + 0.5) / self.overlap).astype(np.float32)
            estimate[:, : self.overlap] = self.before + share * (estimate[:, : self.overlap] - self.before)
        end = samples if last else samples - self.overlap
        self.waiting, self.before = self.waiting[:, end:], None if last else estimate[:, end:]
        return estimate[:, :end]
