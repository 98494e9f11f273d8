"""Figures of scores and of speech, drawn without a display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tools.common.audio import SAMPLE_RATE
from tools.common.files import replacing
from tools.common.spectrograms import show_spectrogram, spectrogram
from tools.reports.significance import confidence_interval
from tools.reports.tables import SIGNALS, TITLES, Row, complete_utterances

NOISY_COLOUR = "0.45"


def score_curves(rows: Sequence[Row], scores: Sequence[str], signals: Sequence[str] = SIGNALS) -> Figure:
    """Mean of each score over dB: a row of panels a score, a column a noise type, a line a signal.

    The bands are 95% confidence intervals of the mean over utterances (Student's t).
    """
    noises = list(dict.fromkeys(row["noise_type"] for row in rows))
    figure = Figure((3.6 * len(noises), 2.0 * len(scores) + 0.6), layout="constrained")
    panels = figure.subplots(len(scores), len(noises), squeeze=False, sharex=True, sharey="row")
    for score, line in zip(scores, panels, strict=True):
        line[0].set_ylabel(TITLES[score][0])
        complete = complete_utterances(rows, score, signals)
        for noise, panel in zip(noises, line, strict=True):
            for number, name in enumerate(signals):
                snrs, values = _values_by_snr(complete, noise, name)
                low, high = np.array([confidence_interval(cell) for cell in values]).reshape(-1, 2).T
                style = {"color": NOISY_COLOUR if name == "noisy" else f"C{(number - 1) % 10}"}
                panel.plot(snrs, [np.mean(cell) for cell in values], marker="o", markersize=3, label=name, **style)
                panel.fill_between(snrs, low, high, alpha=0.15, linewidth=0, **style)
            panel.grid(alpha=0.3)
    for noise, top, bottom in zip(noises, panels[0], panels[-1], strict=True):
        top.set_title(noise)
        bottom.set_xlabel("SNR of the noisy speech (dB)")
    figure.align_ylabels()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    return figure


def spectrogram_figure(pairs: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Spectrograms of waveforms [samples]: a row a place in the grid, a column a signal, one scale a row."""
    names = list(next(iter(pairs.values())))
    figure = Figure((3.4 * len(names), 1.9 * len(pairs) + 0.5), layout="constrained")
    panels = figure.subplots(len(pairs), len(names), squeeze=False, sharex=True, sharey=True)
    for (place, waveforms), line in zip(pairs.items(), panels, strict=True):
        levels = {name: spectrogram(waveform) for name, waveform in waveforms.items()}
        top = max(level.max() for level in levels.values())
        for name, panel in zip(names, line, strict=True):
            image = show_spectrogram(panel, levels[name], waveforms[name].size / SAMPLE_RATE, top)
        line[0].set_ylabel(f"{place}\nkHz")
        figure.colorbar(image, ax=line[-1], label="dB")
    for name, first, last in zip(names, panels[0], panels[-1], strict=True):
        first.set_title(name)
        last.set_xlabel("time (s)")
    return figure


def spectrogram_grid(waveforms: Mapping[str, np.ndarray]) -> Figure:
    """Spectrograms of the waveforms [samples] of one place, four a line, all with one scale."""
    columns = 4
    rows = -(-len(waveforms) // columns)
    figure = Figure((2.9 * columns, 2.0 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    levels = {name: spectrogram(waveform) for name, waveform in waveforms.items()}
    top = max(level.max() for level in levels.values())
    for panel, (name, level) in zip(panels.flat, levels.items(), strict=False):
        image = show_spectrogram(panel, level, waveforms[name].size / SAMPLE_RATE, top)
        panel.set_title(name)
    for panel in panels.flat[len(levels) :]:
        panel.set_axis_off()
    for panel in panels[:, 0]:
        panel.set_ylabel("kHz")
    for panel in panels[-1]:
        panel.set_xlabel("time (s)")
    figure.colorbar(image, ax=panels, label="dB", aspect=40)
    return figure


def training_curves(histories: Mapping[str, Mapping[int, Sequence[Row]]]) -> Figure:
    """Loss over epochs in training and validation, a panel a label, and below two scores in validation.

    `histories` holds the rows of history.csv by label and seed.
    """
    scores = {"valid_pesq": TITLES["pesq"][0], "valid_si_sdr": TITLES["si_sdr"][0]}
    columns = 3
    lines = -(-len(histories) // columns)
    figure = Figure((3.2 * columns, 2.1 * (lines + 1) + 0.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(lines, 1.3))
    panels = above.subplots(lines, columns, squeeze=False, sharex=True)
    for panel, (label, seeds) in zip(panels.flat, histories.items(), strict=False):
        for number, (seed, rows) in enumerate(seeds.items()):
            for kind, line in (("train", "-"), ("valid", "--")):
                values = [row[f"{kind}_loss"] for row in rows]
                epochs = [row["epoch"] for row in rows]
                panel.plot(epochs, values, line, color=f"C{number}", label=f"{kind}, seed {seed}")
        panel.set_title(label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(histories) :]:
        panel.set_axis_off()
    above.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    for panel, (column, title) in zip(below.subplots(1, 2), scores.items(), strict=True):
        for number, (label, seeds) in enumerate(histories.items()):
            for seed, rows in seeds.items():
                name = label if seed == next(iter(seeds)) else None
                values = [row.get(column, math.nan) for row in rows]
                panel.plot([row["epoch"] for row in rows], values, color=f"C{number % 10}", label=name)
        panel.set_title(f"{title} in validation")
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    below.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return figure


def save_figure(
    figure: Figure, folder: Path, name: str, kinds: Sequence[str] = ("png", "pdf"), dpi: int = 120
) -> None:
    """<name>.png and <name>.pdf in the folder."""
    for kind in kinds:
        with replacing(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, dpi=dpi)


def _values_by_snr(complete: Mapping[tuple, Mapping[str, float]], noise: str, name: str) -> tuple[list, list]:
    cells: dict[float, list[float]] = {}
    for (noise_type, snr, _), values in complete.items():
        if noise_type == noise:
            cells.setdefault(snr, []).append(values[name])
    return list(cells), list(cells.values())
