"""Streaming change of the sample rate, and measurement of its filter for the page in the browser."""

import math

import numpy as np
import soxr

LEAST_TAP = 1e-7
LEAD_SECONDS = 0.02  # of silence before and after a signal, which absorbs the edge effects of soxr


class Resampler:
    """soxr's stream of [n, channels] as a time-invariant filter, with silence before and after the signal.

    soxr itself processes the first and last milliseconds of a signal differently.
    """

    def __init__(self, source: int, target: int, channels: int) -> None:
        self.up, self.down = (n // math.gcd(source, target) for n in (target, source))
        rounds = math.ceil(LEAD_SECONDS * source / self.down)
        self.silence = np.zeros((rounds * self.down, channels), np.float32)
        self.early = rounds * self.up  # samples of output for the silence, to drop
        self.stream = soxr.ResampleStream(source, target, channels)
        self.stream_is_new = True
        self.received = self.given = 0

    def push(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """Return what is ready, [m, channels]; with `last` all that is left."""
        self.received += len(samples)
        pieces = [self.silence] * self.stream_is_new + [samples] + [self.silence] * last
        self.stream_is_new = False
        out = self.stream.resample_chunk(np.ascontiguousarray(np.concatenate(pieces), np.float32), last)
        drop = min(self.early, len(out))
        self.early -= drop
        out = out[drop:]
        if last:
            whole = (2 * self.received * self.up + self.down) // (2 * self.down)  # rounded
            out = out[: whole - self.given]
        self.given += len(out)
        return out


def measure_taps(source: int, target: int) -> np.ndarray:
    """Return soxr's resampling filter, float32 [phases, taps], measured with impulses.

    Output m is the sum over k of taps[m * down % up, k] x[m * down // up + k - half], with up / down = target /
    source in lowest terms, and taps 2 * half + 1 of them.
    """
    up, down = (n // math.gcd(source, target) for n in (target, source))
    half = 150 * max(1, -(-source // target))  # wide enough: the edges are cut off below
    spacing = (4 * half // down + 1) * down + 1  # puts an impulse at every phase modulo `down`
    impulses = np.zeros((down + 2) * spacing)
    places = spacing + spacing * np.arange(down)
    impulses[places] = 1
    answers = soxr.resample(impulses, source, target)
    taps = np.zeros((up, 2 * half + 1))
    for place in places:
        first, last = (-(-(place + side * half) * up // down) for side in (-1, 1))
        outputs = np.arange(first, last)
        k = place - outputs * down // up + half
        inside = (k >= 0) & (k <= 2 * half)
        taps[outputs[inside] * down % up, k[inside]] = answers[outputs[inside]]
    needed = np.flatnonzero(np.abs(taps).max(0) > LEAST_TAP)
    width = max(half - needed[0], needed[-1] - half)
    return taps[:, half - width : half + width + 1].astype(np.float32)
