"""The band above the network's 8 kHz in recordings at higher rates: follow the network's gain, keep, or drop."""

from typing import Literal

import numpy as np
from scipy.signal import butter, sosfilt

from config import SAMPLE_RATE
from tools.inference.resampling import Resampler

HighBandWay = Literal["follow", "keep", "drop"]
FRAME = 80  # samples at 16 kHz, 5 ms
LOWEST = 4000  # Hz: the gain above 8 kHz follows the network's from here on
MEMORY = 0.5  # smoothing factor of the energies from frame to frame: 7 ms
HIGH_PASS = butter(4, LOWEST, "highpass", fs=SAMPLE_RATE, output="sos")


class HighBand:
    """Converts estimates from 16 kHz to a higher rate, with the noisy signal's band above 8 kHz.

        band = HighBand("follow", rate, channels)
        estimate = band.push(noisy, low_noisy, low_estimate, last=False)

    follow: the band is multiplied by the network's gain from 4 to 8 kHz, smoothed over 7 ms; keep: unchanged;
    drop: silent. noisy: [n, channels] at `rate`; low_noisy, low_estimate: [m, channels] at 16 kHz, of which
    the estimate may come later. floor: least gain.
    """

    def __init__(self, way: HighBandWay, rate: int, channels: int, floor: float = 0.0) -> None:
        self.way, self.rate, self.channels, self.floor = way, rate, channels, floor
        # One resampler for estimate and noisy signal keeps them aligned.
        self.up = Resampler(SAMPLE_RATE, rate, channels if way == "drop" else 2 * channels)
        self.noisy = np.zeros((0, channels), np.float32)  # at `rate`, not out yet
        self.low = np.zeros((0, channels), np.float32)  # whose estimate has not arrived
        self.raised = np.zeros((0, 2 * channels), np.float32)  # estimate and noisy, at `rate`, not out yet
        self.given = 0  # samples
        self.gains = Gains(channels, floor)

    def push(self, noisy: np.ndarray, low_noisy: np.ndarray, low_estimate: np.ndarray, last: bool) -> np.ndarray:
        """Return what is ready now, [k, channels] at `rate`; with `last`, all that is left."""
        if self.way == "drop":
            return self.up.push(low_estimate, last)
        self.noisy = np.concatenate([self.noisy, noisy])
        self.low = np.concatenate([self.low, low_noisy])
        matching, self.low = np.split(self.low, [len(low_estimate)])
        pair = np.concatenate([low_estimate, matching], 1)
        if self.way == "follow":
            self.gains.push(pair, last)
        self.raised = np.concatenate([self.raised, self.up.push(pair, last)])
        ready = min(len(self.raised), len(self.noisy))
        if self.way == "follow" and not last:
            ready = min(ready, max(0, self.gains.known_until * self.rate // SAMPLE_RATE - self.given))
        out, self.raised = np.split(self.raised, [ready])
        present, self.noisy = np.split(self.noisy, [ready])
        estimate, low = np.split(out, 2, 1)
        gain = 1.0
        if self.way == "follow":
            gain = self.gains.between(np.arange(self.given, self.given + ready) * (SAMPLE_RATE / self.rate))
        self.given += ready
        return (estimate + gain * (present - low)).astype(np.float32)


class Gains:
    """The network's gain in the upper part of its band, over time."""

    def __init__(self, channels: int, floor: float) -> None:
        self.floor = floor
        self.filter_state = np.zeros((len(HIGH_PASS), 2, 2 * channels))
        self.waiting = np.zeros((0, 2 * channels))  # filtered, less than a frame
        self.energies = np.zeros(2 * channels)
        self.frame = 0  # number of the first gain in `kept`
        self.kept = np.zeros((0, channels))  # gain at the beginning of each frame

    @property
    def known_until(self) -> int:
        """Return the sample at 16 kHz up to which gains are available."""
        return max(0, self.frame + len(self.kept) - 1) * FRAME

    def push(self, pair: np.ndarray, last: bool) -> None:
        """Compute the gains for more of estimate and noisy signal, joined to [m, 2 * channels] at 16 kHz."""
        if len(pair):
            filtered, self.filter_state = sosfilt(HIGH_PASS, pair, axis=0, zi=self.filter_state)
            self.waiting = np.concatenate([self.waiting, filtered])
        if last:  # pad the last frame with silence
            self.waiting = np.pad(self.waiting, ((0, -len(self.waiting) % FRAME), (0, 0)))
        whole = len(self.waiting) // FRAME * FRAME
        frames, self.waiting = np.split(self.waiting, [whole])
        for energy in np.square(frames).reshape(-1, FRAME, self.energies.size).sum(1):
            self.energies = MEMORY * self.energies + energy
            estimate, noisy = np.split(self.energies, 2)
            gain = np.sqrt(estimate / np.maximum(noisy, 1e-12)).clip(self.floor, 1)
            self.kept = np.concatenate([self.kept, gain[None]])

    def between(self, times: np.ndarray) -> np.ndarray:
        """Return the gains [n, channels] at times in samples at 16 kHz, and drop earlier ones."""
        if not len(times) or not len(self.kept):
            return np.ones((len(times), 1))
        places = times / FRAME - self.frame
        before = np.clip(places.astype(int), 0, len(self.kept) - 1)
        after = np.minimum(before + 1, len(self.kept) - 1)
        way = np.clip(places - before, 0, 1)[:, None]
        gains = (1 - way) * self.kept[before] + way * self.kept[after]
        self.frame += int(before[-1])
        self.kept = self.kept[before[-1] :]
        return gains
