"""Impulse responses of rooms, and reverberation with them."""

import numpy as np
from scipy.signal import fftconvolve

from config import SAMPLE_RATE


def draw_response(
    rng: np.random.Generator,
    rt60_s: tuple[float, float],
    direct_db: tuple[float, float],
    first_reflection_s: tuple[float, float] = (0.002, 0.01),
) -> tuple[np.ndarray, dict[str, float]]:
    """Return the impulse response `[taps]` of a random room, and what was drawn.

    The direct sound, a one at sample 0, is followed by noise that decays exponentially.

    Args:
        rng: Source of all random choices.
        rt60_s: Shortest and longest time in which the sound falls by 60 dB, in seconds.
        direct_db: Lowest and highest energy of the direct sound over that of all reflections, in dB.
        first_reflection_s: Earliest and latest reflection after the direct sound, in seconds.

    Source: Moorer, "About this reverberation business", 1979.
    """
    decay, first, ratio_db = rng.uniform(*rt60_s), rng.uniform(*first_reflection_s), rng.uniform(*direct_db)
    time = np.arange(round(decay * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(time.size) * 10 ** (-3 * time / decay) * (time >= first)
    response *= 10 ** (-ratio_db / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1
    return response, {"rt60_s": round(decay, 3), "direct_to_reverberant_db": round(ratio_db, 2)}


def reverberate(speech: np.ndarray, response: np.ndarray, early_ms: float = np.inf) -> np.ndarray:
    """Return reverberant speech `[samples]` of the same length; the direct sound is neither delayed nor scaled.

    early_ms: milliseconds after the direct sound at which the impulse response is cut off.
    Raises ValueError if the impulse response is silent.
    """
    direct = int(np.argmax(np.abs(response)))
    if response[direct] == 0:
        raise ValueError("impulse response is silent")
    end = None if np.isinf(early_ms) else direct + 1 + round(early_ms * SAMPLE_RATE / 1000)
    return fftconvolve(speech, response[direct:end] / response[direct])[: speech.size]
