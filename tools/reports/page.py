"""A comparison as a page to look at and listen to, which works offline from the disk.

Browsers do not let such a page read files beside it, but let it load scripts: the players take their audio from
`audio/<place>.js`, which contains the bytes of the FLAC files beside it.
"""

import base64
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jinja2 import Environment, FileSystemLoader
from matplotlib import colormaps
from PIL import Image

from config import SAMPLE_RATE
from tools.common.audio import DYNAMIC_RANGE, read_wav, sample_path, spectrogram
from tools.common.errors import UserError
from tools.common.files import replacing, write_text
from tools.reports.comparison import Run
from tools.reports.difference_tables import MARKS
from tools.reports.tables import TITLES, Row, score_blocks, utterance_key

TEMPLATES = Path(__file__).parent / "templates"
COLOURS = 64  # of a spectrogram


@dataclass(frozen=True)
class Place:
    """A noisy utterance to listen to: its place in the grid, and the WAV file of each signal."""

    noise_type: str
    snr_db: float
    utterance: int
    files: dict[str, Path]

    @property
    def key(self) -> tuple[str, float, int]:
        """Return the place as in rows of scores."""
        return self.noise_type, self.snr_db, self.utterance


@dataclass(frozen=True)
class Page:
    """The content of a page.

    verdict: heads of the columns and cells of each signal, from verdict_cells.
    notes: how to read it, and warnings.
    rows: scores of each signal; signals: those to show, noisy first.
    differences: cells by title of a table and signal; difference_scores: their columns.
    curves: PNG file of the curves.
    places: what to listen to, from collect_audio; heard: scores of these signals, maybe of one seed only.
    tables: heads and rows of further tables, by title.
    comparison: identifies the comparison in files of votes, from comparison_id.
    """

    title: str
    verdict: tuple[Sequence[str], Mapping[str, Sequence[str]]]
    notes: Sequence[str]
    rows: Sequence[Row]
    signals: Sequence[str]
    differences: Mapping[str, Mapping[str, Sequence[str]]]
    difference_scores: Sequence[str]
    curves: Path
    places: Sequence[Place]
    heard: Sequence[Row] = ()
    tables: Mapping[str, tuple[Sequence[str], Mapping[str, Sequence[str]]]] = field(default_factory=dict)
    comparison: str = ""


def collect_audio(folders: Mapping[str, Path], rows: Sequence[Row], utterances: Sequence[int]) -> list[Place]:
    """Return the utterances to listen to, for each noise type and dB, from the samples folder of each label.

    The list is empty if no label has such a folder (test.py --samples 0). Raises UserError for an utterance
    that is not in the grid, was not saved, or whose samples are damaged.
    """
    keys = dict.fromkeys(utterance_key(row) for row in rows)
    unknown = set(utterances) - {key[2] for key in keys}
    if unknown:
        raise UserError(f"utterances: found {min(unknown)}, expected numbers from 0 to {max(k[2] for k in keys)}")
    if not any(folder.is_dir() for folder in folders.values()):
        return []
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
        for path in files.values():
            read_wav(path)  # finds damaged ones before anything is written
        places.append(Place(*key, files))
    return places


def samples_folders(groups: Mapping[str, Sequence[Run]]) -> dict[str, Path]:
    """Return samples/<name>/<data> (in earlier versions samples/<name>) of the first run of each label."""
    folders = {}
    for label, (run, *_) in groups.items():
        run_dir = Path(os.path.abspath(run.folder))  # keeps links, as runs may be on another disk
        folder = run_dir.parent.parent / "samples" / run_dir.name
        folders[label] = folder / run.data if (folder / run.data).is_dir() else folder
    return folders


def write_page(folder: Path, page: Page) -> None:
    """Write index.html and audio/ to the folder."""
    scores = [name for name in TITLES if name in page.rows[0]]
    by_place = {(utterance_key(row), row["signal"]): row for row in page.heard}
    players = []
    for number, place in enumerate(page.places):
        name = f"{number:03d}"
        players.append({"id": name, "place": place, "signals": _write_audio(folder / "audio", name, place)})
        for signal in players[-1]["signals"]:
            row = by_place.get((place.key, signal["name"]))
            signal["scores"] = [(TITLES[n][0], f"{row[n]:.{TITLES[n][1]}f}") for n in scores] if row else []
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True).get_template(
        "page.html"
    )
    text = template.render(
        page=page,
        marks=MARKS,
        attention=[note for note in page.notes if note.startswith("Attention")],
        notes=[note for note in page.notes if not note.startswith("Attention")],
        score_tables=[(TITLES[name], score_blocks(page.rows, name, page.signals)) for name in scores],
        difference_titles=[TITLES[name][0] for name in page.difference_scores],
        curves=_png_uri(page.curves.read_bytes()),
        players=players,
    )
    write_text(folder / "index.html", text)


def _write_audio(folder: Path, name: str, place: Place) -> list[dict[str, Any]]:
    """Write the audio of a place, in FLAC, which all browsers play, and its script.

    Return name, file and picture of each signal.
    """
    signals, contents = [], {}
    waveforms = {signal: read_wav(path) for signal, path in place.files.items()}  # int16 [samples]
    levels = {signal: spectrogram(waveform / 32768) for signal, waveform in waveforms.items()}
    top = max(level.max() for level in levels.values())
    for number, (signal, waveform) in enumerate(waveforms.items()):
        where = f"{place.noise_type}_{place.snr_db:g}dB_{place.utterance:03d}"
        copy = folder / (re.sub(r"[^\w.+-]+", "_", f"{where}_{number}_{signal}") + ".flac")
        with replacing(copy) as temporary:
            soundfile.write(temporary, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        contents[str(number)] = base64.b64encode(copy.read_bytes()).decode()
        signals.append(
            {"name": signal, "file": f"audio/{copy.name}", "picture": _picture_uri(levels[signal], top)}
        )
    write_text(folder / f"{name}.js", f"player.provide({json.dumps(name)}, {json.dumps(contents)});\n")
    return signals


def _picture_uri(levels: np.ndarray, top: float) -> str:
    """Return a spectrogram without axes as a data URI; every second bin and 64 colours keep the page small."""
    share = np.clip((levels[::-2] - top) / DYNAMIC_RANGE + 1, 0, 1)
    picture = Image.fromarray((share * (COLOURS - 1)).astype(np.uint8)).convert("P")
    picture.putpalette((colormaps["magma"](np.linspace(0, 1, COLOURS))[:, :3] * 255).astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, format="png")
    return _png_uri(file.getvalue())


def _png_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
