"""Recordings that tests make for themselves: a buzz with the rhythm of speech, and coloured noise."""

import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import lfilter

RATE = 16_000


def speech(name: str, seconds: float = 1.5, rate: int = RATE) -> np.ndarray:
    """Voiced syllables with pauses, `[samples]`; another name is another voice."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(90, 220)
    buzz = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 20))
    syllables = np.maximum(np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)), 0)
    return 0.1 * buzz * syllables + 1e-4 * rng.standard_normal(time.size)


def noise(name: str, seconds: float = 4.0, rate: int = RATE) -> np.ndarray:
    """Noise with a slope of its own, `[samples]`."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return 0.05 * lfilter([1.0], [1.0, -rng.uniform(0, 0.9)], rng.standard_normal(round(seconds * rate)))


def write(path: Path, waveform: np.ndarray, rate: int = RATE, **options: str) -> Path:
    """Writes an audio file in the format of its suffix, with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate, **options)
    return path


def write_speech(folder: Path, talkers: int = 10, utterances: int = 2, seconds: float = 1.5) -> Path:
    """<talker>/<utterance>.wav."""
    for talker in range(talkers):
        for utterance in range(utterances):
            name = f"t{talker:02d}/{utterance}.wav"
            write(folder / name, speech(f"{folder.name}/{name}", seconds))
    return folder


def write_noise(folder: Path, types: tuple[str, ...] = ("rain", "street"), recordings: int = 4) -> Path:
    """<type>/<recording>.wav."""
    for kind in types:
        for number in range(recordings):
            write(folder / kind / f"{number}.wav", noise(f"{folder.name}/{kind}/{number}"))
    return folder
