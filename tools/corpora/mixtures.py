"""Draw and mix: the items of a set, each with its own random generator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dataloader.impulse_response import draw_response, reverberate
from dataloader.mixing import active_span, add, headroom, level_gain, mix, noise_gain, quantise
from dataloader.random_draws import Piece, SegmentDraw, generator
from tools.common.audio import read
from tools.common.errors import UserError
from tools.corpora.recordings import Pair, Recording
from tools.corpora.settings import DatasetSettings
from tools.corpora.splits import Recordings, by_label

PACKED_PEAK = 0.9  # of separately packed speech and noise, with headroom for resampling
SIMULATED_ROOMS = {"rt60_s": (0.15, 0.7), "direct_db": (0, 12)}
BABBLE, BABBLE_RECORDINGS = "babble", 200  # ten minutes of 3 s
BABBLE_TALKERS = (4, 8)
BABBLE_SPREAD_DB = 6  # largest level difference between its talkers

Record = dict[str, Any]  # of an item, for items.jsonl


@dataclass(frozen=True)
class Plan:
    """What the items are made of.

    Attributes:
        settings: Of the set.
        clips: Recording and start of each item's speech, by split.
        noise: Recordings of train, valid, and of the rows of the test.
        segments: How segments of each of these are drawn.
        responses: Impulse responses by split; none for simulated rooms.
    """

    settings: DatasetSettings
    clips: Mapping[str, Sequence[tuple[Recording, int]]]
    noise: Recordings
    segments: Mapping[str, SegmentDraw]
    responses: Recordings

    @property
    def rows(self) -> list[str]:
        """Return the names of the rows of the test grid; ready-made pairs have one."""
        return ["pairs"] if self.has_pairs("test") else [n for n in self.segments if n not in ("train", "valid")]

    def has_pairs(self, split: str) -> bool:
        """Return whether the items of a split are ready-made pairs."""
        return isinstance(self.clips[split][0][0], Pair)

    def count(self, split: str) -> int:
        """Return the number of items of a split; for the test, of utterances in a cell of its grid."""
        asked, clips = getattr(self.settings, f"n_{split}"), len(self.clips[split])
        return min(asked or clips, clips) if self.has_pairs(split) else asked or clips


def make_plan(settings: DatasetSettings, speech: Recordings, noise: Recordings, responses: Recordings) -> Plan:
    """Return the plan of a set. Raises UserError if there are too few talkers for babble."""
    noise = {name: list(recordings) for name, recordings in noise.items()}
    babbling = [name for name in ("train", "valid", "seen") if settings.babble and name in noise]
    for number, name in enumerate(babbling):
        noise[name] += make_babble(speech["train"][number :: len(babbling)], settings, name)
    segments = {}
    for name, recordings in noise.items():
        if recordings:
            labels, lengths = [r.label for r in recordings], [r.samples for r in recordings]
            segments[name] = SegmentDraw(labels, lengths, settings.samples, settings.type_weights)
    clips = {split: order_clips(settings, split, recordings) for split, recordings in speech.items()}
    return Plan(settings, clips, noise, segments, responses)


def order_clips(
    settings: DatasetSettings, split: str, recordings: Sequence[Recording]
) -> list[tuple[Recording, int]]:
    """Return recording and start of each item's speech.

    If not all of a validation or test split are used, they are spread evenly over talkers and recordings.
    """
    clips = [(recording, start) for recording in recordings for start in recording.starts]
    asked, pairs = getattr(settings, f"n_{split}"), isinstance(recordings[0], Pair)
    if not pairs or asked:
        clips = [clips[place] for place in generator(settings.seed, split, "order").permutation(len(clips))]
    if not pairs and split != "train" and 0 < asked < len(clips):
        # The first clips of all recordings before the second ones; then the first of all talkers, and so on.
        clips.sort(key=lambda clip: clip[0].starts.index(clip[1]))
        talkers = pd.Series([recording.label for recording, _ in clips])
        clips = [clips[place] for place in talkers.groupby(talkers).cumcount().argsort(kind="stable")]
    return clips


# -- Items; the first argument is shared by the processes of a pool --


def make_pair(plan: Plan, split: str, index: int) -> tuple[np.ndarray, list[Record]]:
    """Return a ready-made pair, `[2, samples]`, and its record; both signals have the same scale."""
    pair, start = plan.clips[split][index]
    samples = plan.settings.samples
    noisy, clean = read(pair.noisy, start + pair.delay, samples), read(pair.path, start, samples)
    length = min(noisy.size, clean.size)
    noisy, clean = (np.pad(signal[:length], (0, samples - length)) for signal in (noisy, pair.gain * clean))
    try:
        active = active_span(clean)
        scale = headroom(clean, noisy - clean)
        both = np.stack(add(scale * clean, scale * (noisy - clean), plan.settings.dtype))
    except ValueError as error:  # a clip without noise
        raise UserError(f"{pair.noisy}: {error}") from None
    speech, noise = clean[active], (noisy - clean)[active]
    cell = {"row": "pairs", "column": 0, "utterance": index} if split == "test" else {}
    return both, [
        cell
        | {
            "speech": str(pair.path),
            "talker": pair.label,
            "start": start,
            "samples": length,
            "active": [active.start, active.stop],
            "noisy": str(pair.noisy),
            "delay": pair.delay,
            "clean_gain": pair.gain,
            "snr_db": round(float(10 * np.log10(np.sum(speech**2) / np.sum(noise**2))), 2),
            "scale": scale,
        }
    ]


def make_item(plan: Plan, split: str, index: int) -> tuple[np.ndarray, list[Record]]:
    """Return a mixture for train or valid, `[2, samples]`, and its record.

    The speech was multiplied by `scale * speech_gain`, the noise by `scale * gain`.
    """
    settings = plan.settings
    rng = generator(settings.seed, split, index)
    clip = read_clip(plan, split, index, rng)
    snr_db, level_db = settings.distributions.draw(rng)
    noise, drawn = draw_noise(plan, split, rng, clip)
    mixture = mix(clip.speech, noise, snr_db, level_db, active=clip.active, dtype=settings.dtype)
    clean = clip.target(mixture.scale * mixture.speech_gain, mixture.clean)
    level = {"level_dbfs": level_db, "speech_gain": mixture.speech_gain}
    mixed = {"snr_db": snr_db, "gain": mixture.gain, "scale": mixture.scale}
    return np.stack([mixture.noisy, clean]), [clip.record | level | drawn | mixed]


def make_test_utterance(plan: Plan, split: str, index: int) -> tuple[np.ndarray, list[Record]]:
    """Return an utterance of the test in all cells, `[noise type, dB, 2, samples]`, and the record of each.

    All cells have the same clean speech, and all cells of a row the same noise with different gains.
    """
    settings = plan.settings
    rng = generator(settings.seed, split, index)
    clip = read_clip(plan, split, index, rng)
    _, level_db = settings.distributions.draw(rng)
    speech_gain = level_gain(clip.speech, level_db, clip.active)
    clean = speech_gain * clip.speech
    drawn = []
    for name in plan.rows:
        key = name.split()[0]  # unseen, as the row was called once: the same draws
        order = generator(settings.seed, "test types", key).permutation(plan.segments[name].types)
        turn, place = divmod(index, len(order))
        drawn.append(draw_noise(plan, name, rng, clip, order[place], turn))
    lowest = min(settings.test_snr_db)
    loudest = [noise_gain(clean, noise, lowest, clip.active) * noise for noise, _ in drawn]
    scale = min(headroom(clean, noise) for noise in loudest)
    grid = np.zeros((len(drawn), len(settings.test_snr_db), 2, settings.samples), settings.dtype)
    records = []
    for row, (name, (noise, record)) in enumerate(zip(plan.rows, drawn, strict=True)):
        for column, snr_db in enumerate(settings.test_snr_db):
            gain = noise_gain(clean, noise, snr_db, clip.active)
            noisy, rounded = add(scale * clean, scale * gain * noise, settings.dtype)
            grid[row, column] = noisy, clip.target(scale * speech_gain, rounded)
            cell = {"row": name, "column": column, "utterance": index}
            level = {"level_dbfs": level_db, "speech_gain": speech_gain}
            records.append(cell | clip.record | level | record | {"snr_db": snr_db, "gain": gain, "scale": scale})
    return grid, records


def make_speech(plan: Plan, index: int) -> tuple[np.ndarray, list[Record]]:
    """Return a training item's speech `[samples]` to be mixed later, and its record."""
    clip = read_clip(plan, "train", index, generator(plan.settings.seed, "train", index))
    gain = PACKED_PEAK / float(np.max(np.abs(clip.speech)))
    return quantise(gain * clip.speech, plan.settings.dtype), [clip.record | {"gain": gain}]


