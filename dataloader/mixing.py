"""Mixtures of speech and noise at an exact SNR, quantised so that noisy = clean + noise holds exactly."""

from dataclasses import dataclass

import numpy as np

PEAK = 0.99
FULL_SCALE = {"int16": 2**15, "float32": 2**24}
EVERYWHERE = slice(None)
SILENCE = 1e-4  # RMS below which a signal counts as silent, -80 dBFS
FRAME = 320  # samples of the frames in which speech is detected, 20 ms at 16 kHz
SPEECH_RANGE = 1e-4  # least energy of a speech frame relative to the loudest, -40 dB


@dataclass(frozen=True)
class Mixture:
    """A mixture: `scale * (speech_gain * speech + gain * noise)`, its clean part, and the three factors."""

    noisy: np.ndarray  # [samples], int16 full scale or float32
    clean: np.ndarray  # [samples], as noisy
    speech_gain: float
    gain: float
    scale: float


def mix(
    speech: np.ndarray,
    noise: np.ndarray,
    snr_db: float,
    level_db: float,
    *,
    active: slice = EVERYWHERE,
    dtype: str = "int16",
) -> Mixture:
    """Add noise to clean speech at an SNR, and scale both down together if the result would clip.

    Args:
        speech: `[samples]`, at any level.
        noise: `[samples]`, at any level.
        snr_db: 10 log10 of clean over noise energy, in dB, over the span `active`.
        level_db: RMS of the speech over that span before scaling against clipping, in dBFS.
        active: The samples over which SNR and level hold, without padding.
        dtype: int16 or float32, the type of the result.

    Raises ValueError, one line, if either signal is silent over the span, or not finite.
    """
    speech_gain = level_gain(speech, level_db, active)
    clean = speech_gain * speech
    gain = noise_gain(clean, noise, snr_db, active)
    scale = headroom(clean, gain * noise)
    noisy, clean = add(scale * clean, scale * gain * noise, dtype)
    return Mixture(noisy, clean, speech_gain, gain, scale)


def level_gain(speech: np.ndarray, level_db: float, active: slice) -> float:
    """Return the factor that gives the speech an RMS of `level_db` dBFS (0 dBFS: 1) over the active span."""
    return 10 ** (level_db / 20) / rms(speech[active], "clean")


def active_span(speech: np.ndarray) -> slice:
    """Return the span from the first to the last frame of 20 ms within 40 dB of the loudest.

    It includes pauses between words, as the SNRs of most corpora do. Raises ValueError for digital silence.
    """
    energy = frame_energies(speech)
    loud = np.flatnonzero(energy > SPEECH_RANGE * energy.max(initial=0.0))
    if not loud.size:
        raise ValueError("clean is silent: no SNR can be set")
    return slice(int(loud[0]) * FRAME, min((int(loud[-1]) + 1) * FRAME, speech.size))


def frame_energies(signal: np.ndarray) -> np.ndarray:
    """Return the energy of each frame of 20 ms; the last one is padded with zeros."""
    return np.pad(np.square(signal, dtype=np.float64), (0, -signal.size % FRAME)).reshape(-1, FRAME).sum(axis=1)


def is_silent(signal: np.ndarray) -> bool:
    """Return whether the signal (full scale 1) is empty or has an RMS below -80 dBFS."""
    return signal.size == 0 or float(np.mean(np.square(signal, dtype=np.float64))) < SILENCE**2


def noise_gain(clean: np.ndarray, noise: np.ndarray, snr_db: float, active: slice = EVERYWHERE) -> float:
    """Return the factor of the noise for an SNR over the active span. Raises ValueError as `mix` does."""
    return float(rms(clean[active], "clean") / rms(noise[active], "noise") / 10 ** (snr_db / 20))


def headroom(clean: np.ndarray, noise: np.ndarray) -> float:
    """Return the largest factor up to 1 that keeps clean, noise and their sum within ±PEAK.

    The noise is included so that noisy minus clean is not clipped either.
    """
    return min(1.0, PEAK / max(float(np.max(np.abs(signal))) for signal in (clean, noise, clean + noise)))


def rms(signal: np.ndarray, name: str) -> float:
    """Return the root mean square. Raises ValueError with the signal's name if it is silent or not finite."""
    value = float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)))) if signal.size else 0.0
    if not np.isfinite(value):
        raise ValueError(f"{name} holds NaN or infinity")
    if value == 0.0:
        raise ValueError(f"{name} is silent: no SNR can be set")
    return value


def add(clean: np.ndarray, noise: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy and clean, quantised so that `noisy - clean` is exactly the quantised noise.

    Rounding to int16 changes an SNR of up to 40 dB by at most 0.05 dB, with speech of -40 dBFS or more. Raises
    ValueError if a signal rounds to zero.
    """
    clean, noise = quantise(clean, dtype), quantise(noise, dtype)
    if not (clean.any() and noise.any()):
        raise ValueError(f"clean or noise is too weak for {dtype}: all its samples round to zero")
    return clean + noise, clean


def quantise(signal: np.ndarray, dtype: str) -> np.ndarray:
    """Return a signal rounded to multiples of 2^-15 (int16 full scale) or 2^-24 (float32), clipped at full scale.

    Sums below 1 of such numbers are exact in both types.
    """
    steps = FULL_SCALE[dtype]
    values = np.clip(np.rint(signal * steps), -steps, steps - 1)
    return (values if dtype == "int16" else values / steps).astype(dtype)
