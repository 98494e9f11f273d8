"""A comparison as a page to look at and listen to, opened from the disk and without a network.

A browser does not let such a page read files beside it, but it lets it load scripts. So the players take their
audio from `audio/<place>.js`, which carries the bytes of the FLAC files that lie beside it.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jinja2 import Environment, FileSystemLoader
from matplotlib import colormaps
from PIL import Image
from scipy.io import wavfile

from tools.common.audio import SAMPLE_RATE, sample_path
from tools.common.errors import UserError
from tools.common.files import replacing, write_text
from tools.common.spectrograms import DYNAMIC_RANGE, spectrogram
from tools.reports.comparison import Run
from tools.reports.tables import TITLES, Row, score_blocks, utterance_key

TEMPLATES = Path(__file__).parent / "templates"
COLOURS = 64  # of a spectrogram


@dataclass(frozen=True)
class Place:
    """One noisy utterance to listen to: where it is in the grid, and the WAV file of each signal."""

    noise_type: str
    snr_db: float
    utterance: int
    files: dict[str, Path]

    @property
    def key(self) -> tuple[str, float, int]:
        """As in rows of scores."""
        return self.noise_type, self.snr_db, self.utterance


def collect_audio(
    groups: Mapping[str, Sequence[Run]], rows: Sequence[Row], utterances: Sequence[int]
) -> list[Place]:
    """The samples that test.py saved of the utterances, for each noise type and dB, of each label's first run.

    Raises UserError for an utterance that is not in the grid or was not saved.
    """
    keys = dict.fromkeys(utterance_key(row) for row in rows)
    unknown = set(utterances) - {key[2] for key in keys}
    if unknown:
        raise UserError(f"utterances: found {min(unknown)}, expected numbers from 0 to {max(k[2] for k in keys)}")
    folders = {label: samples_folder(group[0]) for label, group in groups.items()}
    first = next(iter(folders.values()))
    places = []
    for key in sorted((key for key in keys if key[2] in utterances), key=lambda key: utterances.index(key[2])):
        files = {"noisy": sample_path(first, key, "noisy")}
        files |= {label: sample_path(folder, key, "enhanced") for label, folder in folders.items()}
        files |= {"clean": sample_path(first, key, "clean")}
        lacking = [path for path in files.values() if not path.is_file()]
        if lacking:
            raise UserError(
                f"{lacking[0]}: no such sample; test that run again with --samples {key[2] + 1}, "
                "or choose other --utterances"
            )
        places.append(Place(*key, files))
    return places


def samples_folder(run: Run) -> Path:
    """samples/<name>/<data>, or as in earlier versions samples/<name>, beside runs/<name>."""
    folder = run.folder.resolve().parent.parent / "samples" / run.folder.resolve().name
    return folder / run.data if (folder / run.data).is_dir() else folder


def write_page(
    folder: Path,
    title: str,
    notes: Sequence[str],
    rows: Sequence[Row],
    signals: Sequence[str],
    differences: Mapping[str, Mapping[str, Sequence[str]]],
    curves: Path,
    places: Sequence[Place],
    heard: Sequence[Row],
) -> None:
    """index.html and audio/ in the folder.

    Args:
        notes: Paragraphs above the tables, the first on how to read them.
        rows: Scores of each signal.
        signals: Those to show, noisy first.
        differences: Title of a table to signal to its cells, one a score.
        curves: PNG file of the curves.
        places: What to listen to, from collect_audio.
        heard: Scores of each signal there, which may be one seed's.
    """
    scores = [name for name in TITLES if name in rows[0]]
    by_place = {(utterance_key(row), row["signal"]): row for row in heard}
    players = []
    for number, place in enumerate(places):
        name = f"{number:03d}"
        players.append({"id": name, "place": place, "signals": _write_audio(folder / "audio", name, place)})
        for signal in players[-1]["signals"]:
            row = by_place.get((place.key, signal["name"]))
            signal["scores"] = [(TITLES[n][0], f"{row[n]:.{TITLES[n][1]}f}") for n in scores] if row else []
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True).get_template(
        "page.html"
    )
    page = template.render(
        title=title,
        notes=notes,
        tables=[(TITLES[name], score_blocks(rows, name, signals)) for name in scores],
        scores=[TITLES[name][0] for name in scores],
        differences=differences,
        curves=_data_uri("image/png", curves.read_bytes()),
        players=players,
    )
    write_text(folder / "index.html", page)


def _write_audio(folder: Path, name: str, place: Place) -> list[dict[str, Any]]:
    """Writes a place's audio and the script that carries it, and gives what the page shows of each signal."""
    signals, contents = [], {}
    waveforms = {signal: wavfile.read(path)[1] for signal, path in place.files.items()}  # int16 [samples]
    levels = {signal: spectrogram(waveform / 32768) for signal, waveform in waveforms.items()}
    top = max(level.max() for level in levels.values())
    for number, (signal, waveform) in enumerate(waveforms.items()):
        content = _flac(waveform)
        where = f"{place.noise_type}_{place.snr_db:g}dB_{place.utterance:03d}"
        copy = folder / (re.sub(r"[^\w.+-]+", "_", f"{where}_{number}_{signal}") + ".flac")
        with replacing(copy) as temporary:
            temporary.write_bytes(content)
        contents[str(number)] = base64.b64encode(content).decode()
        signals.append(
            {"name": signal, "file": f"audio/{copy.name}", "picture": _picture_uri(levels[signal], top)}
        )
    write_text(folder / f"{name}.js", f"player.provide({json.dumps(name)}, {json.dumps(contents)});\n")
    return signals


def _flac(waveform: np.ndarray) -> bytes:
    """A waveform, int16 [samples], as the bytes of a FLAC file, which all browsers play."""
    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _picture_uri(levels: np.ndarray, top: float) -> str:
    """A spectrogram without axes as a data URI; every second bin and 64 colours keep the page small."""
    share = np.clip((levels[::-2] - top) / DYNAMIC_RANGE + 1, 0, 1)
    picture = Image.fromarray((share * (COLOURS - 1)).astype(np.uint8)).convert("P")
    picture.putpalette((colormaps["magma"](np.linspace(0, 1, COLOURS))[:, :3] * 255).astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, format="png")
    return _data_uri("image/png", file.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
