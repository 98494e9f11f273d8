"""Find: the usable recordings in folders, each read once, and why the others are rejected."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from config import SAMPLE_RATE
from dataloader.mixing import FRAME, SILENCE, frame_energies, is_silent, rms
from dataloader.random_draws import generator
from tools.common.audio import SUFFIXES, find_audio, find_delay, read, read_format
from tools.common.errors import UserError
from tools.common.processes import ProcessPool

Cut = Literal["first", "random", "every"]
MIN_SAMPLES = SAMPLE_RATE // 2  # anything shorter is no utterance and too short for scores
MIN_NOISE_SAMPLES = SAMPLE_RATE // 50  # noise may be a click
TALKER = "([^/]+)/|([^/_.-]+)[^/]*$"  # the first folder, or the name up to the first separator
NOISE_TYPE = r"([^/]+)/|([^/]+?)(?:\.[^/.]*)?$"  # the first folder, or the name without suffix
MAX_DIFFERENCE = SAMPLE_RATE // 20  # samples, of the lengths of a pair
SPEECH_SHARE = 0.05  # of a clip's frames: its speech level is the energy that they exceed
FAR_BELOW = 0.01  # of the recording's speech level: a clip below it holds hardly any speech, -20 dB
MARGIN = 8  # frames before the speech at which a clip begins
PAUSE = 25  # frames of silence between two sounds of a noise recording that is mostly silent
BLOCK = 20  # clips that are read at once
CLIPPED_SAMPLES = 30  # of a block within 0.1% of its peak
NARROW_HZ, NARROW = 4300, 10**-4.5  # less than this share of the energy above: telephone speech
MATCHING = 0.1  # least share of the energy of noisy that clean explains, to believe a delay or gain
EXACT = 10**0.03  # a gain is 1 if another one lowers the noise by less than 0.3 dB
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
        traits: What the user may want to know of it, as words that follow "recordings".
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
    traits: frozenset[str] = frozenset()

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
        return read(self.path, self.offset + start, count)


@dataclass(frozen=True)
class Pair(Recording):
    """A clean recording, and the noisy file that it is in, `delay` samples later and `gain` times as loud."""

    noisy: Path = Path()
    delay: int = 0
    gain: float = 1.0
    contrast_db: float = 0.0  # of noisy minus that of clean: below 0, as noise fills pauses


@dataclass(frozen=True)
class Selection:
    """Which files and clips of a folder to use.

    Attributes:
        label: Regular expression on the path below the folder; its first group that matched is the talker or
            type. If empty, all files have one, named like the folder.
        samples: Length of a clip.
        files: Regular expression to search in a path.
        cut: Clips of a recording: the first, a random one, or all; whole: no clips; sound: no clips, but the
            stretches with sound of one that is mostly silent.
        seed: Seed of the random start.
        shortest: Least number of samples of a recording.
    """

    label: str
    samples: int
    files: str = ""
    cut: Cut | Literal["whole", "sound"] = "first"
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
        if not files:
            pattern = f" that matches {selection.files}" if selection.files else ""
            raise UserError(f"{folder}: found no audio{pattern}, expected {', '.join(SUFFIXES)}")
        found += check_all(pool, check_recording, [(folder, file, selection) for file in files], rejected)
    return found


def find_pairs(
    key: str, selection: Selection, pool: ProcessPool, rejected: list[str], folders: tuple[Path, Path]
) -> list[Pair]:
    """Return the usable pairs below a noisy and a clean folder; other files and the reasons go to `rejected`.

    key: regular expression whose first group is equal in the names of a pair; several noisy files may have the
    same clean one. Raises UserError if a folder is missing, if no names match, or if noisy and clean seem swapped.
    """
    noisy, clean = (_by_key(folder, key, selection.files, rejected) for folder in folders)
    common = sorted(noisy.keys() & clean.keys())
    for names, folder, other in ((noisy, *folders), (clean, *folders[::-1])):
        lonely = sorted(file for name in names.keys() - common for file in names[name])
        rejected += [f"{folder / file}: no file of that name in {other}" for file in lonely]
    if not common:
        raise UserError(f"{folders[0]}: no name matches one in {folders[1]} by --pair_key '{key}'; choose another")
    for name in common:
        rejected += [f"{folders[1] / file}: matches as {clean[name][0]} does" for file in clean[name][1:]]
    inputs = [(*folders, noisy[name], clean[name][0], selection) for name in common]
    pairs = check_all(pool, check_pairs, inputs, rejected)
    if are_swapped([pair.contrast_db for pair in pairs]):
        raise UserError(f"{folders[0]}: has quieter pauses than {folders[1]}; expected noisy first, then clean")
    return pairs


def check_all(
    pool: ProcessPool, check: Callable[..., list[Any]], inputs: Sequence[tuple], rejected: list[str]
) -> list[Any]:
    """Return what `check` finds for each input; reasons why files cannot be used go to `rejected`."""
    found = []
    results = pool.starmap(check, inputs)
    for one in tqdm(results, f"reading {inputs[0][0]}", len(inputs), unit="file", leave=False, disable=None):
        for result in one:
            (rejected if isinstance(result, str) else found).append(result)
    return found


def find_files(folder: Path, pattern: str, rejected: list[str]) -> list[str]:
    """Return the audio files below a folder whose relative paths match; UserError if there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected a folder of audio")
    files, refused = find_audio(folder)
    rejected += [f"{path}: {reason}" for path, reason in refused.items()]
    return [file for file in files if re.search(pattern, file)]


