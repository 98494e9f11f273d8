"""The test grid: its scores, computed only once; its speech as files for another system, and their outputs."""

import contextlib
import dataclasses
import json
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from config import SAMPLE_RATE
from tools.common.audio import find_audio, find_delay, open_audio
from tools.common.errors import UserError
from tools.common.files import fingerprint, replacing, write_csv, write_text
from tools.scoring.opinions import word_errors
from tools.scoring.recordings import read_transcripts
from tools.scoring.scores import ScorePool, Scores, scores_key

NOISY, ENHANCED, CLEAN = "noisy_scores.jsonl", "enhanced_scores.jsonl", "clean_texts.jsonl"


class ScoreCache:
    """Scores of a signal by item number, in a file of JSON lines, so that an interrupted test resumes.

    The first line is what the scores depend on; a file with another first line is started again. Beside data that
    may not be written, scores are kept in memory only.

    Args:
        path: The file: NOISY beside the data, for all runs, or ENHANCED in a test's folder.
        grid: The test grid's .npy file, or folder of shards.
        names: The requested scores.
        left_out: Returns those of them that an item does not get.
        origin: Digests of what made the signal, if it is not the grid's own.
    """

    def __init__(
        self,
        path: Path,
        grid: Path,
        names: Sequence[str],
        origin: Mapping[str, str] | None = None,
        left_out: Callable[[int], Collection[str]] = lambda number: (),
    ) -> None:
        self._names, self._left_out = names, left_out
        self._scores: dict[int, Scores] = {}
        head = json.dumps({"data": fingerprint(grid)} | scores_key() | dict(origin or {}), sort_keys=True)
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        first, *lines = text.splitlines() or [""]
        if first == head:
            for line in lines:
                with contextlib.suppress(ValueError):  # half a line, of a process that was killed
                    number, scores = json.loads(line)
                    self._scores[number] = Scores(**scores)
        self._file = None
        with contextlib.suppress(OSError):
            if first != head:
                write_text(path, f"{head}\n")
            self._file = path.open("a", encoding="utf-8", buffering=1)
            if first == head and not text.endswith("\n"):
                self._file.write("\n")

    def __getitem__(self, number: int) -> Scores:
        return self._scores.get(number, Scores())

    def row(self, number: int) -> tuple[dict[str, Any], str]:
        """Return the requested scores of an item by name, and why one of them is missing."""
        values, failed = self[number].values, self[number].failed
        names = self._names_of(number)
        reasons = [f"{name}: {failed[name]}" for name in names if name in failed]
        return {name: values[name] for name in names}, "; ".join(reasons)

    def missing(self, number: int) -> list[str]:
        """Return the names of the scores that an item does not have yet."""
        return [name for name in self._names_of(number) if name not in self[number].values]

    def add(self, number: int, scores: Scores) -> None:
        """Keep further scores of an item."""
        self._scores[number] = self[number] | scores
        if self._file:
            self._file.write(json.dumps([number, dataclasses.asdict(self[number])]) + "\n")

    def _names_of(self, number: int) -> list[str]:
        left_out = self._left_out(number)
        return [name for name in self._names if name not in left_out]

    def close(self) -> None:
        """Close the file; the scores stay readable."""
        if self._file:
            self._file.close()


def score_missing(
    caches: Mapping[str, ScoreCache], items: Iterable[tuple[int, Mapping[str, np.ndarray]]], total: int
) -> None:
    """Compute the missing scores of the signals of items, in a process on each core.

    items: number and waveforms [samples] by name, including "clean"; only a few are read ahead.
    total: number of signals to score, for the progress bar.
    """
    jobs: list[tuple[str, int]] = []  # in the order of their results

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray, Sequence[str]]]:
        for number, waveforms in items:
            for signal, cache in caches.items():
                if missing := cache.missing(number):
                    jobs.append((signal, number))
                    waveform = waveforms[signal]
                    yield waveforms["clean"][: len(waveform)], waveform, missing

    try:
        with ScorePool() as pool:
            results = tqdm(pool.map(pairs()), "scores", total, leave=False, disable=None)
            for done, scores in enumerate(results):
                signal, number = jobs[done]
                caches[signal].add(number, scores)
    finally:
        for cache in caches.values():
            cache.close()


