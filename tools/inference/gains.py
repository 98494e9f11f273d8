"""Gains beside the network: a usual level, and the band above its 8 kHz."""

from typing import Literal

import numpy as np
import soxr

from config import SAMPLE_RATE

HighBandWay = Literal["follow", "keep", "drop"]
HOP = 80  # of the high band's gain, 5 ms at 16 kHz
WINDOW = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * HOP) / HOP)
LOWEST = 4000  # Hz: the gain above 8 kHz follows the network's from here on
TINY = 1e-15
USUAL = 0.02, 0.1  # root of the loud frames' power at which networks work alike: -34 to -20 dBFS
LEVEL_SECONDS = 0.02  # of a frame that a level is measured in
FALL_DB = 3  # a second, of a live signal's level


class Line:
    """Samples [n, channels] that wait for the rest of the chain, first in, first out."""

    def __init__(self, channels: int, zeros: int = 0) -> None:
        self.samples = np.zeros((zeros, channels), np.float32)

    def exchange(self, samples: np.ndarray, count: int) -> np.ndarray:
        """Append some samples; remove and return the first `count`."""
        first, self.samples = np.split(np.concatenate([self.samples, samples]), [count])
        return first


class HighBand:
    """Converts estimates from 16 kHz to a higher rate, with the noisy signal's band above 8 kHz.

    follow: the band is multiplied by the network's gain from 4 to 8 kHz, in frames of 10 ms; keep: unchanged;
    drop: silent.
    """

    def __init__(self, way: HighBandWay, rate: int, channels: int) -> None:
        self.way = way
        self.up = soxr.ResampleStream(SAMPLE_RATE, rate, channels * (1 if way == "drop" else 2))
        self.noisy = Line(channels)  # at `rate`
        self.low = Line(channels)  # at 16 kHz, whose estimate has not arrived
        self.pair = Line(2 * channels, zeros=HOP)  # noisy and estimate, for gains that are not known yet

    def push(self, noisy: np.ndarray, low: np.ndarray, estimate: np.ndarray, last: bool) -> np.ndarray:
        """Return what is ready, [k, channels] at the higher rate.

        noisy: [n, channels] at that rate; low: the same at 16 kHz; estimate: [m, channels], which may be late.
        """
        if self.way == "drop":
            return self.up.resample_chunk(np.ascontiguousarray(estimate), last)
        low = self.low.exchange(low, len(estimate))
        gain = np.ones_like(low)
        if self.way == "follow":
            low, estimate, gain = self._with_gain(low, estimate, last)
        changed = np.concatenate([estimate - gain * low, 1 - gain], 1)  # the gain is resampled as well
        changed = self.up.resample_chunk(np.ascontiguousarray(changed, np.float32), last)
        noisy = self.noisy.exchange(noisy, len(changed))
        changed, removed = np.split(changed[: len(noisy)], 2, 1)
        return (1 - removed) * noisy + changed

    def _with_gain(self, low: np.ndarray, estimate: np.ndarray, last: bool) -> list[np.ndarray]:
        """Return noisy signal, estimate and gain, [k, channels] each, in whole hops whose gain is known."""
        pair = np.concatenate([low, estimate], 1)
        if last:  # whole hops, and silence until the resampler has passed the end
            pair = np.pad(pair, ((0, -(len(self.pair.samples) + len(pair)) % HOP + 4 * HOP), (0, 0)))
        # Frame k lies over hops k and k + 1: it gives the gain between them.
        hops = (len(self.pair.samples) + len(pair)) // HOP - 2
        if hops <= 0:
            self.pair.exchange(pair, 0)
            return [array[:0] for array in (low, estimate, low)]
        waiting = np.concatenate([self.pair.samples, pair])
        self.pair.exchange(pair, hops * HOP)
        frames = np.lib.stride_tricks.sliding_window_view(waiting, 2 * HOP, axis=0)[::HOP][: hops + 1]
        spectra = np.fft.rfft(frames * WINDOW)[..., LOWEST * 2 * HOP // SAMPLE_RATE :]
        of_noisy, of_estimate = np.split(np.square(np.abs(spectra)).sum(2), 2, 1)
        gains = np.sqrt(of_estimate / np.maximum(of_noisy, 1e-12)).clip(0, 1)  # [hops + 1, channels]
        way = np.arange(HOP)[:, None] / HOP
        between = gains[:-1, None] * (1 - way) + gains[1:, None] * way  # [hops, HOP, channels]
        ready = waiting[HOP : (hops + 1) * HOP]
        return [*np.split(ready, 2, 1), between.reshape(len(ready), -1)]


def usual_gain(level: np.ndarray) -> np.ndarray:
    """Return the gain that brings a level, the root of a power, into the usual range; 1 for silence."""
    return np.where(level > 0, np.clip(level, *USUAL) / np.maximum(level, 1e-6), 1).astype(np.float32)


class SlowGain:
    """The gain that brings a live signal to a usual level, from what has passed.

    The level is that of the loudest frames of 20 ms, forgotten by 3 dB a second. The gain is the same for any size
    of the blocks.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.size = max(1, round(LEVEL_SECONDS * rate))
        self.level = np.zeros(channels)
        self.power, self.place = np.zeros(channels), 0  # sum of squares, and samples, of this frame so far
        self.before = self.after = np.ones(channels, np.float32)  # gains at both ends of this frame

    def push(self, noisy: np.ndarray) -> np.ndarray:
        """Return the gains [n, channels] of samples [n, channels]."""
        gains = [np.ones((0, noisy.shape[1]), np.float32)]
        while len(noisy):
            part, noisy = np.split(noisy, [self.size - self.place])
            way = (self.place + np.arange(len(part), dtype=np.float32)[:, None]) / self.size
            gains.append(self.before + way * (self.after - self.before))
            self.power = self.power + np.square(part, dtype=float).sum(0)
            self.place += len(part)
            if self.place == self.size:
                faded = self.level * 10 ** (-LEVEL_SECONDS * FALL_DB / 20)
                self.level = np.maximum(np.sqrt(self.power / self.size), faded)
                self.power, self.place = np.zeros_like(self.power), 0
                self.before, self.after = self.after, usual_gain(self.level)
        return np.concatenate(gains)
