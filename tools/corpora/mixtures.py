"""Items mixed from speech and noise, each with its own random generator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataloader.mixing import (
    active_span,
    headroom,
    mix_at_level,
    noise_gain,
    quantise_alone,
    quantise_at_snr,
    rms,
)
from tools.common.audio_files import read
from tools.common.errors import UserError
from tools.common.seeding import generator
from tools.corpora.noise_sources import PACKED_PEAK, NoiseSource, read_named
from tools.corpora.recordings import Recording
from tools.corpora.rooms import Rooms, reverberate
from tools.corpora.settings import DatasetSettings


@dataclass(frozen=True)
class Clip:
    """Clean speech of an item, and the record of its source."""

    samples: np.ndarray  # float64 [samples], padded with zeros
    active: slice  # where there is speech
    made_of: dict[str, Any]
    early: np.ndarray | None = None  # the target, if other than the samples: direct sound and early reflections

    def record(self, level_db: float, gain: float) -> dict[str, Any]:
        """Return the record of the speech after a gain that gives it a level in dBFS."""
        active = [self.active.start, self.active.stop]
        return self.made_of | {"active": active, "level_dbfs": level_db, "speech_gain": gain}


class MixtureSource:
    """Makes the items of the splits; an item depends neither on their number nor on the process that makes it.

    Args:
        settings: Of the set.
        speech: Recordings of each split.
        noise: Segments for train and valid.
        test_rows: Noise source and noise types of each row of the test grid, by its name.
        rooms: Impulse responses for the speech; None to leave it as it is.
    """

    def __init__(
        self,
        settings: DatasetSettings,
        speech: Mapping[str, Sequence[Recording]],
        noise: Mapping[str, NoiseSource],
        test_rows: Mapping[str, tuple[NoiseSource, tuple[str, ...]]],
        rooms: Rooms | None = None,
    ) -> None:
        self.settings = settings
        self.noise_types = tuple(test_rows)
        self._speech = speech
        self.noise = noise
        self._test_rows = test_rows
        self._rooms = rooms
        self._clips = {split: self._order(split) for split in speech}

    def count(self, split: str) -> int:
        """Return the number of items of a split; for the test, of utterances in a cell of its grid."""
        return self.settings.asked(split) or len(self._clips[split])

    def item(self, split: str, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return an item of train or valid, `[2, samples]`, and its record.

        The speech was multiplied by `scale * speech_gain`, the noise by `scale * gain`.
        """
        rng = generator(self.settings.seed, split, index)
        clip = self.clip(split, index, rng)
        snr_db, level_db = self.settings.draw.draw(rng)
        noise, made_of = self.noise[split].draw(rng, clip.active, clip.made_of["talker"])
        try:
            mixture, speech_gain = mix_at_level(
                clip.samples, noise, snr_db, level_db, active=clip.active, dtype=self.settings.dtype
            )
        except ValueError as error:
            raise UserError(f"{clip.made_of['speech']}: {error}") from None
        clean = self._target(clip, mixture.scale * speech_gain, mixture.clean)
        mixed = {"snr_db": snr_db, "gain": mixture.gain, "scale": mixture.scale}
        return np.stack([mixture.noisy, clean]), clip.record(level_db, speech_gain) | made_of | mixed

    def test_utterance(self, index: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Return an utterance of the test in all cells, `[noise type, dB, 2, samples]`, and the record of each.

        All cells have the same clean speech, and all cells of a row the same noise with different gains.
        """
        settings = self.settings
        rng = generator(settings.seed, "test", index)
        clip = self.clip("test", index, rng)
        _, level_db = settings.draw.draw(rng)
        speech_gain = 10 ** (level_db / 20) / rms(clip.samples[clip.active], "clean")
        clean = speech_gain * clip.samples
        drawn = []
        for source, types in self._test_rows.values():
            turn, kind = divmod(index, len(types))
            drawn.append(source.draw(rng, clip.active, clip.made_of["talker"], types[kind], turn))
        lowest = min(settings.test_snr_db)
        loudest = [noise_gain(clean, noise, lowest, clip.active) * noise for noise, _ in drawn]
        scale = min(headroom(clean, noise) for noise in loudest)
        grid = np.zeros((len(drawn), len(settings.test_snr_db), 2, settings.samples), settings.dtype)
        items = []
        for row, (name, (noise, made_of)) in enumerate(zip(self._test_rows, drawn, strict=True)):
            for column, snr_db in enumerate(settings.test_snr_db):
                gain = noise_gain(clean, noise, snr_db, clip.active)
                noisy, rounded, correction = quantise_at_snr(
                    scale * clean, scale * gain * noise, snr_db, clip.active, settings.dtype
                )
                grid[row, column] = noisy, self._target(clip, scale * speech_gain, rounded)
                cell = {"row": name, "column": column, "utterance": index}
                mixed = {"snr_db": snr_db, "gain": gain * correction, "scale": scale}
                items.append(cell | clip.record(level_db, speech_gain) | made_of | mixed)
        return grid, items

    def _target(self, clip: Clip, gain: float, clean: np.ndarray) -> np.ndarray:
        """Return the target, given the clean speech of the mixture."""
        return clean if clip.early is None else quantise_alone(gain * clip.early, self.settings.dtype)

    def clip(self, split: str, index: int, rng: np.random.Generator) -> Clip:
        """Return the clean speech of an item, not scaled, with reverberation if there are rooms."""
        number, start = self._clips[split][index % len(self._clips[split])]
        recording = self._speech[split][number]
        made_of = {"speech": str(recording.path), "talker": recording.group, "start": int(start)}
        try:
            speech = read(recording.path, int(start), self.settings.samples)
            made_of["samples"] = speech.size
            speech = np.pad(speech, (0, self.settings.samples - speech.size))
            early = None
            if self._rooms:
                impulse_response, room = self._rooms.draw(rng, split)
                if self.settings.reverb_target == "early":
                    early = reverberate(speech, impulse_response, self.settings.early_ms)
                    room |= {"early_ms": self.settings.early_ms}
                speech = reverberate(speech, impulse_response)
                made_of |= room
            return Clip(speech, active_span(speech), made_of, early)
        except (UserError, ValueError) as error:
            raise UserError(f"{recording.path}: {error}") from None

    def packed_speech(self, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a training item's speech `[samples]` to be mixed later, and its record."""
        clip = self.clip("train", index, generator(self.settings.seed, "train", index))
        gain = PACKED_PEAK / float(np.max(np.abs(clip.samples)))
        made_of = clip.made_of | {"gain": gain, "active": [clip.active.start, clip.active.stop]}
        return quantise_alone(gain * clip.samples, self.settings.dtype), made_of

    def packed_noise(self, number: int, row: int) -> np.ndarray:
        """Return a row `[samples]` of part `number` of the training noise; numbers beyond the parts are babble."""
        source = self.noise["train"]
        if number >= len(source.parts):
            segment, _ = source.babble.draw(generator(self.settings.seed, "babble", number))
            return quantise_alone(segment * (PACKED_PEAK / np.max(np.abs(segment))), self.settings.dtype)
        part = source.parts[number]
        start = row * self.settings.samples
        count = min(self.settings.samples, part.samples - start)
        segment = read_named(part.recording.path, part.start + start, count) * (PACKED_PEAK / part.recording.peak)
        return quantise_alone(np.pad(segment, (0, self.settings.samples - count)), self.settings.dtype)

    def _order(self, split: str) -> np.ndarray:
        """Return the shuffled clips of a split, [clips, 2]: recording and start.

        If not all of a validation or test split are used, they are spread evenly over talkers and recordings.
        """
        recordings = self._speech[split]
        clips = [(number, start) for number, recording in enumerate(recordings) for start in recording.starts]
        clips = generator(self.settings.seed, split, "order").permutation(np.array(clips, np.int64), axis=0)
        if split == "train" or not 0 < self.settings.asked(split) < len(clips):
            return clips
        clips = sorted(clips, key=lambda clip: recordings[clip[0]].starts.index(clip[1]))
        talkers = [recordings[number].group for number, _ in clips]
        turns = [talkers[:place].count(talker) for place, talker in enumerate(talkers)]
        return np.array(clips)[np.argsort(turns, kind="stable")]
