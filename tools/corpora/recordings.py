"""Find: the usable recordings in folders, each read once, and why the others are rejected."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from config import SAMPLE_RATE
from dataloader.mixing import FRAME, SILENCE, is_silent, rms
from tools.common.audio import SUFFIXES, find_audio, read, read_format
from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.common.seeding import generator

Cut = Literal["first", "random", "every"]
MIN_SAMPLES = SAMPLE_RATE // 2  # anything shorter is no utterance and too short for scores
MIN_NOISE_SAMPLES = SAMPLE_RATE // 50  # noise may be a click
TALKER = "([^/]+)/|([^/_.-]+)[^/]*$"  # the first folder, or the name up to the first separator
NOISE_TYPE = r"([^/]+)/|([^/]+?)(?:\.[^/.]*)?$"  # the first folder, or the name without suffix
SWAPPED_DB = 3.0  # if the contrast of noisy exceeds that of clean by more, they are taken as swapped


@dataclass(frozen=True)
class Recording:
    """A stretch of a usable file, in samples at the project's sample rate.

    Attributes:
        path: The file.
        label: Talker, or type of noise.
        samples: Length of the stretch.
        starts: Starts of its clips.
        peak: Largest magnitude of the samples that were read.
        digest: Equal for the same audio.
        offset: Start of the stretch in the file.
        audio: The samples, if they are not in a file.
        voices: Recording and level in dB of each talker, if it is a mixture of them.
        about: More to say in the records of its items.
    """

    path: Path
    label: str
    samples: int
    starts: tuple[int, ...] = (0,)
    peak: float = 1.0
    digest: str = ""
    offset: int = 0
    audio: np.ndarray | None = field(default=None, compare=False)
    voices: Mapping[str, tuple[Recording, float]] = field(default_factory=dict, compare=False)
    about: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def read(self, start: int, count: int) -> np.ndarray:
        """Return up to `count` samples of the stretch, float64. Raises UserError with the file's name."""
        if self.voices:
            mixture = np.zeros(self.samples)
            for recording, level_db in self.voices.values():
                voice = np.resize(recording.read(recording.starts[0], self.samples), self.samples)
                mixture += voice * (10 ** (level_db / 20) / rms(voice, str(recording.path)))
            return (mixture * (self.peak / np.max(np.abs(mixture))))[start : start + count]
        if self.audio is not None:
            return self.audio[start : start + count]
        return read_named(self.path, self.offset + start, count)


@dataclass(frozen=True)
class Pair(Recording):
    """A clean recording, the noisy file that it is in, and the difference of their contrasts in dB."""

    noisy: Path = Path()
    contrast_db: float = 0.0  # of noisy minus that of clean: below 0, as noise fills pauses


@dataclass(frozen=True)
class Selection:
    """Which files and clips of a folder to use.

    Attributes:
        label: Regular expression on the path below the folder; its first group that matched is the talker or
            type. If empty, all files have one, named like the folder.
        samples: Length of a clip.
        files: Regular expression to search in a path.
        cut: Clips of a recording: the first, a random one, or all; whole: all of it is read, and starts are not
            those of clips.
        seed: Seed of the random start.
        shortest: Least number of samples of a recording.
    """

    label: str
    samples: int
    files: str = ""
    cut: Cut | Literal["whole"] = "first"
    seed: int = 0
    shortest: int = MIN_SAMPLES


def find_recordings(
    folders: Sequence[Path], selection: Selection, pool: ProcessPool, rejected: list[str]
) -> list[Recording]:
    """Return the usable recordings below folders, sorted by path; other files and the reasons go to `rejected`.

    Raises UserError if a folder is missing or holds no audio at all.
    """
    found = []
    for folder in folders:
        files = find_files(folder, selection.files, rejected)
        if not files and not rejected:
            raise UserError(f"{folder}: found no audio {selection.files}, expected {', '.join(SUFFIXES)}")
        results = pool.starmap(check_recording, ((folder, file, selection) for file in files))
        for result in tqdm(results, f"reading {folder}", len(files), unit="file", leave=False, disable=None):
            (found if isinstance(result, Recording) else rejected).append(result)
    return found


def find_pairs(
    key: str, selection: Selection, pool: ProcessPool, rejected: list[str], folders: tuple[Path, Path]
) -> list[Pair]:
    """Return the usable pairs below a noisy and a clean folder; other files and the reasons go to `rejected`.

    key: regular expression whose first group is equal in the names of a pair. Raises UserError if a folder is
    missing, or if noisy and clean seem to be swapped.
    """
    noisy, clean = (_by_key(folder, key, selection.files, rejected) for folder in folders)
    for names, others, folder, other in ((noisy, clean, *folders), (clean, noisy, *folders[::-1])):
        rejected += [f"{folder / names[n]}: no file of that name in {other}" for n in names.keys() - others.keys()]
    rejected.sort()
    common = sorted(noisy.keys() & clean.keys())
    results = pool.starmap(check_pair, ((*folders, noisy[name], clean[name], selection) for name in common))
    pairs = []
    for result in tqdm(results, f"reading {folders[0]}", len(common), unit="pair", leave=False, disable=None):
        (pairs if isinstance(result, Pair) else rejected).append(result)
    if are_swapped([pair.contrast_db for pair in pairs]):
        raise UserError(f"{folders[0]}: has quieter pauses than {folders[1]}; expected noisy first, then clean")
    return pairs