def make_noise_row(plan: Plan, number: int, row: int) -> tuple[np.ndarray, list[Record]]:
    """Return a row `[samples]` of a recording of the training noise, to be mixed later."""
    recording, samples = plan.noise["train"][number], plan.settings.samples
    start = row * samples
    segment = recording.read(start, min(samples, recording.samples - start)) * (PACKED_PEAK / recording.peak)
    return quantise(np.pad(segment, (0, samples - segment.size)), plan.settings.dtype), []


# -- Parts of an item --


@dataclass(frozen=True)
class Clip:
    """Clean speech of an item, and the record of its source."""

    speech: np.ndarray  # float64 [samples], padded with zeros
    active: slice  # where there is speech
    record: Record
    early: np.ndarray | None = None  # the target, if other than the samples: direct sound and early reflections

    def target(self, gain: float, clean: np.ndarray) -> np.ndarray:
        """Return the target, given the clean speech of the mixture and its gain."""
        return clean if self.early is None else quantise(gain * self.early, str(clean.dtype))


def read_clip(plan: Plan, split: str, index: int, rng: np.random.Generator) -> Clip:
    """Return the clean speech of an item, not scaled, with reverberation if the settings ask for it."""
    settings, clips = plan.settings, plan.clips[split]
    recording, start = clips[index % len(clips)]
    speech = recording.read(start, settings.samples)
    record = {"speech": str(recording.path), "talker": recording.label, "start": start, "samples": speech.size}
    record |= recording.about
    speech = np.pad(speech, (0, settings.samples - speech.size))
    early = None
    if settings.reverb:
        response, room = draw_room(plan, split, rng)
        if settings.reverb_target == "early":
            early = reverberate(speech, response, settings.early_ms)
            room |= {"early_ms": settings.early_ms}
        speech = reverberate(speech, response)
        record |= room
    active = active_span(speech)
    return Clip(speech, active, record | {"active": [active.start, active.stop]}, early)


