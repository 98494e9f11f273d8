"""Changing the rate of a signal that is still arriving, and the filter that does it, for other programs."""

import math

import numpy as np
import soxr

LEAST_TAP = 1e-7
LEAD_SECONDS = 0.02  # of silence before and behind a signal, which takes soxr's own beginning and end away


class Resampler:
    """soxr's stream of [n, channels] as a filter with silence before and behind the signal, and nothing else.

    By itself, soxr answers a signal's first and last milliseconds differently from the rest.
    """

    def __init__(self, source: int, target: int, channels: int) -> None:
        self.up, self.down = (n // math.gcd(source, target) for n in (target, source))
        rounds = math.ceil(LEAD_SECONDS * source / self.down)
        self.silence = np.zeros((rounds * self.down, channels), np.float32)
        self.early = rounds * self.up  # samples of the output that are of the silence
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
    """Return the filter by which soxr changes the rate, float32 [phases, taps], measured by impulses.

    Output m is the sum over k of taps[m * down % up, k] x[m * down // up + k - half], with up / down = target /
    source in lowest terms, and taps 2 * half + 1 of them.
    """
    up, down = (n // math.gcd(source, target) for n in (target, source))
    half = 150 * max(1, -(-source // target))  # wide enough: the edges are cut off below
    spacing = (4 * half // down + 1) * down + 1  # impulses at every place among `down`
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
