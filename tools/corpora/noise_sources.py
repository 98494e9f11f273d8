"""Noise segments, cut from recordings, and babble mixed from talkers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataloader.mixing import is_silent, rms
from dataloader.random_draws import SegmentDraw
from tools.common.audio_files import read
from tools.common.errors import UserError
from tools.corpora.recordings import Recording
from tools.corpora.splits import NoisePart, by_group

BABBLE = "babble"
BABBLE_TALKERS = (4, 8)
BABBLE_SPREAD_DB = 6  # largest level difference between talkers
ATTEMPTS = 20  # to draw a segment that is not silent


class NoiseSource:
    """Segments of some types of noise.

    Args:
        parts: Stretches of recordings.
        samples: Length of a segment.
        babble_speech: Speech for babble as one more type; none for no babble.
    """

    def __init__(self, parts: Sequence[NoisePart], samples: int, babble_speech: Sequence[Recording] = ()) -> None:
        self.parts = parts
        self.samples = samples
        self.babble = Babble(babble_speech, samples) if babble_speech else None
        recorded = sorted({part.recording.group for part in parts})
        self.types = tuple(recorded) + ((BABBLE,) if babble_speech else ())
        self._draw = SegmentDraw(
            [recorded.index(part.recording.group) for part in parts], [part.samples for part in parts], samples
        )

    def draw(
        self, rng: np.random.Generator, active: slice, talker: str, kind: str | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a segment, float64 `[samples]`, and its record.

        Args:
            rng: Source of all random choices.
            active: The span in which the segment must not be silent.
            talker: Talker of the speech to mix with, whom babble excludes.
            kind: Noise type; None to draw one uniformly.
        """
        kind = kind or self.types[rng.integers(len(self.types))]
        if kind == BABBLE and self.babble:
            return self.babble.draw(rng, talker)
        for _ in range(ATTEMPTS):
            number, start = self._draw.draw(rng, self.types.index(kind))
            part = self.parts[number]
            count = min(self.samples, part.samples - start)
            segment = np.resize(read_named(part.recording.path, part.start + start, count), self.samples)
            if not is_silent(segment[active]):
                made_of = {"noise": str(part.recording.path), "noise_start": part.start + start}
                return segment, {"noise_type": kind, **made_of, "noise_samples": count}
        raise UserError(
            f"noise type {kind}: {ATTEMPTS} segments in a row were silent where there is speech, expected noise; "
            f"leave out files such as {part.recording.path}"
        )


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
