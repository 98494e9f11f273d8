"""Scores of a test grid, kept in a file and computed only once."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tools.common.files import fingerprint, write_text
from tools.scoring.scores import ScorePool, Scores, scores_key

NOISY, ENHANCED = "noisy_scores.jsonl", "enhanced_scores.jsonl"
COMPARED = 4000  # samples of each utterance, spread evenly over it
SAME = 0.99  # correlation above which two are the same recording; scaling and rounding to 16 bits leave more


class ScoreCache:
    """Scores of a signal by item number, in a file of JSON lines, so that an interrupted test resumes.

    The first line is what the scores depend on; a file with another first line is started again. Beside data that
    may not be written, scores are kept in memory only.

    Args:
        path: The file: NOISY beside the data, for all runs, or ENHANCED in a test's folder.
        grid: The test grid's .npy file, or folder of shards.
        names: The requested scores.
        checkpoint: The network that enhanced the signal, if any.
    """

    def __init__(self, path: Path, grid: Path, names: Sequence[str], checkpoint: Path | None = None) -> None:
        self._names = names
        self._scores: dict[int, Scores] = {}
        depends_on = {"data": fingerprint(grid)} | scores_key()
        if checkpoint:
            depends_on |= {"checkpoint": fingerprint(checkpoint)}
        head = json.dumps(depends_on, sort_keys=True)
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

    def missing(self, number: int) -> list[str]:
        """Return the names of the scores that an item does not have yet."""
        return [name for name in self._names if name not in self[number].values]

    def add(self, number: int, scores: Scores) -> None:
        """Keep further scores of an item."""
        self._scores[number] = self[number] | scores
        if self._file:
            self._file.write(json.dumps([number, dataclasses.asdict(self[number])]) + "\n")

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
                    yield waveforms["clean"], waveforms[signal], missing

    try:
        with ScorePool() as pool:
            results = tqdm(pool.map(pairs()), "scores", total, leave=False, disable=None)
            for done, scores in enumerate(results):
                signal, number = jobs[done]
                caches[signal].add(number, scores)
    finally:
        for cache in caches.values():
            cache.close()


def number_clean(waveforms: Iterable[np.ndarray]) -> list[int]:
    """Return a number for each clean waveform [samples], counted from 0, the same for the same recording.

    Utterances of a test with the same clean speech are not independent.
    """
    known: list[np.ndarray] = []
    numbers = []
    for waveform in waveforms:
        points = np.linspace(0, waveform.size - 1, min(COMPARED, waveform.size)).astype(int)
        part = waveform[points].astype(np.float64)
        part /= np.linalg.norm(part) or 1.0
        alike = np.flatnonzero(np.array(known) @ part > SAME) if known else []
        if not len(alike):
            alike = [len(known)]
            known.append(part)
        numbers.append(int(alike[0]))
    return numbers
