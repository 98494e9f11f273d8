"""Augmentation of mixtures made on the fly: other noise, rooms, microphones and channels."""

import math
from collections.abc import Callable, Collection

import numpy as np
import scipy.signal
from scipy.interpolate import CubicSpline

from config import SAMPLE_RATE

from .impulse_response import draw_response, reverberate
from .mixing import is_silent

# Share of the items to which each change is applied.
SHARES = {
    "synthetic": 0.3,
    "second-noise": 0.3,
    "equalise": 0.5,
    "band-limit": 0.15,
    "room": 0.25,
    "clip": 0.05,
    "high-snr": 0.15,
    "speed": 0.5,
}
SPECTRUM_DB = 15  # standard deviation of a noise's spectrum, independent in each octave
SWELL_DB = (0, 6)  # standard deviation of the slow level changes of steady noise
TONE_DB = (-15, 10)  # level of its hum relative to the rest; half of them have one
PITCH = (30, 1000)  # Hz, of the hum
SECOND_NOISE_DB = (-12, 0)  # level of the second noise relative to the first
COEFFICIENT = 3 / 8  # largest coefficient of a random filter
PASS_BAND = (3000, 7500)  # Hz
DECAY = (0.1, 0.5)  # seconds in which a room's sound decays by 60 dB
DIRECT_DB = (0, 12)  # energy of the direct sound relative to all reflections
CLIPPED_AT = (0.25, 0.9)  # of the mixture's peak
HIGH_SNR_DB = (30, 60)
SPEED = (0.5, 2)  # of recorded noise, relative to the recording

Waveform = np.ndarray  # [samples], float


class Augmentation:
    """The random changes of one item, which depend on the generator only.

    Args:
        names: Changes that may be applied, of SHARES; clean is the former name of high-snr.
        rng: Source of all random choices.
    """

    def __init__(self, names: Collection[str], rng: np.random.Generator) -> None:
        self._rng = rng
        names = {"high-snr" if name == "clean" else name for name in names}
        self._applied = {name for name, share in SHARES.items() if rng.random() < share and name in names}

    def sources(
        self,
        speech: Waveform,
        noise: Waveform,
        draw_noise: Callable[[np.random.Generator], Waveform],
        active: slice,
    ) -> tuple[Waveform, Waveform]:
        """Return speech and noise as they reach the microphone; the speech is not delayed, its level may change.

        draw_noise: draws another noise. active: the samples with speech, in which the noise must not be silent.
        """
        rng = self._rng
        if "speed" in self._applied:
            longer = np.concatenate([noise, draw_noise(rng)])
            played = _play(longer, math.exp(rng.uniform(*np.log(SPEED))), noise.size)
            noise = noise if is_silent(played[active]) else played
        if "synthetic" in self._applied:
            noise = draw_synthetic(rng, noise.size) * _norm(noise)
        if "second-noise" in self._applied:
            second = draw_noise(rng)
            level = 10 ** (rng.uniform(*SECOND_NOISE_DB) / 20)
            noise = noise + second * level * _norm(noise) / max(_norm(second), 1e-9)
        if "room" in self._applied:
            speech = reverberate(speech, draw_response(rng, DECAY, DIRECT_DB)[0])
        if "equalise" in self._applied:
            speech, noise = (scipy.signal.lfilter(*draw_equaliser(rng), signal) for signal in (speech, noise))
        if "band-limit" in self._applied:
            low_pass = scipy.signal.butter(6, rng.uniform(*PASS_BAND), fs=SAMPLE_RATE, output="sos")
            speech, noise = (scipy.signal.sosfilt(low_pass, signal) for signal in (speech, noise))
        return speech, noise

    def snr_db(self, drawn: float) -> float:
        """Return the SNR to mix at: the drawn one, or a high one with the change "high-snr"."""
        return self._rng.uniform(*HIGH_SNR_DB) if "high-snr" in self._applied else drawn

    def recorded(self, noisy: Waveform) -> Waveform:
        """Return the mixture, with the change "clip" clipped."""
        if "clip" not in self._applied:
            return noisy
        limit = self._rng.uniform(*CLIPPED_AT) * float(np.max(np.abs(noisy)))
        return np.clip(noisy, -limit, limit).astype(noisy.dtype)


def draw_equaliser(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return numerator and denominator of a random stable second-order filter.

    Source: Valin, "A hybrid DSP/deep learning approach to real-time full-band speech enhancement", 2018.
    """
    r = rng.uniform(-COEFFICIENT, COEFFICIENT, 4)
    return np.array([1, *r[:2]]), np.array([1, *r[2:]])


def draw_synthetic(rng: np.random.Generator, samples: int) -> Waveform:
    """Return noise of norm 1 with a random smooth spectrum and slowly varying level, half of the time with hum."""
    seconds = np.arange(samples) / SAMPLE_RATE
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 30) / 30)  # 0 to 8.06
    spectrum_db = CubicSpline(np.arange(10), SPECTRUM_DB * rng.standard_normal(10))(octaves)
    gains = 10 ** (np.minimum(spectrum_db - spectrum_db.max(), 0) / 20)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * gains, samples)
    noise *= 10 ** (rng.uniform(*SWELL_DB) * _wander(rng, seconds, rng.uniform(0.5, 8)) / 20)
    if rng.random() < 0.5:
        pitch = math.exp(rng.uniform(*np.log(PITCH)))
        phase = 2 * np.pi * pitch * np.cumsum(2 ** (rng.uniform(0, 0.1) * _wander(rng, seconds, 2))) / SAMPLE_RATE
        partials = np.arange(1, min(12, int(SAMPLE_RATE / 2 / pitch / 1.5)) + 1)
        amplitudes = rng.exponential(size=partials.size) * partials ** -rng.uniform(0, 1.5)
        shifts = rng.uniform(0, 2 * np.pi, partials.size)
        turn, hum = np.exp(1j * phase), np.zeros(samples, complex)
        for partial in (amplitudes * np.exp(1j * shifts))[::-1]:  # a sum of their powers, by Horner's rule
            hum += partial
            hum *= turn
        hum = hum.imag
        noise = noise + hum * 10 ** (rng.uniform(*TONE_DB) / 20) * _norm(noise) / _norm(hum)
    return noise / _norm(noise)


def _wander(rng: np.random.Generator, seconds: np.ndarray, rate: float) -> np.ndarray:
    """Return a smooth random curve of unit variance with `rate` knots a second."""
    knots = int(seconds[-1] * rate) + 4
    return CubicSpline(np.arange(knots), rng.standard_normal(knots))(seconds * rate)


def _play(signal: Waveform, speed: float, samples: int) -> Waveform:
    """Return the first samples of the signal played at another speed, which also changes its pitch."""
    return np.interp(np.arange(samples) * speed, np.arange(signal.size), signal)


def _norm(signal: np.ndarray) -> float:
    return float(np.linalg.norm(signal))
