"""Augmentation of mixtures made on the fly: other noise, rooms, microphones and channels."""

import math
from collections.abc import Callable, Collection

import numpy as np
import scipy.signal
from scipy.interpolate import CubicSpline

from config import SAMPLE_RATE

from .mixing import is_silent

# Share of the items to which each change is applied.
SHARES = {
    "synthetic": 0.3,
    "second-noise": 0.3,
    "equalise": 0.5,
    "band-limit": 0.15,
    "room": 0.25,
    "clip": 0.05,
    "clean": 0.15,
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
FIRST_REFLECTION = (0.002, 0.01)  # seconds after the direct sound
DIRECT_DB = (0, 12)  # energy of the direct sound relative to all reflections
CLIPPED_AT = (0.25, 0.9)  # of the mixture's peak
CLEAN_SNR_DB = (30, 60)
SPEED = (0.5, 2)  # of recorded noise, relative to the recording

Waveform = np.ndarray  # [samples], float


class Augmentation:
    """The random changes of one item, which depend on the generator only.

    Args:
        names: Changes that may be applied, of SHARES.
        rng: Source of all random choices.
    """

    def __init__(self, names: Collection[str], rng: np.random.Generator) -> None:
        self._rng = rng
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
            speech = scipy.signal.fftconvolve(speech, draw_room(rng))[: speech.size]
        if "equalise" in self._applied:
            speech, noise = (scipy.signal.lfilter(*draw_equaliser(rng), signal) for signal in (speech, noise))
        if "band-limit" in self._applied:
            low_pass = scipy.signal.butter(6, rng.uniform(*PASS_BAND), fs=SAMPLE_RATE, output="sos")
            speech, noise = (scipy.signal.sosfilt(low_pass, signal) for signal in (speech, noise))
        return speech, noise

    def snr_db(self, drawn: float) -> float:
        """Return the SNR to mix at: the drawn one, or a high one with the change "clean"."""
        return self._rng.uniform(*CLEAN_SNR_DB) if "clean" in self._applied else drawn

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
        hum = sum(a * np.sin(n * phase + shift) for n, a, shift in zip(partials, amplitudes, shifts, strict=True))
        noise = noise + hum * 10 ** (rng.uniform(*TONE_DB) / 20) * _norm(noise) / _norm(hum)
    return noise / _norm(noise)


def _wander(rng: np.random.Generator, seconds: np.ndarray, rate: float) -> np.ndarray:
    """Return a smooth random curve of unit variance with `rate` knots a second."""
    knots = int(seconds[-1] * rate) + 4
    return CubicSpline(np.arange(knots), rng.standard_normal(knots))(seconds * rate)


def _play(signal: Waveform, speed: float, samples: int) -> Waveform:
    """Return the first samples of the signal played at another speed, which also changes its pitch."""
    return np.interp(np.arange(samples) * speed, np.arange(signal.size), signal)


def draw_room(rng: np.random.Generator) -> np.ndarray:
    """Return the impulse response of a small room: the direct sound, then noise that decays exponentially."""
    tail = draw_tail(rng, rng.uniform(*DECAY), rng.uniform(*FIRST_REFLECTION), rng.uniform(*DIRECT_DB))
    tail[0] = 1
    return tail


def draw_tail(
    rng: np.random.Generator, decay: float, first_reflection: float, direct_to_reverberant_db: float
) -> np.ndarray:
    """Return the impulse response [taps] of the reflections, without the direct sound at its start.

    decay: seconds in which the sound falls by 60 dB. first_reflection: seconds after the direct sound.
    direct_to_reverberant_db: energy of a direct sound of 1 over that of all reflections.
    Source: Moorer, "About this reverberation business", 1979.
    """
    time = np.arange(round(decay * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(time.size) * 10 ** (-3 * time / decay) * (time >= first_reflection)
    return tail * (10 ** (-direct_to_reverberant_db / 20) / np.sqrt(np.sum(tail**2)))


def _norm(signal: np.ndarray) -> float:
    return float(np.linalg.norm(signal))
