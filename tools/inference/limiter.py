"""A limit of the attenuation by an enhancement, in each cell of the spectrogram."""

import numpy as np

FRAME, HOP = 512, 128  # samples at 16 kHz, 32 and 8 ms
WINDOW = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME))  # its squares add up to FRAME / HOP / 2
TINY = 1e-15


class Limiter:
    """Limits the attenuation in each cell of the spectrum to `limit_db`.

    It is applied to spectra of the output waveform: a limit on the network's frames would not hold after their
    overlap, where different phases cancel. It delays the signal by FRAME - HOP (24 ms).
    """

    def __init__(self, limit_db: float, channels: int) -> None:
        self.floor = 10 ** (-limit_db / 20)
        edge = np.zeros((FRAME - HOP, channels))
        self.noisy, self.estimate = edge, edge  # samples that later frames need
        self.sums = edge  # of the frames so far, for the next samples
        self.early = FRAME - HOP  # samples of output before the signal, to drop
        self.arrived = self.given = 0

    def push(self, noisy: np.ndarray, estimate: np.ndarray, last: bool) -> np.ndarray:
        """Return what is ready, [k, channels], after more samples of both, [n, channels]; last: the end."""
        self.arrived += len(estimate)
        if last:  # whole hops, and silence beyond
            more = ((0, -self.arrived % HOP + FRAME - HOP), (0, 0))
            noisy, estimate = np.pad(noisy, more), np.pad(estimate, more)
        self.noisy, self.estimate = np.concatenate([self.noisy, noisy]), np.concatenate([self.estimate, estimate])
        count = max(0, (len(self.estimate) - FRAME) // HOP + 1)
        starts = HOP * np.arange(count)[:, None] + np.arange(FRAME)
        spectra = [np.fft.rfft(x[starts] * WINDOW[:, None], axis=1) for x in (self.noisy, self.estimate)]
        frames = np.fft.irfft(hold(*spectra, self.floor), FRAME, axis=1) * WINDOW[:, None] * (2 * HOP / FRAME)
        sums = np.pad(self.sums, ((0, count * HOP), (0, 0)))
        for number, frame in enumerate(frames):
            sums[number * HOP : number * HOP + FRAME] += frame
        out, self.sums = np.split(sums, [count * HOP])
        self.noisy, self.estimate = self.noisy[count * HOP :], self.estimate[count * HOP :]
        drop = min(self.early, len(out))
        self.early -= drop
        out = out[drop:][: self.arrived - self.given]
        self.given += len(out)
        return out.astype(np.float32)


def hold(noisy: np.ndarray, estimate: np.ndarray, floor: float) -> np.ndarray:
    """Return the estimated spectra with magnitudes of at least `floor` times the noisy ones.

    The more a magnitude is raised, the more its phase, then unreliable, is replaced by the noisy one.
    """
    size, least = np.abs(estimate), floor * np.abs(noisy)
    share = np.minimum(size / np.maximum(least, TINY), 1)
    direction = estimate + floor * (1 - share) * noisy
    return direction * (np.maximum(size, least) / np.maximum(np.abs(direction), TINY))