def find_texts(data: str, grid: Any, clean_id: Sequence[int]) -> list[str] | None:
    """Return what is said in each item, from transcripts.csv beside the data; None without this file.

    Its column file names files as `write_grid`, one for each clean speech. Raises UserError for other files.
    """
    path = Path(data) / "transcripts.csv"
    if not path.is_file():
        return None
    cells = (grid.cell(number) for number in range(len(grid)))
    names = {grid_path(Path(), cell).as_posix(): key for cell, key in zip(cells, clean_id, strict=True)}
    texts = read_transcripts(path, names)
    return [texts[key] for key in clean_id]


def clean_errors(heard: ScoreCache, texts: Sequence[str]) -> str:
    """Return a sentence on the word errors of the recogniser in clean speech."""
    both = ((heard.row(n)[0].get("text"), text) for n, text in enumerate(texts))
    errors = pd.DataFrame([word_errors(own, text, "") for own, text in both if own is not None])
    rate = (errors["wer"] * errors["words"]).sum() / errors["words"].sum()
    return f"Word errors of the clean speech: {rate:.1f}%."


def write_grid(folder: Path, grid: Any) -> None:
    """Write the noisy speech of a PackedDataset of the test grid, and its clean speech to <folder>_clean.

    manifest.csv in the folder lists both files of each utterance.
    """
    rows = []
    clean_folder = folder.with_name(f"{folder.name}_clean")
    for number in range(len(grid)):
        cell = grid.cell(number)
        paths = {"noisy": grid_path(folder, cell), "clean": grid_path(clean_folder, cell)}
        for path, waveform in zip(paths.values(), grid[number][:2], strict=True):
            with replacing(path) as temporary:  # float32, so that nothing is rounded
                soundfile.write(temporary, waveform.numpy(), SAMPLE_RATE, format="WAV", subtype="FLOAT")
        rows.append(paths | dict(zip(("noise_type", "snr_db", "utterance"), cell, strict=True)))
    write_csv(folder / "manifest.csv", rows)
    print(f"{len(grid)} noisy files are in {folder}, the clean ones in {clean_folder}")


def find_outputs(folder: Path, grid: Any) -> list[Path]:
    """Return a file for each item of the grid, named as by `write_grid`, after reading each.

    Raises UserError for a missing, unreadable, shorter or further file.
    """
    paths = [grid_path(folder, grid.cell(number)) for number in range(len(grid))]
    missing = [path for path in paths if not path.is_file()]
    extra = sorted({folder / file for file in find_audio(folder)[0]} - set(paths))
    if missing or extra:
        what = f"{missing[0]}: no such file" if missing else f"{extra[0]}: not in the test grid"
        raise UserError(
            f"{what} ({len(missing)} missing, {len(extra)} extra); expected the files of --write_noisy"
        )
    for path in paths:
        read_output(path, grid.samples)
    return paths


def read_output(path: Path, samples: int, delay: int = 0) -> np.ndarray:
    """Return an output without its delay in samples, float32, at most [samples]. Raises UserError."""
    with open_audio(path) as file:
        waveform, rate = file.read(dtype="float32"), file.samplerate
    if rate != SAMPLE_RATE or waveform.ndim > 1 or len(waveform) < samples:
        raise UserError(
            f"{path}: found shape {waveform.shape} at {rate} Hz, expected one channel at {SAMPLE_RATE} Hz, "
            f"{samples} samples or more"
        )
    if not np.isfinite(waveform).all():
        raise UserError(f"{path}: holds NaN or infinity")
    return np.pad(waveform, (max(0, -delay), 0))[max(0, delay) :][:samples]


def constant_delay(files: Sequence[Path], grid: Any) -> int:
    """Return the most frequent delay in samples at the highest dB, at most 0.1 s, or raise UserError."""
    highest = max(grid.description.snr_db)
    numbers = [number for number in range(len(grid)) if grid.cell(number)[1] == highest]
    pairs = ((grid[number][1].numpy(), read_output(files[number], grid.samples)) for number in numbers)
    delay = statistics.mode(find_delay(clean, output) for clean, output in pairs)
    if delay is None:
        raise UserError(f"{files[0].parents[2]}: no alignment with the clean speech found within 100 ms")
    return delay


def grid_path(folder: Path, cell: tuple[str, float, int]) -> Path:
    """Return <folder>/<noise type>/<dB>dB/<utterance>.wav."""
    noise_type, snr_db, utterance = cell
    return folder / noise_type / f"{snr_db:g}dB" / f"{utterance:03d}.wav"
