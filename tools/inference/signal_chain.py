"""Enhancement of recordings at any rate, block by block."""

import typing
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import nn

from config import SAMPLE_RATE
from models.streaming import StreamingEnhancer, can_stream
from tools.common.errors import UserError
from tools.inference.gains import HighBand, HighBandWay, Limiter, Line

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # Hz
CHUNK_SECONDS, OVERLAP_SECONDS = 10, 1


@dataclass(frozen=True)
class EnhanceOptions:
    """What is done beside the network."""

    dry: float = 0.0
    """Share of the noisy signal in the output, 0 to 1."""
    limit_db: float | None = None
    """Largest attenuation of any part of the spectrum, such as 12; left out: no limit."""
    highband: HighBandWay = "follow"
    """Band above 8 kHz, which the network does not process: follow its gain from 4 to 8 kHz, keep, or drop."""

    def __post_init__(self) -> None:
        if not 0 <= self.dry <= 1:
            raise UserError(f"dry: found {self.dry}, expected 0 to 1")
        if self.limit_db is not None and not 0 < self.limit_db < np.inf:
            raise UserError(f"limit_db: found {self.limit_db}, expected a number of dB above 0")
        if self.highband not in typing.get_args(HighBandWay):
            raise UserError(
                f"highband: found {self.highband!r}, expected one of {', '.join(typing.get_args(HighBandWay))}"
            )


class SignalChain:
    """Resampling to the network's rate, the network on every channel, resampling back, and the options.

        chain = SignalChain(model, rate=44_100, channels=2)
        estimate = chain.push(noisy)  # [n, channels] to [m, channels]
        rest = chain.finish()  # the whole output then has the length of the input, without delay

    Args:
        model: The network, on any device.
        rate, channels: Sample rate in Hz and number of channels.
        options: What is done beside the network.
        peak: Highest magnitude of the signal; above 1, it is scaled down for the network, which clips at 1.
    """

    def __init__(
        self, model: nn.Module, rate: int, channels: int, options: EnhanceOptions, peak: float = 1.0
    ) -> None:
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UserError(f"rate: found {rate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE}")
        self.network = (StreamingEnhancer if can_stream(model) else ChunkEnhancer)(model, channels)
        self.limiter = self.down = self.up = None
        floor = 0.0 if options.limit_db is None else 10 ** (-options.limit_db / 20)
        if floor > 0:
            self.limiter = Limiter(floor, channels)
        if rate != SAMPLE_RATE:
            self.down = soxr.ResampleStream(rate, SAMPLE_RATE, channels)
            way = options.highband if rate > SAMPLE_RATE else "drop"
            self.up = HighBand(way, rate, channels, floor)
        self.dry, self.gain = np.float32(options.dry), np.float32(max(peak, 1.0))
        self.noisy = Line(channels)
        self.taken = self.given = 0  # samples

    def push(self, noisy: np.ndarray) -> np.ndarray:
        """Return the output that is ready after float32 [n, channels]. Raises UserError for NaN or infinity."""
        if not np.isfinite(noisy).all():
            frame = self.taken + int(np.flatnonzero(~np.isfinite(noisy).all(1))[0])
            raise UserError(f"sample {frame} is {noisy[~np.isfinite(noisy)][0]}, expected finite numbers")
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
            estimate = self.model(noisy).cpu().numpy()
        if self.before is not None:
            share = ((np.arange(self.overlap) + 0.5) / self.overlap).astype(np.float32)
            estimate[:, : self.overlap] = self.before + share * (estimate[:, : self.overlap] - self.before)
        end = samples if last else samples - self.overlap
        self.waiting, self.before = self.waiting[:, end:], None if last else estimate[:, end:]
        return estimate[:, :end]
