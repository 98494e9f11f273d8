"""Random draws for a mixture: SNR, level, and noise segment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

Decibel = Annotated[float, Meta(gt=-1000, lt=1000)]


@dataclass(frozen=True)
class MixtureDraw:
    """Distributions of SNR and level.

    Attributes:
        snr_db: The values to choose from, or (lowest, highest) if `is_range`.
        is_range: Whether SNRs are drawn uniformly between the two.
        level_db: Lowest and highest RMS of the active speech in dBFS, before scaling against clipping.
    """

    snr_db: tuple[Decibel, ...]
    is_range: bool
    level_db: tuple[Decibel, Decibel]

    def __post_init__(self) -> None:
        if len(self.snr_db) < 1 + self.is_range:
            raise ValueError(f"{len(self.snr_db)} SNRs, expected one or more, or the two ends of a range")

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        """Return an SNR in dB and a level in dBFS, to a hundredth."""
        level_db = round(rng.uniform(*self.level_db), 2)
        snr_db = round(rng.uniform(*self.snr_db), 2) if self.is_range else float(rng.choice(self.snr_db))
        return snr_db, level_db


class SegmentDraw:
    """Draws noise segments: first the type uniformly, then the position uniformly over its recordings.

    Args:
        types: Type number of each recording.
        lengths: Length of each recording in samples.
        samples: Length of a segment; a shorter recording has one position, its start.
    """

    def __init__(self, types: Sequence[int], lengths: Sequence[int], samples: int) -> None:
        self._recordings = {}  # by type: numbers of its recordings, cumulative number of their positions
        types = np.asarray(types)
        positions = np.maximum(np.asarray(lengths, np.int64) - samples, 0) + 1
        for kind in np.unique(types):
            numbers = np.flatnonzero(types == kind)
            self._recordings[int(kind)] = numbers, np.cumsum(positions[numbers])

    def draw(self, rng: np.random.Generator, kind: int | None = None) -> tuple[int, int]:
        """Return number of the recording and first sample of a segment. kind: its type; None for any."""
        if kind is None:
            kind = list(self._recordings)[rng.integers(len(self._recordings))]
        numbers, ends = self._recordings[kind]
        position = int(rng.integers(ends[-1]))
        place = int(np.searchsorted(ends, position, side="right"))
        return int(numbers[place]), position - int(ends[place - 1] if place else 0)
