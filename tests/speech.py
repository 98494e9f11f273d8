"""Audio that tests score, made on the spot."""

import numpy as np


def speech_like(seed=0, samples=32000):
    """A buzz with speech's rhythm and slope, [samples] float32, that PESQ takes for an utterance."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    buzz = sum(np.sin(2 * np.pi * 120 * k * time + rng.uniform(0, 6)) / k for k in range(1, 40))
    return (0.05 * buzz * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def noise(seed=1, samples=32000):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
