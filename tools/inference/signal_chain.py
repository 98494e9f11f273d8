"""From a recording at any rate to its enhancement at that rate, block by block."""

from __future__ import annotations

import numpy as np
import soxr
import torch

from models import DCCRN
from models.streaming import StreamingEnhancer
from tools.common.audio import SAMPLE_RATE
from tools.common.errors import UserError


class SignalChain:
    """Resampling to the network's rate, the network on every channel, resampling back, some of the noisy signal.

        chain = SignalChain(model, rate=44_100, channels=2)
        estimate = chain.push(noisy)  # [n, channels] to [m, channels]
        rest = chain.finish()  # then as many samples are out as went in, none of them shifted

    Args:
        model: The network; it may lie on any device.
        rate, channels: Of the signal, in Hz.
        mix: Share of the noisy signal in the output, 0 to 1.
        peak: Highest magnitude of the signal; the network clips beyond 1, so what is higher passes it scaled down.
    """

    def __init__(self, model: DCCRN, rate: int, channels: int, mix: float = 0.0, peak: float = 1.0) -> None:
        self.enhancer = StreamingEnhancer(model, channels)
        self.down = self.up = None
        if rate != SAMPLE_RATE:
            self.down = soxr.ResampleStream(rate, SAMPLE_RATE, channels)
            self.up = soxr.ResampleStream(SAMPLE_RATE, rate, channels)
        self.mix, self.gain = mix, max(peak, 1.0)
        self.taken = self.given = 0  # samples
        self.kept = np.zeros((0, channels), np.float32)  # the noisy signal whose estimate is not out yet

    def push(self, noisy: np.ndarray) -> np.ndarray:
        """Float32 [n, channels], [-peak, peak], to what is ready now. Raises UserError for NaN and infinity."""
        if not np.isfinite(noisy).all():
            frame = self.taken + int(np.flatnonzero(~np.isfinite(noisy).all(1))[0])
            raise UserError(f"sample {frame} is {noisy[~np.isfinite(noisy)][0]}, expected finite numbers")
        return self._pass(noisy, last=False)

    def finish(self) -> np.ndarray:
        """The rest of the signal's estimate."""
        return self._pass(self.kept[:0], last=True)

    def _pass(self, noisy: np.ndarray, last: bool) -> np.ndarray:
        self.taken += len(noisy)
        x = noisy / self.gain
        if self.down:
            x = self.down.resample_chunk(np.ascontiguousarray(x), last)
        x = torch.from_numpy(np.ascontiguousarray(x.T))
        y = self.enhancer.push(x)
        y = torch.cat([y, self.enhancer.flush()], 1) if last else y
        y = y.cpu().numpy().T
        if self.up:
            y = self.up.resample_chunk(np.ascontiguousarray(y), last)
        left = self.taken - self.given
        y = y[:left] * self.gain
        if last:  # two resamplings may round the length down
            y = np.pad(y, ((0, left - len(y)), (0, 0)))
        self.given += len(y)
        return self._with_noisy(noisy, y)

    def _with_noisy(self, noisy: np.ndarray, estimate: np.ndarray) -> np.ndarray:
        if self.mix == 0:
            return estimate
        self.kept = np.concatenate([self.kept, noisy])
        now, self.kept = np.split(self.kept, [len(estimate)])
        return estimate + np.float32(self.mix) * (now - estimate)