def find_files(folder: Path, pattern: str, rejected: list[str]) -> list[str]:
    """Return the audio files below a folder whose relative paths match; UserError if there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected a folder of audio")
    files, refused = find_audio(folder)
    rejected += [f"{path}: {reason}" for path, reason in refused.items()]
    return [file for file in files if re.search(pattern, file)]


def check_recording(_: None, folder: Path, file: str, selection: Selection) -> Recording | str:
    """Read the clips of a file; return the recording, or its name and why it cannot be used."""
    path = folder / file
    if file.encode(errors="replace").decode() != file:
        return f"{str(path)!a}: its name is not text; rename it"
    try:
        label = _label(folder, file, selection.label)
        samples = read_format(path).samples
        if samples < selection.shortest:
            found, expected = samples / SAMPLE_RATE, selection.shortest / SAMPLE_RATE
            raise UserError(f"too short: {found:.2f} s, expected {expected} s or more")
        starts, peak, digest = [], 0.0, hashlib.blake2b(digest_size=8)
        for start in _clip_starts(file, samples, selection):
            clip = read(path, start, selection.samples)
            digest.update(clip.tobytes())
            peak = max(peak, float(np.max(np.abs(clip))))
            if not is_silent(clip):
                starts.append(start)
        if not starts:
            raise UserError("silent" + ("" if selection.cut in ("whole", "every") else " in the clip taken"))
    except UserError as error:
        return f"{path}: {error}"
    return Recording(path, label, samples, tuple(starts), peak, digest.hexdigest())


def check_pair(
    _: None, noisy_folder: Path, clean_folder: Path, noisy: str, clean: str, selection: Selection
) -> Pair | str:
    """Read the clips of both files; return the pair, or a file's name and why it cannot be used."""
    path = noisy_folder / noisy
    recording = check_recording(None, clean_folder, clean, selection)
    if isinstance(recording, str):
        return recording
    try:
        found, expected = read_format(path), read_format(recording.path)
        if (found.rate, found.frames) != (expected.rate, expected.frames):
            has = f"{recording.path} has {expected.frames} at {expected.rate} Hz"
            raise UserError(f"{found.frames} samples at {found.rate} Hz, but {has}")
        for start in recording.starts:
            signal = read(path, start, selection.samples)
            if is_silent(signal):
                raise UserError(f"silent from {start / SAMPLE_RATE:.1f} s on, but {recording.path} is not")
        contrast = contrast_db(signal) - contrast_db(read(recording.path, start, selection.samples))
    except UserError as error:
        return f"{path}: {error}"
    return Pair(**vars(recording), noisy=path, contrast_db=contrast)


def drop_copies(lists: Iterable[list[Recording]], rejected: list[str]) -> None:
    """Remove recordings with the same audio as an earlier one from the lists, and add them to `rejected`."""
    first: dict[str, Recording] = {}
    for recordings in lists:
        copies = [one for one in recordings if first.setdefault(one.digest, one) is not one]
        rejected += [f"{copy.path}: the same audio as {first[copy.digest].path}, used once" for copy in copies]
        recordings[:] = [one for one in recordings if first[one.digest] is one]


def contrast_db(signal: np.ndarray) -> float:
    """Return the 95% minus the 10% quantile of the levels of frames in dB, of [samples] at 16 kHz."""
    frames = np.square(signal[: signal.size // FRAME * FRAME], dtype=np.float64).reshape(-1, FRAME).mean(axis=1)
    quiet, loud = np.percentile(10 * np.log10(frames + SILENCE**2), (10, 95)) if frames.size else (0.0, 0.0)
    return float(loud - quiet)


def are_swapped(contrasts_db: Sequence[float]) -> bool:
    """Return whether noisy and clean seem to be swapped, from the contrasts of noisy minus clean."""
    return len(contrasts_db) > 0 and float(np.median(contrasts_db)) > SWAPPED_DB


def read_named(path: Path, start: int, count: int) -> np.ndarray:
    """Read as `audio.read` does. Raises UserError with the file's name."""
    try:
        return read(path, start, count)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _by_key(folder: Path, key: str, files: str, rejected: list[str]) -> dict[str, str]:
    """Return the files by the part of their names that is equal in a pair."""
    found: dict[str, str] = {}
    for file in find_files(folder, files, rejected):
        match = re.search(key, file)
        if match and match[1] not in found:
            found[match[1]] = file
        else:
            rejected.append(f"{folder / file}: does not match {key}, or as another file")
    return found


def _label(folder: Path, file: str, pattern: str) -> str:
    if not pattern:
        return folder.name
    match = re.search(pattern, file)
    label = next((found for found in match.groups() if found), "") if match else ""
    if not label.strip(". "):
        raise UserError(f"no talker or type in its name, expected one as in {pattern}")
    return label


def _clip_starts(file: str, samples: int, selection: Selection) -> list[int]:
    spare = samples - selection.samples
    if selection.cut == "random" and spare > 0:
        return [int(generator(selection.seed, "cut", file).integers(spare + 1))]
    if selection.cut in ("first", "random"):
        return [0]
    starts = range(0, samples, selection.samples)
    return [start for start in starts if start == 0 or samples - start >= MIN_SAMPLES or selection.cut == "whole"]
