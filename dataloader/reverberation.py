"""The sound of a room as noise that decays exponentially."""

import numpy as np

from config import SAMPLE_RATE


def draw_tail(
    rng: np.random.Generator, decay: float, first_reflection: float, direct_to_reverberant_db: float
) -> np.ndarray:
    """Return the impulse response [taps] of all reflections, without the direct sound at its start.

    decay: seconds in which the sound falls by 60 dB. first_reflection: seconds after the direct sound.
    direct_to_reverberant_db: energy of a direct sound of 1 over that of all reflections.
    Source: Moorer, "About this reverberation business", 1979.
    """
    time = np.arange(round(decay * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(time.size) * 10 ** (-3 * time / decay) * (time >= first_reflection)
    return tail * (10 ** (-direct_to_reverberant_db / 20) / np.sqrt(np.sum(tail**2)))
