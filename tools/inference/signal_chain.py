"""Enhancement of recordings at any rate, block by block."""

import typing
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from config import SAMPLE_RATE
from models.streaming import StreamingEnhancer, can_stream
from tools.common.errors import UserError
from tools.inference.high_band import HighBand, HighBandWay
from tools.inference.limiter import Limiter
from tools.inference.pieces import PieceEnhancer
from tools.inference.resampling import Resampler

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # Hz


@dataclass(frozen=True)
class Kept:
    """What to keep of the noisy signal. Raises UserError for values out of bounds."""

    mix: float = 0.0  # share of the noisy signal in the output, 0 to 1
    limit_db: float | None = None  # largest attenuation of a cell of the spectrum; None for no limit
    highband: HighBandWay = "follow"  # the band above 8 kHz

    def __post_init__(self) -> None:
        if not 0 <= self.mix <= 1:
            raise UserError(f"mix: found {self.mix}, expected 0 to 1")
        if self.limit_db is not None and not 0 < self.limit_db < np.inf:
            raise UserError(f"limit_db: found {self.limit_db}, expected a number of dB above 0")
        if self.highband not in typing.get_args(HighBandWay):
            raise UserError(
                f"highband: found {self.highband!r}, expected one of {', '.join(typing.get_args(HighBandWay))}"
            )


NOTHING_KEPT = Kept()


class SignalChain:
    """Resampling to the network's rate, the network on every channel, resampling back, mixing in the noisy signal.

        chain = SignalChain(model, rate=44_100, channels=2)
        estimate = chain.push(noisy)  # [n, channels] to [m, channels]
        rest = chain.finish()  # the whole output then has the length of the input, without delay

    Args:
        model: The network, on any device.
        rate, channels: Sample rate in Hz and number of channels.
        kept: What to keep of the noisy signal.
        peak: Highest magnitude of the signal; above 1, it is scaled down for the network, which clips at 1.
    """

    def __init__(
        self, model: nn.Module, rate: int, channels: int, kept: Kept = NOTHING_KEPT, peak: float = 1.0
    ) -> None:
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UserError(f"rate: found {rate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE}")
        enhancer = StreamingEnhancer if can_stream(model) else PieceEnhancer
        self.enhancer = enhancer(model, channels)
        self.limiter = None if kept.limit_db is None else Limiter(kept.limit_db, channels)
        self.low = np.zeros((0, channels), np.float32)  # the noisy signal that the limiter has not seen
        self.down = self.up = None
        if rate != SAMPLE_RATE:
            self.down = Resampler(rate, SAMPLE_RATE, channels)
            way = kept.highband if rate > SAMPLE_RATE else "drop"
            self.up = HighBand(way, rate, channels, 0.0 if kept.limit_db is None else 10 ** (-kept.limit_db / 20))
        self.mix, self.gain = kept.mix, max(peak, 1.0)
        self.taken = self.given = 0  # samples
        self.waiting = np.zeros((0, channels), np.float32)  # the noisy signal whose estimate is not out yet

    def push(self, noisy: np.ndarray) -> np.ndarray:
        """Return the output that is ready after float32 [n, channels]. Raises UserError for NaN or infinity."""
        if not np.isfinite(noisy).all():
            frame = self.taken + int(np.flatnonzero(~np.isfinite(noisy).all(1))[0])
            raise UserError(f"sample {frame} is {noisy[~np.isfinite(noisy)][0]}, expected finite numbers")
        return self._pass(noisy, last=False)

    def finish(self) -> np.ndarray:
        """Return the rest of the output."""
        return self._pass(self.waiting[:0], last=True)

    def _pass(self, noisy: np.ndarray, last: bool) -> np.ndarray:
        self.taken += len(noisy)
        noisy = noisy / np.float32(self.gain)
        x = self.down.push(noisy, last) if self.down else noisy
        low = torch.from_numpy(np.ascontiguousarray(x.T))
        y = self.enhancer.push(low)
        y = torch.cat([y, self.enhancer.flush()], 1) if last else y
        y = y.cpu().numpy().T
        if self.limiter:
            self.low = np.concatenate([self.low, x])
            matching, self.low = np.split(self.low, [len(y)])
            y = self.limiter.push(matching, y, last)
        if self.up:
            y = self.up.push(noisy, x, y, last)
        left = self.taken - self.given
        y = y[:left]
        if last:  # two resamplings may round the length down
            y = np.pad(y, ((0, left - len(y)), (0, 0)))
        self.given += len(y)
        return self._with_noisy(noisy, y) * np.float32(self.gain)

    def _with_noisy(self, noisy: np.ndarray, estimate: np.ndarray) -> np.ndarray:
        if self.mix == 0:
            return estimate
        self.waiting = np.concatenate([self.waiting, noisy])
        now, self.waiting = np.split(self.waiting, [len(estimate)])
        return estimate + np.float32(self.mix) * (now - estimate)
