"""Corpora of mixtures: pairs of a noisy and a clean file, matched by name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from config import SAMPLE_RATE
from dataloader.mixing import FRAME, SILENCE, active_span, headroom, is_silent, quantise
from tools.common.audio_files import read, read_format
from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.common.seeding import generator
from tools.corpora.recordings import Problem, Recording, Selection, check_recording, find_files
from tools.corpora.settings import DatasetSettings

SWAPPED_DB = 3.0  # if the contrast of noisy exceeds that of clean by more, they are taken as swapped


@dataclass(frozen=True)
class Pair(Recording):
    """A clean recording, and the noisy file that it is in."""

    noisy: Path
    contrast_db: float  # of noisy minus that of clean: below 0, as noise fills pauses


def find_pairs(
    folders: tuple[Path, Path], key: str, selection: Selection, pool: ProcessPool, problems: list[Problem]
) -> list[Pair]:
    """Return the usable pairs below a noisy and a clean folder; mismatches are added to `problems`.

    key: regular expression whose first group is equal in the names of a pair; if empty, paths without suffix must
    be equal. Raises UserError if a folder is missing.
    """
    noisy, clean = (_by_key(folder, key, selection.files, problems) for folder in folders)
    for names, others, folder, other in ((noisy, clean, *folders), (clean, noisy, *folders[::-1])):
        for name in names.keys() - others.keys():
            problems.append(Problem(str(folder / names[name]), f"no file of that name in {other}"))
    common = sorted(noisy.keys() & clean.keys())
    problems.sort(key=lambda problem: problem.file)
    results = pool.starmap(check_pair, ((*folders, noisy[name], clean[name], selection) for name in common))
    pairs = []
    for result in tqdm(results, f"reading {folders[0]}", len(common), unit="pair", leave=False, disable=None):
        (pairs if isinstance(result, Pair) else problems).append(result)
    if are_swapped([pair.contrast_db for pair in pairs]):
        raise UserError(f"{folders[0]}: has quieter pauses than {folders[1]}; expected noisy first, then clean")
    return pairs


def contrast_db(signal: np.ndarray) -> float:
    """Return the 95% minus the 10% quantile of the levels of frames in dB, of [samples] at 16 kHz."""
    frames = np.square(signal[: signal.size // FRAME * FRAME], dtype=np.float64).reshape(-1, FRAME).mean(axis=1)
    quiet, loud = np.percentile(10 * np.log10(frames + SILENCE**2), (10, 95)) if frames.size else (0.0, 0.0)
    return float(loud - quiet)


def are_swapped(contrasts_db: Sequence[float]) -> bool:
    """Return whether noisy and clean seem to be swapped, from the contrasts of noisy minus clean."""
    return len(contrasts_db) > 0 and float(np.median(contrasts_db)) > SWAPPED_DB


def check_pair(
    _: None, noisy_folder: Path, clean_folder: Path, noisy: str, clean: str, selection: Selection
) -> Pair | Problem:
    """Read the clips of both files; return the pair, or why it cannot be used."""
    path = noisy_folder / noisy
    recording = check_recording(None, clean_folder, clean, selection)
    if isinstance(recording, Problem):
        return recording
    try:
        found, expected = read_format(path), read_format(recording.path)
        if found.rate != expected.rate:
            raise UserError(f"{found.rate} Hz, but {recording.path} {expected.rate} Hz")
        if found.frames != expected.frames:
            raise UserError(f"{found.frames} samples, but {recording.path} {expected.frames}")
        for start in recording.starts:
            signal = read(path, start, selection.samples)
            if is_silent(signal):
                raise UserError(f"silent from {start / SAMPLE_RATE:.1f} s on, but {recording.path} is not")
        contrast = contrast_db(signal) - contrast_db(read(recording.path, start, selection.samples))
    except UserError as error:
        return Problem(str(path), str(error))
    return Pair(**vars(recording), noisy=path, contrast_db=contrast)


class PairSource:
    """Items of the splits from pairs of files.

    Args:
        settings: Of the set.
        pairs: Of each split.
    """

    noise_types = ("pairs",)  # the only row of the test grid

    def __init__(self, settings: DatasetSettings, pairs: Mapping[str, Sequence[Pair]]) -> None:
        self._settings, self._pairs = settings, pairs
        self._clips = {}
        for split, those in pairs.items():
            clips = [(number, start) for number, pair in enumerate(those) for start in pair.starts]
            if asked := settings.asked(split):
                order = generator(settings.seed, split, "order").permutation(len(clips))
                clips = [clips[place] for place in order[:asked]]
            self._clips[split] = clips

    def count(self, split: str) -> int:
        """Return the number of items of a split."""
        return len(self._clips[split])

    def item(self, split: str, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return an item of a split, `[2, samples]`, and its record; both signals have the same scale."""
        number, start = self._clips[split][index]
        pair = self._pairs[split][number]
        try:
            noisy, clean = (read(path, start, self._settings.samples) for path in (pair.noisy, pair.path))
            length = clean.size
            noisy, clean = (np.pad(signal, (0, self._settings.samples - signal.size)) for signal in (noisy, clean))
            active = active_span(clean)
            scale = headroom(clean, noisy - clean)
            if np.array_equal(noisy, clean):
                raise ValueError("noisy and clean are the same: no SNR")
            both = np.stack(quantise(scale * clean, scale * (noisy - clean), self._settings.dtype))
        except (UserError, ValueError) as error:
            raise UserError(f"{pair.noisy}: {error}") from None
        speech, noise = clean[active], (noisy - clean)[active]
        return both, {
            "speech": str(pair.path),
            "talker": pair.group,
            "start": start,
            "samples": length,
            "active": [active.start, active.stop],
            "noisy": str(pair.noisy),
            "snr_db": round(float(10 * np.log10(np.sum(speech**2) / np.sum(noise**2))), 2),
            "scale": scale,
        }

    def test_utterance(self, index: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Return an item of the test as the only cell of a grid, `[1, 1, 2, samples]`, and its record."""
        both, item = self.item("test", index)
        return both[None, None], [{"row": self.noise_types[0], "column": 0, "utterance": index} | item]


def _by_key(folder: Path, key: str, files: str, problems: list[Problem]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in find_files(folder, files, problems):
        match = re.search(key, file) if key else None
        if key and not (match and match.group(1)):
            problems.append(Problem(str(folder / file), f"its name does not match {key}"))
            continue
        name = match.group(1) if match else str(Path(file).with_suffix(""))
        if name in found:
            problems.append(
                Problem(str(folder / file), f"as {found[name]} it is {name!r}, one of them is left out")
            )
            continue
        found[name] = file
    return found
