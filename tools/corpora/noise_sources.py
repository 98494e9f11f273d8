"""Noise segments, cut from recordings, and babble mixed from talkers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataloader.mixing import rms
from dataloader.random_draws import Piece, SegmentDraw, TypeWeights
from tools.common.audio_files import read
from tools.common.errors import UserError
from tools.corpora.recordings import Recording
from tools.corpora.splits import NoisePart, by_group

BABBLE = "babble"
BABBLE_TALKERS = (4, 8)
BABBLE_SPREAD_DB = 6  # largest level difference between talkers
BABBLE_ROWS = (
    200  # clips of babble that are packed for mixing on the fly: ten minutes of 3 s, its weight as a type
)
PACKED_PEAK = 0.9  # of separately packed speech and noise, with headroom for resampling


class NoiseSource:
    """Segments of some types of noise.

    Args:
        parts: Stretches of recordings.
        samples: Length of a segment.
        type_weights: See SegmentDraw.
        babble_speech: Speech for babble as one more type; none for no babble.
    """

    def __init__(
        self,
        parts: Sequence[NoisePart],
        samples: int,
        type_weights: TypeWeights = "equal",
        babble_speech: Sequence[Recording] = (),
    ) -> None:
        self.parts = parts
        self.samples = samples
        self.babble = Babble(babble_speech, samples) if babble_speech else None
        recorded = sorted({part.recording.group for part in parts})
        self.types = tuple(recorded) + ((BABBLE,) if babble_speech else ())
        kinds = [recorded.index(part.recording.group) for part in parts]
        lengths = [part.samples for part in parts]
        if babble_speech:
            kinds += [len(recorded)] * BABBLE_ROWS
            lengths += [samples] * BABBLE_ROWS
        self._segments = SegmentDraw(kinds, lengths, samples, type_weights)

    def draw(
        self,
        rng: np.random.Generator,
        active: slice,
        talker: str,
        kind: str | None = None,
        turn: int | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a segment, float64 `[samples]`, and its record.

        Args:
            rng: Source of all random choices.
            active: The span in which the segment must not be silent.
            talker: Talker of the speech to mix with, whom babble excludes.
            kind: Noise type; None to draw one.
            turn: Number of the recording of this type, modulo their number; None to draw one.
        """
        kind = kind or self.types[self._segments.draw_type(rng)]
        if kind == BABBLE and self.babble:
            return self.babble.draw(rng, talker)
        try:
            segment, pieces = self._segments.draw(rng, self._read, active, self.types.index(kind), turn)
        except UserError:
            raise
        except ValueError as error:
            example = next(part for part in self.parts if part.recording.group == kind)
            raise UserError(
                f"noise type {kind}: {error}, expected noise; leave out files such as {example.recording.path}"
            ) from None
        return segment, {"noise_type": kind, **self._record(pieces)}

    def _read(self, piece: Piece) -> np.ndarray:
        part = self.parts[piece.recording]
        return self._gain(piece) * read_named(part.recording.path, part.start + piece.start, piece.count)

    def _gain(self, piece: Piece) -> float:
        """Return the factor of a recording: those that are joined have the same peak, as when mixed on the fly."""
        return 1.0 if piece.count == self.samples else PACKED_PEAK / self.parts[piece.recording].recording.peak

    def _record(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Return the file and stretch of a segment or, if recordings are joined, a list of them."""
        starts = [self.parts[piece.recording].start + piece.start for piece in pieces]
        files = [str(self.parts[piece.recording].recording.path) for piece in pieces]
        if pieces[0].count == self.samples:
            return {"noise": files[0], "noise_start": starts[0], "noise_samples": self.samples}
        return {
            "noise": [
                {
                    "file": file,
                    "start": start,
                    "samples": piece.count,
                    "position": piece.position,
                    "gain": self._gain(piece),
                }
                for file, start, piece in zip(files, starts, pieces, strict=True)
            ]
        }


def read_named(path: Path, start: int, count: int) -> np.ndarray:
    """Read as `audio_files.read` does. Raises UserError with the file's name."""
    try:
        return read(path, start, count)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


class Babble:
    """Several talkers at once. Raises UserError if there are too few."""

    def __init__(self, speech: Sequence[Recording], samples: int) -> None:
        self.samples = samples
        self._talkers = by_group(speech)
        if len(self._talkers) <= BABBLE_TALKERS[0]:
            raise UserError(
                f"babble: found {len(self._talkers)} training talkers for it in one of the splits, expected more "
                f"than {BABBLE_TALKERS[0]}; leave out --babble, or give more speech"
            )

    def draw(self, rng: np.random.Generator, talker: str = "") -> tuple[np.ndarray, dict[str, Any]]:
        """Return a segment without the talker's voice, and its record; gains apply to the samples of the files."""
        others = [name for name in self._talkers if name != talker]
        count = min(int(rng.integers(BABBLE_TALKERS[0], BABBLE_TALKERS[1] + 1)), len(others))
        mixture, voices = np.zeros(self.samples), []
        for number in rng.permutation(len(others))[:count]:
            recordings = self._talkers[others[number]]
            recording = recordings[rng.integers(len(recordings))]
            start = recording.starts[rng.integers(len(recording.starts))]
            voice = np.resize(read_named(recording.path, start, self.samples), self.samples)
            gain = 10 ** (-rng.uniform(0, BABBLE_SPREAD_DB) / 20) / rms(voice, str(recording.path))
            mixture += gain * voice
            voices.append({"file": str(recording.path), "start": start, "gain": gain})
        return mixture, {"noise_type": BABBLE, "noise": voices}
