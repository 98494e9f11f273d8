"""Scoring of arbitrary recordings: matching by name, reading at any rate, alignment, checks."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from config import SAMPLE_RATE
from tools.common.audio import LONGEST_DELAY, SUFFIXES, find_audio, find_delay, read, read_format
from tools.common.errors import UserError
from tools.scoring.opinions import transcribe, word_errors
from tools.scoring.scores import CHECKS, computed, score
from tools.scoring.suspect import DEPENDENT

FULL_SCALE = 32767 / 32768
KINDS = ("clean", "enhanced", "noisy")


class FilePair(NamedTuple):
    """The files of an utterance: clean speech, the signals to score against it by name, and its text if known."""

    name: str
    clean: Path
    signals: Mapping[str, Path]
    text: str | None = None


def find_pairs(paths: Sequence[Path]) -> tuple[list[FilePair], list[str]]:
    """Return the matching files of CLEAN ENHANCED [NOISY], or of a CSV of such paths, and messages on the others.

    Files match if their paths below the folders are equal except for the suffix. Raises UserError if nothing
    matches, a name occurs twice, or a path is missing.
    """
    if len(paths) == 1 and paths[0].suffix.lower() not in SUFFIXES and not paths[0].is_dir():
        return _read_list(paths[0]), []
    if not 2 <= len(paths) <= 3:
        raise UserError(f"paths: found {len(paths)}, expected CLEAN ENHANCED [NOISY] or one CSV of pairs")
    if not any(path.is_dir() for path in paths):
        clean, *signals = paths
        return [FilePair(clean.stem, clean, dict(zip(KINDS[1:], signals, strict=False)))], []
    found = {kind: _list_folder(path) for kind, path in zip(KINDS, paths, strict=False)}
    names = sorted(set.intersection(*map(set, found.values())))
    if not names:
        examples = " and ".join(next(iter(files), "no sound files") for files in found.values())
        raise UserError(
            f"{paths[1]}: no file has the name of one in {paths[0]} (found {examples}); rename them, or list "
            "the pairs in a CSV with the columns clean and enhanced"
        )
    lonely = [
        f"{files[name]}: no file of that name in the other folders"
        for files in found.values()
        for name in sorted(set(files) - set(names))
    ]
    clean = found.pop("clean")
    pairs = [FilePair(name, clean[name], {kind: files[name] for kind, files in found.items()}) for name in names]
    return pairs, lonely


def score_files(pair: FilePair, metrics: Sequence[str], align: bool) -> tuple[list[dict], list[str]]:
    """Return a row of scores for each signal of the utterance, and a line for each file that cannot be scored."""
    rows, failures = [], []
    for name, path in pair.signals.items():
        try:
            rows.append({"file": pair.name, "signal": name} | score_file(pair, path, metrics, align))
        except UserError as error:
            failures.append(str(error))
    return rows, list(dict.fromkeys(failures))


def score_file(pair: FilePair, path: Path, metrics: Sequence[str], align: bool) -> dict[str, Any]:
    """Return the scores of a file of the pair, and its delay (NaN if no alignment was found), length and clipping.

    If a rate is below 16 kHz, there are no wide-band scores. Raises UserError if the lengths differ by more than
    0.1 s.
    """
    traits = set()
    clean, clean_rate = _read(pair.clean, traits)
    signal, rate = _read(path, traits)
    if abs(clean.size - signal.size) > LONGEST_DELAY:
        raise UserError(
            f"{path}: lasts {signal.size / SAMPLE_RATE:.2f} s, the clean file {clean.size / SAMPLE_RATE:.2f} s; "
            f"expected equal lengths, up to {LONGEST_DELAY / SAMPLE_RATE:g} s"
        )
    clipped = int((np.abs(signal) >= FULL_SCALE).sum())
    of_clean = transcribe(clean) if "wer" in metrics and pair.text is None else ""
    delay = find_delay(clean, signal)
    if align and delay:
        clean, signal = clean[max(0, -delay) :], signal[max(0, delay) :]
    length = min(clean.size, signal.size)
    narrow = min(rate, clean_rate) < SAMPLE_RATE
    wide = [name for name in metrics if name not in DEPENDENT or not narrow]
    scores = score(clean[:length].astype(np.float32), signal[:length].astype(np.float32), computed(wide))
    rates = f"recorded at {min(rate, clean_rate)} Hz, needs {SAMPLE_RATE}"
    failed = scores.failed | {name: rates for name in metrics if name not in wide}
    values = {name: scores.values.get(name, math.nan) for name in (*metrics, *CHECKS)}
    if "wer" in metrics:
        values |= word_errors(scores.values["text"], pair.text, of_clean)
    milliseconds = math.nan if delay is None else 1000 * delay / SAMPLE_RATE
    about = {"delay_ms": milliseconds, "seconds": length / SAMPLE_RATE, "clipped": clipped}
    about["missing"] = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
    return values | about | {"note": ", ".join(sorted(traits))}


def _read(path: Path, traits: set[str]) -> tuple[np.ndarray, int]:
    """Return a recording, float64 [samples] at 16 kHz, and the rate of its file. Raises UserError."""
    rate, waveform = read_format(path).rate, read(path, traits=traits)
    if not waveform.any():
        raise UserError(f"{path}: silent; expected speech")
    return waveform, rate


def _list_folder(folder: Path) -> dict[str, Path]:
    """Return the sound files below a folder by their relative path without suffix."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected folders only, or files only")
    found: dict[str, Path] = {}
    files, rejected = find_audio(folder)
    for path in [*(folder / file for file in files), *rejected]:  # reading a rejected file reports the reason
        name = plain_name(path.relative_to(folder).as_posix())
        if name in found:
            raise UserError(f"{path}: {found[name].name} has the same name; expected one file of each name")
        found[name] = path
    return found


