"""The usable recordings in a folder, each read once, and the problems of the others."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from config import SAMPLE_RATE
from dataloader.mixing import is_silent
from tools.common.audio_files import SUFFIXES, find_audio, read, read_format
from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.common.seeding import generator

Cut = Literal["first", "random", "every"]
MIN_SAMPLES = SAMPLE_RATE // 2  # anything shorter is no utterance and too short for scores
MIN_NOISE_SAMPLES = SAMPLE_RATE // 50  # noise may be a click
FIRST_FOLDER = "([^/]+)/"
UP_TO_SEPARATOR = "([^/_.-]+)[^/]*$"
WHOLE_STEM = r"([^/]+?)(?:\.[^/.]*)?$"
TALKER = f"{FIRST_FOLDER}|{UP_TO_SEPARATOR}"
NOISE_TYPE = f"{FIRST_FOLDER}|{WHOLE_STEM}"


@dataclass(frozen=True)
class Recording:
    """A usable file: talker or noise type, length, starts of its clips."""

    folder: str
    file: str  # path below the folder, with /
    group: str  # talker, or type of noise
    samples: int  # at the project's sample rate
    starts: tuple[int, ...]
    peak: float  # largest magnitude of the samples that were read
    digest: str  # of the samples that were read; equal for the same audio

    @property
    def path(self) -> Path:
        return Path(self.folder, self.file)


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@dataclass(frozen=True)
class Selection:
    """Which files and clips of a folder to use.

    Attributes:
        group: Regular expression on the path below the folder; its first group that matched is the talker or
            type. If empty, all files have one, named like the folder.
        files: Regular expression to search in a path.
        samples: Length of a clip.
        cut: Clips of a recording: the first, a random one, or all; whole: all of it is read, and starts are not
            those of clips.
        seed: Seed of the random start.
        shortest: Least number of samples of a recording.
    """

    group: str
    samples: int
    files: str = ""
    cut: Cut | Literal["whole"] = "first"
    seed: int = 0
    shortest: int = MIN_SAMPLES


def find_recordings(
    folder: Path, selection: Selection, pool: ProcessPool, problems: list[Problem]
) -> list[Recording]:
    """Return the usable recordings below a folder, sorted by path; other files are added to `problems`.

    Raises UserError if the folder is missing or holds no audio at all.
    """
    files = find_files(folder, selection.files, problems)
    if not files and not problems:
        raise UserError(
            f"{folder}: found no audio{' that matches ' + selection.files if selection.files else ''}, "
            f"expected files that end in {', '.join(SUFFIXES)}"
        )
    results = pool.starmap(check_recording, ((folder, file, selection) for file in files))
    bar = tqdm(results, f"reading {folder}", len(files), unit="file", leave=False, disable=None)
    recordings = []
    for result in bar:
        (recordings if isinstance(result, Recording) else problems).append(result)
    return recordings


def find_files(folder: Path, pattern: str, problems: list[Problem]) -> list[str]:
    """Return the audio files below a folder whose relative paths match; UserError if there is no such folder."""
    if not folder.is_dir():
        raise UserError(
            f"{folder}: {'a file' if folder.exists() else 'no such folder'}, expected a folder of audio"
        )
    files, refused = find_audio(folder)
    problems += [Problem(str(path), reason) for path, reason in refused.items()]
    return [file for file in files if re.search(pattern, file)]


def check_recording(_: None, folder: Path, file: str, selection: Selection) -> Recording | Problem:
    """Read the clips of a file; return the recording, or why it cannot be used."""
    path = folder / file
    try:
        file.encode()
    except UnicodeEncodeError:
        return Problem(ascii(str(path)), "its name is not text; rename it")
    group = _group(folder, file, selection.group)
    if group is None or not group.strip(". "):
        return Problem(str(path), f"no talker or type in its name, expected one as in {selection.group}")
    try:
        samples = read_format(path).samples
        if samples < selection.shortest:
            raise UserError(
                f"too short: {samples / SAMPLE_RATE:.2f} s, expected {selection.shortest / SAMPLE_RATE} s or more"
            )
        starts, peak, digest = [], 0.0, hashlib.blake2b(digest_size=8)
        for start in _clip_starts(file, samples, selection):
            clip = read(path, start, selection.samples)
            digest.update(clip.tobytes())
            peak = max(peak, float(np.max(np.abs(clip))))
            if not is_silent(clip):
                starts.append(start)
    except UserError as error:
        return Problem(str(path), str(error))
    if not starts:
        return Problem(str(path), "silent" + ("" if selection.cut in ("whole", "every") else " in the clip taken"))
    return Recording(str(folder), file, group, samples, tuple(starts), peak, digest.hexdigest())


def drop_copies(lists: Iterable[list[Recording]], problems: list[Problem]) -> None:
    """Remove recordings with the same audio as an earlier one from the lists, and add them to `problems`."""
    first: dict[str, Recording] = {}
    for recordings in lists:
        kept = [one for one in recordings if first.setdefault(one.digest, one) is one]
        for copy in sorted(set(recordings) - set(kept), key=lambda recording: recording.file):
            problems.append(Problem(str(copy.path), f"the same audio as {first[copy.digest].path}, used once"))
        recordings[:] = kept


def _group(folder: Path, file: str, pattern: str) -> str | None:
    if not pattern:
        return folder.name
    match = re.search(pattern, file)
    return next((found for found in match.groups() if found), None) if match else None


def _clip_starts(file: str, samples: int, selection: Selection) -> list[int]:
    spare = samples - selection.samples
    if selection.cut == "random" and spare > 0:
        return [int(generator(selection.seed, "cut", file).integers(spare + 1))]
    if selection.cut in ("first", "random"):
        return [0]
    starts = range(0, samples, selection.samples)
    return [start for start in starts if start == 0 or samples - start >= MIN_SAMPLES or selection.cut == "whole"]
