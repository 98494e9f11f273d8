"""Tables of scores: rows noisy and enhanced, columns dB and their average, a block per noise type."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.files import replacing

SIGNALS = ("noisy", "enhanced")
TITLES = {
    "pesq": ("PESQ (wide-band)", 2),
    "stoi": ("STOI", 3),
    "estoi": ("ESTOI", 3),
    "si_sdr": ("SI-SDR (dB)", 2),
}  # title and decimal places

Row = Mapping[str, Any]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line a row, with the first row's keys as the header; a value that is NaN is left empty."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: "" if _is_nan(value) else value for key, value in row.items()})


def average_gain(rows: Iterable[Row], score: str) -> float:
    """Mean of enhanced minus noisy over the utterances for which both have the score; NaN if there is none."""
    pairs = _pairs(rows, score)
    return _mean([pair["enhanced"] - pair["noisy"] for pair in pairs.values()])


def score_table(rows: Sequence[Row], score: str) -> str:
    """The Markdown table of one score from rows with noise_type, snr_db, utterance, signal and the score.

    A cell is the mean over utterances; the better of the two rows is bold. An utterance that has no score for
    one of the two signals is left out of both, and the table says how many those are.
    """
    title, places = TITLES[score]
    pairs = _pairs(rows, score)
    noise_types = list(dict.fromkeys(row["noise_type"] for row in rows))
    snrs = sorted({row["snr_db"] for row in rows})
    lines = [f"### {title}", ""]
    for noise in noise_types:
        columns = [[pairs[key] for key in pairs if key[:2] == (noise, snr)] for snr in snrs]
        columns.append([pair for column in columns for pair in column])  # the average
        means = {signal: [_mean([pair[signal] for pair in c]) for c in columns] for signal in SIGNALS}
        best = [max(values) for values in zip(*means.values(), strict=True)]
        lines.append(f"| {noise} | " + " | ".join(f"{snr:g} dB" for snr in snrs) + " | average |")
        lines.append("|---" * (len(columns) + 1) + "|")
        for signal in SIGNALS:
            cells = [_cell(m, m == b, places) for m, b in zip(means[signal], best, strict=True)]
            lines.append(f"| {signal} | " + " | ".join(cells) + " |")
        lines.append("")
    utterances = len({_key(row) for row in rows})
    if len(pairs) < utterances:
        lines += [f"{utterances - len(pairs)} of {utterances} utterances have no {title} and are left out.", ""]
    return "\n".join(lines)


def _pairs(rows: Iterable[Row], score: str) -> dict[tuple, dict[str, float]]:
    """(noise type, dB, utterance) to the score of each signal, where both have one."""
    pairs: dict[tuple, dict[str, float]] = {}
    for row in rows:
        if not _is_nan(row[score]):
            pairs.setdefault(_key(row), {})[row["signal"]] = row[score]
    return {key: pair for key, pair in pairs.items() if len(pair) == len(SIGNALS)}


def _key(row: Row) -> tuple:
    return row["noise_type"], row["snr_db"], row["utterance"]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _cell(value: float, bold: bool, places: int) -> str:
    if _is_nan(value):
        return "-"
    return f"**{value:.{places}f}**" if bold else f"{value:.{places}f}"


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
