"""Random draws for a mixture: SNR, level, and noise segment; their generators."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from msgspec import Meta

from .mixing import is_silent

ATTEMPTS = 20  # to draw a segment that is not silent
Decibel = Annotated[float, Meta(gt=-1000, lt=1000)]
TypeWeights = Literal["root", "equal"]


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """Return the generator for a key, such as item 7 of the training: `generator(seed, "train", 7)`.

    It does not depend on what was drawn before.
    """
    return np.random.default_rng([seed, *(zlib.crc32(str(part).encode(errors="surrogateescape")) for part in key)])


@dataclass(frozen=True)
class MixtureDraw:
    """Distributions of SNR, level and noise type.

    Attributes:
        snr_db: The values to choose from, or (lowest, highest) if `is_range`.
        is_range: Whether SNRs are drawn uniformly between the two.
        level_db: Lowest and highest RMS of the active speech in dBFS, before scaling against clipping.
        type_weights: See SegmentDraw; sets made before there was a choice draw all types equally often.
    """

    snr_db: tuple[Decibel, ...]
    is_range: bool
    level_db: tuple[Decibel, Decibel]
    type_weights: TypeWeights = "equal"

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        """Return an SNR in dB and a level in dBFS, to a hundredth."""
        level_db = round(rng.uniform(*self.level_db), 2)
        snr_db = round(rng.uniform(*self.snr_db), 2) if self.is_range else float(rng.choice(self.snr_db))
        return snr_db, level_db


class Piece(NamedTuple):
    """A stretch of a recording in a segment, in samples."""

    recording: int
    start: int  # in the recording
    count: int
    position: int  # in the segment


class SegmentDraw:
    """Draws noise segments: first the type, then the recording, then the position.

    A recording is drawn in proportion to its length, at least that of a segment. A shorter one is put at a random
    position where there is speech, and others of its type, each once, fill the time before and after it. If these
    are too few, the rest stays silent.

    Args:
        types: Type of each recording, a name or a number.
        lengths: Length of each recording in samples.
        samples: Length of a segment.
        type_weights: equal: all types are equally likely; root: in proportion to the square root of the length of
            their recordings, so that types of seconds are heard, but less than those of minutes.

    Attributes: types, sorted.
    """

    def __init__(
        self,
        types: Sequence[str | int],
        lengths: Sequence[int],
        samples: int,
        type_weights: TypeWeights = "equal",
    ) -> None:
        self._lengths, self._samples = np.asarray(lengths, np.int64), samples
        weights = np.maximum(self._lengths, samples)
        self.types = sorted(set(types))
        self._recordings = {kind: np.flatnonzero(np.asarray(types) == kind) for kind in self.types}
        totals = {kind: weights[numbers].sum() for kind, numbers in self._recordings.items()}
        self._weights = {kind: weights[numbers] / totals[kind] for kind, numbers in self._recordings.items()}
        shares = np.array(list(totals.values())) ** (0.5 if type_weights == "root" else 0.0)
        self._type_weights = shares / shares.sum()

    def draw(
        self,
        rng: np.random.Generator,
        read: Callable[[Piece], np.ndarray],
        active: slice,
        kind: str | int | None = None,
        turn: int | None = None,
    ) -> tuple[np.ndarray, list[Piece]]:
        """Return a segment `[samples]` and its pieces.

        Args:
            rng: Source of all random choices.
            read: Returns the samples of a piece.
            active: The span of the speech, in which the segment must not be silent.
            kind: Type; None to draw it.
            turn: Number of the recording within the type, modulo their number; None to draw it.

        Raises LookupError if all attempts give silence.
        """
        for attempt in range(ATTEMPTS):
            drawn = self.types[rng.choice(len(self.types), p=self._type_weights)] if kind is None else kind
            numbers = self._recordings[drawn]
            if turn is None:
                first = rng.choice(numbers, p=self._weights[drawn])
            else:
                first = numbers[(turn + attempt) % numbers.size]
            pieces = self._pieces(rng, int(first), numbers, active)
            parts = [read(piece) for piece in pieces]
            segment = np.zeros(self._samples, parts[0].dtype)
            for piece, part in zip(pieces, parts, strict=True):
                segment[piece.position :][: piece.count] = part
            if not is_silent(segment[active]):
                return segment, pieces
        raise LookupError(f"{ATTEMPTS} noise segments in a row are silent where there is speech")

    def _pieces(self, rng: np.random.Generator, first: int, numbers: np.ndarray, active: slice) -> list[Piece]:
        length = int(self._lengths[first])
        if length >= self._samples:
            return [Piece(first, int(rng.integers(length - self._samples + 1)), self._samples, 0)]
        start, stop, _ = active.indices(self._samples)
        # Inside the speech if it fits, else around it.
        lowest, highest = np.clip(sorted((start, stop - length)), 0, self._samples - length)
        position = int(rng.integers(lowest, highest + 1))
        pieces = [Piece(first, 0, length, position)]
        others = rng.permutation(numbers[numbers != first])
        starts = rng.integers(np.maximum(self._lengths[others] - (self._samples - length), 0) + 1)
        unused = list(zip(others.tolist(), starts.tolist(), strict=True))
        for gap, end in ((0, position), (position + length, self._samples)):
            while gap < end and unused:
                other, start = unused.pop()
                rest = int(self._lengths[other]) - start
                count = min(rest, end - gap)
                pieces.append(Piece(other, start, count, gap))
                gap += count
                if count < rest:
                    unused.append((other, start + count))
        return pieces
