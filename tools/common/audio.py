"""The project's sample rate, and WAV files to listen to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import wavfile

from tools.common.files import replacing

SAMPLE_RATE = 16_000  # Hz, of all that is packed, trained on and scored


def write_wav(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write a float waveform [samples] in [-1, 1] as 16-bit PCM; what is beyond is clipped."""
    pcm = np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)
    with replacing(path) as temporary:
        wavfile.write(temporary, sample_rate, pcm)


def sample_path(folder: Path, place: tuple[str, float, int], name: str) -> Path:
    """Return the path of a sample of the test grid, given its noise type, dB and utterance number."""
    noise, snr, utterance = place
    return folder / noise / f"{snr:g}dB" / f"{utterance:03d}_{name}.wav"