def draw_room(plan: Plan, split: str, rng: np.random.Generator) -> tuple[np.ndarray, Record]:
    """Return an impulse response `[taps]` for an item, recorded or simulated, and its record."""
    if not plan.responses:
        return draw_response(rng, **SIMULATED_ROOMS)
    recordings = plan.responses[split]
    recording = recordings[rng.integers(len(recordings))]
    return recording.read(0, recording.samples), {"impulse_response": str(recording.path)}


def draw_noise(
    plan: Plan, name: str, rng: np.random.Generator, clip: Clip, kind: str | None = None, turn: int | None = None
) -> tuple[np.ndarray, Record]:
    """Return a segment of noise `[samples]` and its record. kind, turn: see SegmentDraw.draw."""
    recordings, samples = plan.noise[name], plan.settings.samples

    def gain(piece: Piece) -> float:
        """Return the factor of a recording: joined ones have the same peak, as when mixed on the fly."""
        return 1.0 if piece.count == samples else PACKED_PEAK / recordings[piece.recording].peak

    def read(piece: Piece) -> np.ndarray:
        recording = recordings[piece.recording]
        if clip.record["talker"] in recording.voices:  # silence is not used: another recording is drawn
            return np.zeros(piece.count)
        return gain(piece) * recording.read(piece.start, piece.count)

    try:
        segment, pieces = plan.segments[name].draw(rng, read, clip.active, kind, turn)
    except LookupError as error:
        raise UserError(f"noise of {kind or name}: {error}; leave out files that are mostly silent") from None
    first = recordings[pieces[0].recording]
    record = {"noise_type": first.label} | ({"talkers": list(first.voices)} if first.voices else {})
    if pieces[0].count == samples:
        start = first.offset + pieces[0].start
        return segment, record | {"noise": str(first.path), "noise_start": start, "noise_samples": samples}
    joined = []
    for piece in pieces:
        recording = recordings[piece.recording]
        stretch = {"file": str(recording.path), "start": recording.offset + piece.start, "samples": piece.count}
        joined.append(stretch | {"position": piece.position, "gain": gain(piece)})
    return segment, record | {"noise": joined}


def make_babble(speech: Sequence[Recording], settings: DatasetSettings, name: str) -> list[Recording]:
    """Return noise recordings in which several talkers speak at once. Raises UserError for too few talkers."""
    talkers, babble, rng = by_label(speech), [], generator(settings.seed, BABBLE, name)
    if len(talkers) <= BABBLE_TALKERS[0]:
        raise UserError(f"babble: found {len(talkers)} talkers for {name}, expected more than {BABBLE_TALKERS[0]}")
    for number in range(BABBLE_RECORDINGS):
        voices = {}
        for talker in rng.permutation(list(talkers))[: rng.integers(BABBLE_TALKERS[0], BABBLE_TALKERS[1] + 1)]:
            recording = talkers[talker][rng.integers(len(talkers[talker]))]
            voices[str(talker)] = recording, rng.uniform(-BABBLE_SPREAD_DB, 0)
        path = Path(BABBLE, name, str(number))
        babble.append(Recording(path, BABBLE, settings.samples, peak=PACKED_PEAK, voices=voices))
    return babble