def _read_list(path: Path) -> list[FilePair]:
    """Return the utterances in a CSV with the columns clean, enhanced and, optionally, noisy.

    Backslashes in paths, as spreadsheets write them, are read as well.
    """
    table = _read_table(path, "clean", "enhanced")
    columns = [name for name in KINDS if name in table]
    if table[columns].eq("").any(axis=None) or table["enhanced"].duplicated().any():
        raise UserError(f"{path}: found an empty cell, or a file twice; expected a path in each column")
    pairs = []
    for row in table[columns].to_dict("records"):
        files = {kind: path.parent / name.replace("\\", "/") for kind, name in row.items()}
        pairs.append(FilePair(row["enhanced"], files.pop("clean"), files))
    return pairs


def read_transcripts(path: Path, names: Mapping[str, Any]) -> dict[Any, str]:
    """Return the texts in a CSV with the columns file and text, by what `names` has for the file.

    Suffixes of sound files may be left out. Raises UserError if a file is unknown, or one of `names` has no text.
    """
    known = {plain_name(name): key for name, key in names.items()}
    table = _read_table(path, "file", "text")
    texts = dict(zip(map(plain_name, table["file"]), table["text"], strict=True))
    by_key = {known[name]: text for name, text in texts.items() if name in known}
    unknown = [name for name in texts if name not in known]
    lacking = [name for name, key in known.items() if key not in by_key]
    if unknown or lacking:
        what = f"{unknown[0]} is not among the files to score" if unknown else f"no text for {lacking[0]}"
        raise UserError(f"{path}: {what} ({len(unknown)} unknown, {len(lacking)} without text)")
    return by_key


def plain_name(name: str) -> str:
    """Return the path of a file without the suffix of a sound file, whatever the system that wrote it."""
    path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def _read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Return the texts in a CSV with these columns, or with semicolons or tabs, as spreadsheets write them."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            separator = max(",;\t", key=file.readline().count)
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", sep=separator, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{path}: not readable as CSV ({error})") from None
    if not set(columns) <= set(table):
        raise UserError(f"{path}: found the columns {', '.join(table)}, expected {', '.join(columns)}")
    return table
