"""A page to look at and listen to, which works offline from the disk, and a listening test for webMUSHRA.

Browsers do not let such a page read files beside it, but let it load scripts: the players take their audio from
`audio/<number>.js`, which contains the bytes of the FLAC files beside it.
"""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
import soxr
from jinja2 import Environment, FileSystemLoader
from matplotlib import colormaps
from PIL import Image
from scipy import signal as dsp

from config import SAMPLE_RATE
from tools.common.audio import DYNAMIC_RANGE, read_wav, sample_path, spectrogram
from tools.common.errors import UserError
from tools.common.files import replacing, write_text
from tools.reports.comparison import CELL, UTTERANCE, metrics_of
from tools.scoring.scores import METRICS

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
PLAYED_RATE = 48_000  # Hz, of most sound cards: a browser then does not resample
ANCHOR_EDGES = (3500, 4000)  # Hz, pass and stop band of the low anchor in BS.1534-3
ANCHOR_DB = 60  # attenuation from 4 kHz on; BS.1534-3 requires 25 dB there and 50 dB at 4.5 kHz


class Sample(NamedTuple):
    """An utterance to listen to: its cell (noise type, dB, number) and the WAV file of each signal."""

    cell: tuple[str, float, int]
    files: dict[str, Path]

    @property
    def title(self) -> str:
        """Return the cell as text."""
        return "{}, {:g} dB, utterance {}".format(*self.cell)


def collect_samples(folders: Mapping[str, Path], scores: pd.DataFrame, utterances: Sequence[int]) -> list[Sample]:
    """Return the utterances to listen to, for each noise type and dB, from the samples folder of each signal.

    The list is empty if none has such a folder (test.py --samples 0). Raises UserError for an utterance that was
    not saved.
    """
    if not any(folder.is_dir() for folder in folders.values()):
        return []
    first = next(iter(folders.values()))
    samples = []
    for utterance in utterances:
        for place in scores[CELL].drop_duplicates().itertuples(index=False, name=None):
            cell = (*place, utterance)
            files = {"noisy": sample_path(first, cell, "noisy")}
            files |= {label: sample_path(folder, cell, "enhanced") for label, folder in folders.items()}
            files |= {"clean": sample_path(first, cell, "clean")}
            for path in files.values():
                if not path.is_file():
                    raise UserError(
                        f"{path}: no such sample; test that run again with --samples {utterance + 1}, or choose "
                        "other --utterances"
                    )
            samples.append(Sample(cell, files))
    return samples


def write_page(
    folder: Path, scores: pd.DataFrame, samples: Sequence[Sample], curves: Path, content: Mapping[str, Any]
) -> None:
    """Write index.html and audio/ to the folder.

    scores: those of the first seed are shown with the samples. curves: a PNG file. content: what else page.html
    shows: title, verdict, marks, further, sentences, means, details.
    """
    rows = scores.drop_duplicates([*UTTERANCE, "signal"]).set_index([*UTTERANCE, "signal"])
    players = []
    for number, sample in enumerate(samples):
        signals = _write_audio(folder / "audio", f"{number:03d}", sample)
        for signal in signals:
            own = rows.loc[(*sample.cell, signal["name"])] if signal["name"] != "clean" else {}
            signal["scores"] = [(METRICS[m].title, f"{own[m]:.{METRICS[m].places}f}") for m in metrics_of(own)]
        players.append({"id": f"{number:03d}", "title": sample.title, "signals": signals})
    template, curves = TEMPLATES.get_template("page.html"), _data_uri(curves.read_bytes(), "png")
    write_text(folder / "index.html", template.render(content, players=players, curves=curves))


def write_webmushra(folder: Path, name: str, samples: Sequence[Sample]) -> None:
    """Write configs/<name>.yaml and its sounds, to copy into webMUSHRA's folder configs (ITU-R BS.1534).

    Each sample is a trial with clean speech as reference (also hidden among the stimuli), noisy, each signal, and
    an anchor at 3.5 kHz.
    """
    trials = []
    for number, sample in enumerate(samples):
        waveforms = {signal: read_wav(path) / 32768 for signal, path in sample.files.items()}
        clean = waveforms.pop("clean")
        sounds = {}
        for signal, waveform in {"reference": clean, **waveforms, "anchor35": low_anchor(clean)}.items():
            sounds[signal] = f"configs/{name}/{_safe(f'{number:03d}_{signal}')}.wav"
            played = np.clip(soxr.resample(waveform, SAMPLE_RATE, PLAYED_RATE), -1, 1)
            with replacing(folder / sounds[signal]) as temporary:
                soundfile.write(temporary, played, PLAYED_RATE, format="WAV", subtype="PCM_16")
        trials.append({"id": f"trial{number:03d}", "title": sample.title, "sounds": sounds})
    config = TEMPLATES.get_template("webmushra.yaml").render(name=name, trials=trials)
    write_text(folder / "configs" / f"{name}.yaml", config)


def low_anchor(waveform: np.ndarray) -> np.ndarray:
    """Return speech [samples] at 16 kHz, low-passed at 3.5 kHz as in ITU-R BS.1534-3, 5.1."""
    low, high = ANCHOR_EDGES
    taps, beta = dsp.kaiserord(ANCHOR_DB, (high - low) / (SAMPLE_RATE / 2))
    window = dsp.firwin(taps | 1, (low + high) / 2, window=("kaiser", beta), fs=SAMPLE_RATE)
    return dsp.oaconvolve(waveform, window, mode="same")


def _write_audio(folder: Path, number: str, sample: Sample) -> list[dict[str, Any]]:
    """Write a sample as FLAC, which all browsers play, and its script; return what to show of each signal."""
    signals, contents = [], {}
    waveforms = {name: read_wav(path) for name, path in sample.files.items()}  # int16 [samples]
    levels = {name: spectrogram(waveform / 32768) for name, waveform in waveforms.items()}
    top = max(level.max() for level in levels.values())
    noise_type, snr_db, utterance = sample.cell
    for column, (name, waveform) in enumerate(waveforms.items()):
        path = folder / f"{_safe(f'{noise_type}_{snr_db:g}dB_{utterance:03d}_{column}_{name}')}.flac"
        with replacing(path) as temporary:
            soundfile.write(temporary, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        contents[column] = base64.b64encode(path.read_bytes()).decode()
        signals.append({"name": name, "file": f"audio/{path.name}", "picture": _picture_uri(levels[name], top)})
    write_text(folder / f"{number}.js", f"player.provide({json.dumps(number)}, {json.dumps(contents)});\n")
    return signals


def _picture_uri(levels: np.ndarray, top: float) -> str:
    """Return a spectrogram without axes as a data URI; every second bin keeps the page small, as JPEG does."""
    pixels = colormaps["magma"]((levels[::-2] - top) / DYNAMIC_RANGE + 1, bytes=True)[..., :3]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="jpeg", quality=85)
    return _data_uri(file.getvalue(), "jpeg")


def _data_uri(content: bytes, form: str) -> str:
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def _safe(name: str) -> str:
    """Return a name for a file on any system."""
    return re.sub(r"[^\w.+-]+", "_", name)
