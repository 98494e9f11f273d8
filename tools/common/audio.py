"""WAV files to listen to: the samples that test.py saves."""

import wave
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from config import SAMPLE_RATE
from tools.common.errors import UserError
from tools.common.files import replacing


def write_wav(path: Path, waveform: np.ndarray) -> None:
    """Write a float waveform [samples] in [-1, 1] at 16 kHz as 16-bit PCM, clipped at full scale."""
    pcm = np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)
    with replacing(path) as temporary:
        wavfile.write(temporary, SAMPLE_RATE, pcm)


def read_wav(path: Path) -> np.ndarray:
    """Return the int16 [samples] of a file by `write_wav`; UserError for any other file."""
    try:
        with wave.open(str(path), "rb") as file:
            found, frames = file.getparams()[:3], file.getnframes()
            samples = np.frombuffer(file.readframes(frames), "<i2")
    except (EOFError, wave.Error, ValueError):
        found, frames, samples = (), 1, np.empty(0, "<i2")
    if found != (1, 2, SAMPLE_RATE) or not 0 < frames == len(samples):
        raise UserError(f"{path}: cut off, or no 16-bit mono WAV file of {SAMPLE_RATE} Hz; test the run again")
    return samples


def sample_path(folder: Path, place: tuple[str, float, int], name: str) -> Path:
    """Return the path of a sample of the test grid, given its noise type, dB and utterance number."""
    noise, snr, utterance = place
    return folder / noise / f"{snr:g}dB" / f"{utterance:03d}_{name}.wav"
