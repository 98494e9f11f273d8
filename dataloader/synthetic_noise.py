"""Synthetic noise: steady noise, and separate events."""

import math

import numpy as np
import scipy.signal
from scipy.interpolate import CubicSpline

from config import SAMPLE_RATE

SPECTRUM_DB = 15  # standard deviation of a noise's spectrum, independent in each octave
SWELL_DB = (0, 6)  # standard deviation of the slow level changes of steady noise
TONE_DB = (-15, 10)  # level of its hum relative to the rest; half of them have one
PITCH = (30, 1000)  # Hz, of the hum
CALLS = {"pitch": (120, 3000), "seconds": (0.04, 1.2), "pause": (0.05, 1.5)}  # Hz; of a call; between two
IMPACTS = {"modes": (80, 7000), "ringing": (0.02, 1.5), "interval": (0.05, 1.5)}  # Hz; seconds to -60 dB; seconds
ECHO = (0.1, 1.2)  # seconds in which the room of half the events decays by 60 dB

Waveform = np.ndarray  # [samples], float


def draw_steady(rng: np.random.Generator, samples: int) -> Waveform:
    """Return noise of norm 1 with a random smooth spectrum and slowly varying level, half of the time with hum."""
    seconds = np.arange(samples) / SAMPLE_RATE
    noise = _coloured(rng, rng.standard_normal(samples))
    noise *= 10 ** (rng.uniform(*SWELL_DB) * _wander(rng, seconds, rng.uniform(0.5, 8)) / 20)
    if rng.random() < 0.5:
        pitch = math.exp(rng.uniform(*np.log(PITCH)))
        phase = 2 * np.pi * pitch * np.cumsum(2 ** (rng.uniform(0, 0.1) * _wander(rng, seconds, 2))) / SAMPLE_RATE
        partials = np.arange(1, min(12, int(SAMPLE_RATE / 2 / pitch / 1.5)) + 1)
        amplitudes = rng.exponential(size=partials.size) * partials ** -rng.uniform(0, 1.5)
        shifts = rng.uniform(0, 2 * np.pi, partials.size)
        hum = sum(a * np.sin(n * phase + shift) for n, a, shift in zip(partials, amplitudes, shifts, strict=True))
        noise = noise + hum * 10 ** (rng.uniform(*TONE_DB) / 20) * norm(noise) / norm(hum)
    return noise / norm(noise)


def draw_events(rng: np.random.Generator, samples: int) -> Waveform:
    """Return noise of norm 1 made of similar events: calls, whose pitch glides, or impacts, which ring."""
    noise = (draw_calls if rng.random() < 0.5 else draw_impacts)(rng, samples)
    if rng.random() < 0.5:
        echo = draw_tail(rng, math.exp(rng.uniform(*np.log(ECHO))), 0.002, rng.uniform(0, 12))
        noise = noise + scipy.signal.fftconvolve(noise, echo)[:samples]
    return noise / max(norm(noise), 1e-9)


def draw_calls(rng: np.random.Generator, samples: int) -> Waveform:
    """Return calls like those of an animal, horn or child: harmonic, partly noisy, randomly coloured."""
    pitch, seconds, pause = (math.exp(rng.uniform(*np.log(CALLS[name]))) for name in ("pitch", "seconds", "pause"))
    glide, bend = 0.5 * rng.standard_normal(2)  # octaves
    rise, fall, hoarse = rng.uniform(0.1, 2), rng.uniform(0.1, 3), rng.uniform() ** 2
    highest = pitch * 2 ** (abs(glide) / 2 + max(bend, 0))
    partials = np.arange(1, max(1, min(15, int(SAMPLE_RATE / 2.2 / highest))) + 1)
    amplitudes = rng.exponential(size=partials.size) * partials ** -rng.uniform(0, 1.5)
    noise, start = np.zeros(samples), int(rng.exponential(pause) * SAMPLE_RATE)
    while start < samples:
        length = max(64, int(seconds * 2 ** (0.3 * rng.standard_normal()) * SAMPLE_RATE))
        x = (np.arange(length) + 0.5) / length
        octaves = glide * (x - 0.5) + 4 * bend * x * (1 - x) + 0.1 * rng.standard_normal()
        phase = 2 * np.pi * pitch * np.cumsum(2**octaves) / SAMPLE_RATE
        voice = amplitudes @ np.sin(partials[:, None] * phase) / norm(amplitudes)
        call = ((1 - hoarse) * voice + hoarse * rng.standard_normal(length)) * x**rise * (1 - x) ** fall
        call = call[: samples - start] * 10 ** (3 * rng.standard_normal() / 20)
        noise[start : start + call.size] += call
        start += length + int(rng.exponential(pause) * SAMPLE_RATE)
    return _coloured(rng, noise)


def draw_impacts(rng: np.random.Generator, samples: int) -> Waveform:
    """Return more or less regular impacts on something that rings, such as drums, bells, steps and dishes."""
    modes, ringing = int(rng.integers(1, 13)), math.exp(rng.uniform(*np.log(IMPACTS["ringing"])))
    frequencies = np.exp(rng.uniform(*np.log(IMPACTS["modes"]), modes))
    decays = ringing * 2 ** rng.standard_normal(modes)
    time = np.arange(min(samples, int(2 * ringing * SAMPLE_RATE) + 1)) / SAMPLE_RATE
    ring = rng.exponential(size=modes) @ (
        np.sin(2 * np.pi * frequencies[:, None] * time) * 10 ** (-3 * time / decays[:, None])
    )
    blow = rng.standard_normal(time.size) * 10 ** (-3 * time / rng.uniform(0.005, 0.1)) * rng.exponential()
    interval, jitter = math.exp(rng.uniform(*np.log(IMPACTS["interval"]))), rng.uniform(0, 0.5)
    times = np.arange(rng.uniform(0, interval), samples / SAMPLE_RATE, interval)
    places = ((times + jitter * interval * rng.standard_normal(times.size)) * SAMPLE_RATE).astype(int) % samples
    blows = np.zeros(samples)
    blows[places] = 10 ** (4 * rng.standard_normal(places.size) / 20)
    return scipy.signal.fftconvolve(blows, ring + blow)[:samples]


def _coloured(rng: np.random.Generator, source: Waveform) -> Waveform:
    """Return a source with a random smooth spectrum."""
    samples = source.size
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 30) / 30)  # 0 to 8.06
    spectrum_db = CubicSpline(np.arange(10), SPECTRUM_DB * rng.standard_normal(10))(octaves)
    gains = 10 ** (np.minimum(spectrum_db - spectrum_db.max(), 0) / 20)
    return np.fft.irfft(np.fft.rfft(source) * gains, samples)


def _wander(rng: np.random.Generator, seconds: np.ndarray, rate: float) -> np.ndarray:
    """Return a smooth random curve of unit variance with `rate` knots a second."""
    knots = int(seconds[-1] * rate) + 4
    return CubicSpline(np.arange(knots), rng.standard_normal(knots))(seconds * rate)


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


def norm(signal: np.ndarray) -> float:
    """Return the square root of a signal's energy."""
    return float(np.linalg.norm(signal))
