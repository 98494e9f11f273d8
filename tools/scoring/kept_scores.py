"""Scores of a test grid that outlive an interruption, and are computed only once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tools.common.files import fingerprint
from tools.scoring.journal import Journal
from tools.scoring.scores import ScorePool, Scores, scores_key

NOISY, ENHANCED = "noisy_scores.jsonl", "enhanced_scores.jsonl"


class KeptScores:
    """Scores of one signal by the number of its item.

    They are kept in a file, and forgotten if the test grid, the checkpoint or a package that scores has changed.

    Args:
        path: The file: NOISY beside the data serves every run, ENHANCED in a test's folder one.
        grid: The test grid's .npy file, or folder of shards.
        names: The scores that are wanted.
        checkpoint: What the signal was enhanced with.
    """

    def __init__(self, path: Path, grid: Path, names: Sequence[str], checkpoint: Path | None = None) -> None:
        key = {"data": fingerprint(grid)} | scores_key()
        if checkpoint:
            key |= {"checkpoint": fingerprint(checkpoint)}
            path.parent.mkdir(parents=True, exist_ok=True)
        self._journal, self._names = Journal(path, key, Scores), names

    def __getitem__(self, number: int) -> Scores:
        return self._journal.results.get(number, Scores())

    def lacking(self, number: int) -> list[str]:
        """Return the names of the scores that an item does not have yet."""
        return [name for name in self._names if name not in self[number].values]

    def add(self, number: int, scores: Scores) -> None:
        """Keep further scores of an item."""
        self._journal.add(number, self[number] | scores)

    def close(self) -> None:
        """Close the file; the scores stay readable."""
        self._journal.close()


def score_lacking(
    kept: Mapping[str, KeptScores], items: Iterable[tuple[int, Mapping[str, np.ndarray]]], total: int
) -> None:
    """Score what is lacking of the signals of items, in as many processes as there are cores.

    items: number and waveforms [samples] by name, "clean" among them, read only a little ahead.
    total: how many signals will be scored, for the bar.
    """
    jobs: list[tuple[str, int]] = []  # in the order in which their results come

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
