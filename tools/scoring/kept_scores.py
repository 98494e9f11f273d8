"""Scores of a test grid that are kept in a file and computed only once."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tqdm import tqdm

from tools.common.files import fingerprint, replacing
from tools.scoring.scores import ScorePool, Scores, scores_key

NOISY, ENHANCED = "noisy_scores.jsonl", "enhanced_scores.jsonl"


class Journal:
    """Results by item number, kept in a file of JSON lines.

    The first line is `key`, what the results depend on: a file with another key is started again. Lines without a
    result of type `kind`, such as half a line from a killed process, are dropped. If nothing can be written,
    results are kept in memory only.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], kind: Any = Any) -> None:
        self.results: dict[int, Any] = {}
        head = json.dumps(key, sort_keys=True)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        whole = [head]
        if lines[:1] == [head]:
            for line in lines[1:]:
                with contextlib.suppress(ValueError, RecursionError):
                    number, result = msgspec.convert(json.loads(line), tuple[int, kind])
                    self.results[number] = result
                    whole.append(line)
        try:
            if lines != whole:
                with replacing(path) as temporary:
                    temporary.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
            self._file = path.open("a", encoding="utf-8", buffering=1)
        except OSError:
            self._file = None

    def add(self, number: int, result: Any) -> None:
        """Keep the result of an item; it must be of the type `kind`."""
        self.results[number] = result
        if self._file:
            try:
                self._file.write(json.dumps([number, msgspec.to_builtins(result)]) + "\n")
            except OSError:  # the disk is full; results are kept in memory from here on
                self._file = None

    def close(self) -> None:
        """Close the file; the results stay readable."""
        if self._file:
            self._file.close()


class KeptScores(Journal):
    """Scores of a signal by item number, computed again if test grid, checkpoint or a scoring package has changed.

    Args:
        path: The file: NOISY beside the data, for all runs, or ENHANCED in a test's folder.
        grid: The test grid's .npy file, or folder of shards.
        names: The requested scores.
        checkpoint: The network that enhanced the signal, if any.
    """

    def __init__(self, path: Path, grid: Path, names: Sequence[str], checkpoint: Path | None = None) -> None:
        key = {"data": fingerprint(grid)} | scores_key()
        if checkpoint:
            key |= {"checkpoint": fingerprint(checkpoint)}
            path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, key, Scores)
        self._names = names

    def __getitem__(self, number: int) -> Scores:
        return self.results.get(number, Scores())

    def lacking(self, number: int) -> list[str]:
        """Return the names of the scores that an item does not have yet."""
        return [name for name in self._names if name not in self[number].values]

    def add(self, number: int, scores: Scores) -> None:
        """Keep further scores of an item."""
        super().add(number, self[number] | scores)


def score_lacking(
    kept: Mapping[str, KeptScores], items: Iterable[tuple[int, Mapping[str, np.ndarray]]], total: int
) -> None:
    """Compute the missing scores of the signals of items, in a process on each core.

    items: number and waveforms [samples] by name, including "clean"; only a few are read ahead.
    total: number of signals to score, for the progress bar.
    """
    jobs: list[tuple[str, int]] = []  # in the order of their results

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray, Sequence[str]]]:
        for number, waveforms in items:
            for signal, scores in kept.items():
                if lacking := scores.lacking(number):
                    jobs.append((signal, number))
                    yield waveforms["clean"], waveforms[signal], lacking

    try:
        with ScorePool() as pool:
            results = tqdm(pool.map(pairs()), "scores", total, leave=False, disable=None)
            for done, scores in enumerate(results):
                signal, number = jobs[done]
                kept[signal].add(number, scores)
    finally:
        for scores in kept.values():
            scores.close()