def check_recording(folder: Path, file: str, selection: Selection) -> list[Recording | str]:
    """Read a file; return the recording, or stretches of it, or its name and why it cannot be used."""
    path = folder / file
    try:
        label = _label(folder, file, selection.label)
        samples = read_format(path).samples
        if samples < selection.shortest:
            found, expected = samples / SAMPLE_RATE, selection.shortest / SAMPLE_RATE
            raise UserError(f"{path}: too short: {found:.2f} s, expected {expected} s or more")
        traits: set[str] = set()
        energies, peak = _measure(path, samples, selection, traits)
        sounding = np.flatnonzero(energies >= FRAME * SILENCE**2)
        if not sounding.size:
            raise UserError(f"{path}: silent")
        starts, stretches = range(0, samples, selection.samples), [(0, energies.size)]  # in frames
        if selection.cut == "sound" and 2 * sounding.size < energies.size:
            traits.add("that are mostly silent (segments are drawn where the sound is)")
            runs = np.split(sounding, np.flatnonzero(np.diff(sounding) > PAUSE) + 1)
            stretches = [(int(run[0]), int(run[-1]) + 1) for run in runs]
        elif selection.cut not in ("whole", "sound"):
            starts = _clip_starts(file, energies, samples, selection, traits)
    except UserError as error:
        return [str(error)]
    found = []
    for first, end in stretches:
        clips = [energies[first:end][start // FRAME :][: selection.samples // FRAME] for start in starts]
        digest = hashlib.blake2b(np.concatenate(clips).tobytes(), digest_size=8).hexdigest()
        extent = {"offset": first * FRAME, "samples": min(end * FRAME, samples) - first * FRAME}
        extent |= {"starts": tuple(starts), "peak": peak, "traits": frozenset(traits)}
        found.append(Recording(path, label, digest=digest, **extent))
    return found


def check_pairs(
    noisy_folder: Path, clean_folder: Path, noisy: Sequence[str], clean: str, selection: Selection
) -> list[Pair | str]:
    """Read a clean file and its noisy ones; return each pair, or a file's name and why it cannot be used."""
    [found] = check_recording(clean_folder, clean, selection)
    if isinstance(found, str):
        return [found]
    return [check_pair(found, noisy_folder / file, selection.samples) for file in noisy]


def check_pair(recording: Recording, path: Path, samples: int) -> Pair | str:
    """Read the clips of the noisy file of a recording; return the pair, or why it cannot be used."""
    traits = set(recording.traits)
    try:
        found, expected = read_format(path), read_format(recording.path)
        if found.rate != expected.rate or abs(found.samples - expected.samples) > MAX_DIFFERENCE:
            has = f"{recording.path} has {expected.frames} at {expected.rate} Hz"
            raise ValueError(f"{found.frames} samples at {found.rate} Hz, but {has}")
        for start in recording.starts:
            if is_silent(read(path, start, samples, traits)):
                raise ValueError(f"silent from {start / SAMPLE_RATE:.1f} s on, but {recording.path} is not")
        # The first clips tell delay and gain.
        clean, noisy = (read(file, recording.starts[0], samples) for file in (recording.path, path))
        delay, gain = fit(clean, noisy)
        contrast = contrast_db(noisy) - contrast_db(clean)
    except UserError as error:
        return str(error)
    except ValueError as error:
        return f"{path}: {error}"
    if delay:
        traits.add("whose noisy file is late or early (aligned)")
    if gain != 1:
        traits.add("whose noisy file is scaled or inverted (so is the target)")
    changed = {"starts": tuple(max(start, -delay) for start in recording.starts), "traits": frozenset(traits)}
    return Pair(**vars(recording) | changed, noisy=path, delay=delay, gain=gain, contrast_db=contrast)


def fit(clean: np.ndarray, noisy: np.ndarray) -> tuple[int, float]:
    """Return delay in samples and gain (negative if inverted) of clean in noisy; ValueError if it is not in there.

    Both are 0 and 1 if clean explains too little of noisy to tell, and noisy minus clean is a likely noise.
    """
    for delay in (find_delay(clean, noisy) or 0, 0):
        speech, mixture = clean[max(0, -delay) :], noisy[max(0, delay) :]
        length = min(speech.size, mixture.size)
        speech, mixture = speech[:length], mixture[:length]
        gain = float(mixture @ speech / (speech @ speech))
        least, given = (float(np.sum((mixture - factor * speech) ** 2)) for factor in (gain, 1.0))
        matching = 1 - least / (mixture @ mixture) >= MATCHING
        if is_silent(mixture - gain * speech):
            raise ValueError("holds no noise")
        if given <= EXACT * least and (matching or not delay):
            return delay, 1.0
        if matching:
            return delay, gain
    raise ValueError("does not hold the clean speech, at no delay up to 0.1 s")


def drop_copies(lists: Iterable[list[Recording]], rejected: list[str]) -> None:
    """Remove recordings with the same audio as an earlier one from the lists, and add them to `rejected`."""
    first: dict[str, Recording] = {}
    for recordings in lists:
        copies = [one for one in recordings if first.setdefault(one.digest, one) is not one]
        rejected += [f"{copy.path}: the same audio as {first[copy.digest].path}, used once" for copy in copies]
        recordings[:] = [one for one in recordings if first[one.digest] is one]


def contrast_db(signal: np.ndarray) -> float:
    """Return the 95% minus the 10% quantile of the levels of frames in dB, of [samples] at 16 kHz."""
    levels = 10 * np.log10(frame_energies(signal) / FRAME + SILENCE**2)
    quiet, loud = np.percentile(levels, (10, 95))
    return float(loud - quiet)


def are_swapped(contrasts_db: Sequence[float]) -> bool:
    """Return whether noisy and clean seem to be swapped, from the contrasts of noisy minus clean."""
    return len(contrasts_db) > 0 and float(np.median(contrasts_db)) > SWAPPED_DB


def _by_key(folder: Path, key: str, files: str, rejected: list[str]) -> dict[str, list[str]]:
    """Return the files by the part of their names that is equal in a pair."""
    found: dict[str, list[str]] = {}
    for file in find_files(folder, files, rejected):
        if match := re.search(key, file):
            found.setdefault(match[1], []).append(file)
        else:
            rejected.append(f"{folder / file}: does not match --pair_key '{key}'")
    return found


def _label(folder: Path, file: str, pattern: str) -> str:
    if not pattern:
        return folder.name
    match = re.search(pattern, file)
    label = next((found for found in match.groups() if found), "") if match else ""
    if not label.strip(". "):
        raise UserError(f"{folder / file}: no talker or type in its name, expected one as in {pattern}")
    return label


def _measure(path: Path, samples: int, selection: Selection, traits: set[str]) -> tuple[np.ndarray, float]:
    """Return the energies of a file's frames and its peak, read block by block; traits of speech."""
    energies, peak, totals = [], 0.0, np.zeros(2)
    block = BLOCK * -(-selection.samples // FRAME) * FRAME
    for start in range(0, samples, block):
        waveform = read(path, start, block, traits)
        energies.append(frame_energies(waveform))
        peak = max(peak, top := float(np.max(np.abs(waveform))))
        if selection.cut not in ("whole", "sound"):
            spectrum = np.abs(np.fft.rfft(waveform)) ** 2
            totals += spectrum.sum(), spectrum[NARROW_HZ * waveform.size // SAMPLE_RATE :].sum()
            if np.count_nonzero(np.abs(waveform) > 0.999 * top) > CLIPPED_SAMPLES:
                traits.add("that are clipped")
    if totals[1] < NARROW * totals[0]:
        traits.add(f"without sound above {NARROW_HZ / 1000:g} kHz")
    return np.concatenate(energies), peak


def _clip_starts(
    file: str, energies: np.ndarray, samples: int, selection: Selection, traits: set[str]
) -> list[int]:
    """Return the starts of the clips with speech; if a single one has none, the first place at which it has."""
    clip, spare = selection.samples, samples - selection.samples

    def level(start: int) -> float:
        return float(np.quantile(energies[start // FRAME :][: clip // FRAME], 1 - SPEECH_SHARE))

    starts = range(0, samples, clip)
    least = max(FAR_BELOW * max(map(level, starts)), FRAME * SILENCE**2)
    if selection.cut == "every":
        starts = [start for start in starts if start == 0 or samples - start >= MIN_SAMPLES]
    else:
        random = selection.cut == "random" and spare > 0
        starts = [int(generator(selection.seed, "cut", file).integers(spare + 1)) if random else 0]
    spoken = [start for start in starts if level(start) >= least]
    if spoken and len(spoken) < len(starts):
        traits.add("with clips 20 dB or more below their speech (left out)")
    if not spoken:
        traits.add("that begin 20 dB or more below their speech (the item begins at the speech)")
        loud = FRAME * np.flatnonzero(energies >= least)
        first = next((start for start in loud if level(start) >= least), FRAME * int(np.argmax(energies)))
        spoken = [max(0, min(int(first) - MARGIN * FRAME, samples - MIN_SAMPLES))]
    return spoken
