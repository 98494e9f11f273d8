"""Listening tests: for webMUSHRA (ITU-R BS.1534), and ACR clips for ITU-T P.808."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jinja2 import Environment, FileSystemLoader
from scipy import signal as dsp
from scipy.io import wavfile

from config import SAMPLE_RATE
from tools.common.files import replacing, write_csv, write_text
from tools.reports.page import TEMPLATES, Place

PLAYED_RATE = 48_000  # Hz, of most sound cards: a browser then does not resample
ANCHOR_EDGES = (3500, 4000)  # Hz, pass and stop band of the low anchor in BS.1534-3
ANCHOR_DB = 60  # attenuation from 4 kHz on; BS.1534-3 requires 25 dB there and 50 dB at 4.5 kHz


def write_webmushra(folder: Path, name: str, places: Sequence[Place]) -> None:
    """Write configs/<name>.yaml and its sounds, to copy into webMUSHRA's folder configs.

    Each place is a trial with clean speech as reference (also hidden among the stimuli), noisy, each signal, and
    an anchor at 3.5 kHz.
    """
    trials = []
    for number, place in enumerate(places):
        waveforms = {signal: wavfile.read(path)[1] / 32768 for signal, path in place.files.items()}
        clean = waveforms.pop("clean")
        waveforms["anchor35"] = low_anchor(clean)
        sounds = {}
        for signal, waveform in {"reference": clean, **waveforms}.items():
            sounds[signal] = f"configs/{name}/{number:03d}_{_safe(signal)}.wav"
            _write_sound(folder / sounds[signal], waveform)
        title = f"{place.noise_type}, {place.snr_db:g} dB, utterance {place.utterance}"
        trials.append({"id": f"trial{number:03d}", "title": title, "sounds": sounds})
    environment = Environment(loader=FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
    environment.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
    config = environment.get_template("webmushra.yaml").render(name=name, trials=trials)
    write_text(folder / "configs" / f"{name}.yaml", config)


def write_p808(folder: Path, places: Sequence[Place], address: str) -> None:
    """Write clips/ and rating_clips.csv for an ACR test with the P.808 toolkit, and clips.csv with conditions.

    address: where the clips will be uploaded to.
    """
    clips, key = [], []
    for number, place in enumerate(places):
        for signal, path in place.files.items():
            file = f"{_safe(signal)}_{number:03d}.wav"
            _write_sound(folder / "clips" / file, wavfile.read(path)[1] / 32768)
            clips.append({"rating_clips": f"{address.rstrip('/')}/{file}"})
            where = {"noise_type": place.noise_type, "snr_db": place.snr_db, "utterance": place.utterance}
            key.append({"clip": file, "condition": signal} | where)
    write_csv(folder / "rating_clips.csv", clips)
    write_csv(folder / "clips.csv", key)


def low_anchor(waveform: np.ndarray) -> np.ndarray:
    """Return speech [samples] at 16 kHz, low-passed at 3.5 kHz as in ITU-R BS.1534-3, 5.1."""
    low, high = ANCHOR_EDGES
    taps, beta = dsp.kaiserord(ANCHOR_DB, (high - low) / (SAMPLE_RATE / 2))
    window = dsp.firwin(taps | 1, (low + high) / 2, window=("kaiser", beta), fs=SAMPLE_RATE)
    return dsp.oaconvolve(waveform, window, mode="same")


def _write_sound(path: Path, waveform: np.ndarray) -> None:
    with replacing(path) as temporary:
        played = np.clip(soxr.resample(waveform, SAMPLE_RATE, PLAYED_RATE), -1, 1)
        soundfile.write(temporary, played, PLAYED_RATE, format="WAV", subtype="PCM_16")


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)
