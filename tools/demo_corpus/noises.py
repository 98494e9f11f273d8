"""Synthetic noises: four types for training and three unseen ones.

All are 16 kHz, float64 `[samples]`, with an RMS of 1. Their parameters (rpm, gusts, dishes, talkers) are drawn for
each clip.
"""

from collections.abc import Callable

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.signal import butter, fftconvolve, iirpeak, lfilter, sosfilt, welch

from config import SAMPLE_RATE

SEEN = ("white", "pink", "speech_shaped", "babble")
UNSEEN = ("engine", "wind", "clatter")


def make_noise(kind: str, rng: np.random.Generator, samples: int, speech: np.ndarray) -> np.ndarray:
    """Return a noise of one of the kinds in SEEN and UNSEEN.

    Args:
        kind: Its name.
        rng: Source of all random choices.
        samples: Its length.
        speech: Clips of different talkers, `[talkers, at least samples]`, for babble and for the long-term
            spectrum of speech-shaped noise.
    """
    noise = _OF_SPEECH[kind](rng, samples, speech) if kind in _OF_SPEECH else _OTHERS[kind](rng, samples)
    return noise / np.sqrt(np.mean(noise**2))


def white(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return noise of equal power at all frequencies."""
    return rng.standard_normal(samples)


def pink(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return noise whose power falls with 1/f from 20 Hz on."""
    return _shaped(rng, samples, lambda frequency: (frequency >= 20) / np.sqrt(np.maximum(frequency, 20)))


def speech_shaped(rng: np.random.Generator, samples: int, speech: np.ndarray) -> np.ndarray:
    """Return stationary noise with the long-term spectrum of the speech."""
    frequencies, power = welch(speech, SAMPLE_RATE, nperseg=512, noverlap=0)
    long_term = np.sqrt(power.mean(axis=0))
    return _shaped(rng, samples, lambda frequency: np.interp(frequency, frequencies, long_term))


def babble(rng: np.random.Generator, samples: int, speech: np.ndarray) -> np.ndarray:
    """Return four to eight talkers at once, at different levels."""
    talkers = rng.permutation(len(speech))[: rng.integers(4, 9)]
    mixture = np.zeros(samples)
    for clip in speech[talkers]:
        clip = np.roll(clip, rng.integers(clip.size))[:samples]
        mixture += clip / np.sqrt(np.mean(clip**2)) * 10 ** (rng.uniform(-6, 0) / 20)
    return mixture


def engine(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return a four-stroke engine under varying load: combustion pulses excite resonances of exhaust and block.

    Every cylinder fires once in two turns, a little stronger or weaker than the others: harmonics of half the
    rotation rate, strongest at the firing rate. Gas noise, gated by the combustions, is added.
    """
    cylinders = int(rng.choice([3, 4, 6]))
    rpm = rng.uniform(900, 3000) * 2 ** (0.35 * _wander(rng, samples, rate=0.8))
    load = 1 / (1 + np.exp(-1.5 * _wander(rng, samples, rate=1.0)))
    firing_rate = rpm / 120 * cylinders
    firings = np.cumsum(firing_rate) / SAMPLE_RATE

    fired = np.flatnonzero(np.diff(np.floor(firings))) + 1
    cylinder = np.floor(firings[fired]).astype(int) % cylinders
    strength = rng.uniform(0.75, 1.25, cylinders)[cylinder] * np.exp(0.08 * rng.standard_normal(fired.size))
    strength *= 0.3 + 0.7 * load[fired]
    early = (firings[fired] % 1) * SAMPLE_RATE / firing_rate[fired]  # samples before the one that shows it
    pulses = np.zeros(samples)
    pulses[fired] = strength * (1 - early)
    pulses[fired - 1] += strength * early

    pressure = sosfilt(butter(2, rng.uniform(250, 500), fs=SAMPLE_RATE, output="sos"), pulses)
    tone = pressure.copy()
    for low, high in ((50, 110), (160, 320), (400, 800), (1000, 1800)):
        resonance = iirpeak(rng.uniform(low, high), rng.uniform(1.5, 4), fs=SAMPLE_RATE)
        tone += lfilter(*resonance, pressure)
    gate = lfilter([1.0], [1.0, -np.exp(-1 / (0.004 * SAMPLE_RATE))], pulses)
    band = butter(1, [200, 2500], "bandpass", fs=SAMPLE_RATE, output="sos")
    gas = sosfilt(band, rng.standard_normal(samples)) * (gate + 0.5 * gate.mean())
    return tone / tone.std() + 10 ** (rng.uniform(-12, -6) / 20) * gas / gas.std()


def wind(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return wind on a microphone: stronger gusts are louder and brighter; sometimes it howls."""
    gust = np.exp(0.7 * _wander(rng, samples, rate=0.8) + 0.3 * _wander(rng, samples, rate=5))
    rumble = _lowpassed(rng, samples, cutoff=rng.uniform(60, 120))
    rush = _lowpassed(rng, samples, cutoff=rng.uniform(300, 600))
    hiss = _lowpassed(rng, samples, cutoff=rng.uniform(1500, 2500))
    howl_frequency = rng.uniform(350, 700) * 2 ** (0.25 * _wander(rng, samples, rate=1.5))
    howl_phase = 2 * np.pi * np.cumsum(howl_frequency) / SAMPLE_RATE
    howl = np.cos(howl_phase + 2 * np.pi * _wander(rng, samples, rate=12)) * np.abs(_wander(rng, samples, rate=3))
    return gust * rumble + gust**2 * (0.8 * rush + 0.15 * hiss + rng.uniform(0.02, 0.15) * howl)


def clatter(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return dishes and cutlery in a kitchen: impacts, some with bounces, that excite the modes of objects."""
    objects = [_modes(rng) for _ in range(6)]
    impacts = np.zeros(samples)
    time = 0.0
    while time * SAMPLE_RATE < samples:
        modes = objects[rng.integers(len(objects))]
        loudness = 10 ** (4 * rng.standard_normal() / 20)
        delay = 0.0
        for bounce in range(1 + rng.binomial(2, 0.3)):
            rest = impacts[int((time + delay) * SAMPLE_RATE) :]
            impact = loudness * 0.5**bounce * _impact(rng, *modes)[: rest.size]
            rest[: impact.size] += impact
            delay += rng.uniform(0.03, 0.09) * 0.6**bounce
        time += rng.exponential(0.14)

    decay = np.arange(SAMPLE_RATE // 2) / (0.06 * SAMPLE_RATE)
    room = rng.standard_normal(decay.size) * np.exp(-decay)
    room *= 0.3 / np.sqrt(np.sum(room**2))
    sound = impacts + fftconvolve(impacts, room)[:samples]
    hum = pink(rng, samples)
    return sound / sound.std() + 10 ** (-30 / 20) * hum / hum.std()


_OF_SPEECH = {"speech_shaped": speech_shaped, "babble": babble}
_OTHERS = {"white": white, "pink": pink, "engine": engine, "wind": wind, "clatter": clatter}


def _shaped(rng: np.random.Generator, samples: int, magnitude: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return noise with a magnitude spectrum, a function of frequency in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    return np.fft.irfft(spectrum * magnitude(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)), samples)


def _lowpassed(rng: np.random.Generator, samples: int, cutoff: float) -> np.ndarray:
    """Return white noise falling with 12 dB an octave above the cutoff in Hz, RMS 1."""
    low = sosfilt(butter(2, cutoff, fs=SAMPLE_RATE, output="sos"), rng.standard_normal(samples))
    return low / low.std()


def _wander(rng: np.random.Generator, samples: int, rate: float) -> np.ndarray:
    """Return a smooth random curve with mean 0, standard deviation about 1 and `rate` knots a second."""
    knots = int(np.ceil(samples / SAMPLE_RATE * rate)) + 3
    curve = CubicSpline(np.arange(knots), rng.standard_normal(knots))
    return curve(rng.uniform() + np.arange(samples) * rate / SAMPLE_RATE)


def _modes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frequencies in Hz, decay times in s and strengths of an object's modes; high modes decay faster."""
    lowest = rng.uniform(400, 2500)
    frequency = lowest * (7500 / lowest) ** rng.uniform(0, 1, rng.integers(6, 13))
    decay = rng.uniform(0.02, 0.1) * (lowest / frequency) ** 0.7
    return frequency, decay, np.exp(0.5 * rng.standard_normal(frequency.size))


def _impact(
    rng: np.random.Generator, frequency: np.ndarray, decay: np.ndarray, strength: np.ndarray
) -> np.ndarray:
    """Return an impact, which excites the modes in random proportions, with a click of 2 ms."""
    time = np.arange(int(6 * decay.max() * SAMPLE_RATE))[:, None] / SAMPLE_RATE
    strength = strength * rng.uniform(0.3, 1, strength.size)
    ringing = np.sin(2 * np.pi * frequency * time + rng.uniform(0, 2 * np.pi, strength.size)) * np.exp(
        -time / decay
    )
    click = rng.standard_normal(len(time)) * np.exp(-time[:, 0] / 0.002)
    return ringing @ strength + click
