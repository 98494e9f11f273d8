"""Figures of scores and of speech, drawn without a display."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from config import SAMPLE_RATE
from tools.common.audio import show_spectrogram, spectrogram
from tools.common.files import replacing
from tools.reports.comparison import EVERYWHERE
from tools.reports.significance import confidence_interval
from tools.reports.tables import SIGNALS, TITLES, Row, complete_utterances, utterance_key

NOISY_COLOUR = "0.45"
# fmt: off
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#e377c2", "#8c564b",
           "#bcbd22", "#003f5c", "#7f0000", "#004d00", "#b8860b", "#4b0082", "#00a087", "#ff1493")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">", "p", "h", "d", "8", "H", "+")
# fmt: on


def style_of(number: int) -> dict[str, str]:
    """Return colour and marker of the number-th signal, counted from 0; they repeat after 16."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def score_curves(rows: Sequence[Row], scores: Sequence[str], signals: Sequence[str] = SIGNALS) -> Figure:
    """Draw each score's gain over the noisy speech over dB: a panel a score and noise type, a line a signal.

    The bands are 95% confidence intervals of the mean paired difference (Student's t), in which utterances with
    the same clean speech count once.
    """
    noises = list(dict.fromkeys(row["noise_type"] for row in rows))
    abreast = max(1, min(math.ceil(math.sqrt(len(scores))), 8 // len(noises)))
    lines, columns = math.ceil(len(scores) / abreast), abreast * len(noises)
    figure = Figure((3.3 * columns + 0.4, 2.3 * lines + 0.7), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    places = grid.reshape(lines * abreast, len(noises))
    clean = {utterance_key(row): row.get("clean", row["utterance"]) for row in rows}
    for score, panels in zip(scores, places, strict=False):
        complete = complete_utterances(rows, score, signals)
        for noise, panel in zip(noises, panels, strict=True):
            _draw_gains(panel, complete, clean, noise, signals)
            panel.set_title(f"{TITLES[score][0]}, {noise}", fontsize=10)
            panel.set_xlabel("SNR of the noisy speech (dB)", fontsize=9)
            panel.set_ylabel("gain over noisy (95% band)", fontsize=9)
        limits = [panel.get_ylim() for panel in panels]
        for panel in panels:
            panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for panel in places[len(scores) :].flat:
        panel.set_axis_off()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 2 * columns), frameon=False)
    return figure


def _draw_gains(
    panel: Axes,
    complete: Mapping[tuple, Mapping[str, float]],
    clean: Mapping[tuple, int],
    noise: str,
    signals: Sequence[str],
) -> None:
    """Draw the mean gain of each signal over noisy with its band."""
    keys = [key for key in complete if key[0] == noise]
    snrs = sorted({key[1] for key in keys})
    for number, name in enumerate(signal for signal in signals if signal != "noisy"):
        means, bands = [], []
        for snr in snrs:
            gains: dict[int, list[float]] = {}
            for key in keys:
                if key[1] == snr:
                    gains.setdefault(clean[key], []).append(complete[key][name] - complete[key]["noisy"])
            means.append(np.mean([gain for group in gains.values() for gain in group]))
            bands.append(confidence_interval([np.mean(group) for group in gains.values()]))
        low, high = np.reshape(bands, (-1, 2)).T
        style = style_of(number)
        panel.plot(snrs, means, markersize=4, linewidth=1.3, label=name, **style)
        panel.fill_between(snrs, low, high, alpha=0.12, linewidth=0, color=style["color"])
    panel.axhline(0, color=NOISY_COLOUR, linewidth=1, linestyle="--", label="noisy")
    panel.grid(alpha=0.3)


def difference_figure(comparisons: Mapping[str, Sequence[Row]]) -> Figure:
    """Draw each loss's difference from the baseline over the whole grid: a panel a score, a colour a comparison.

    comparisons: results of `find_differences` by name. Thick bars are 95% intervals over utterances; thin ones, if
    there are several seeds, over seeds and utterances.
    """
    first = next(iter(comparisons.values()))
    whole = {
        name: {(row["signal"], row["score"]): row for row in rows if row["noise_type"] == EVERYWHERE}
        for name, rows in comparisons.items()
    }
    signals, scores = (list(dict.fromkeys(row[key] for row in first)) for key in ("signal", "score"))
    scores = [score for score in scores if all((signals[0], score) in found for found in whole.values())]
    figure = Figure((2.5 * len(scores) + 1.2, 0.5 * len(signals) + 1.3), layout="constrained")
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for panel, score in zip(panels, scores, strict=True):
        panel.axvline(0, color=NOISY_COLOUR, linewidth=1, linestyle="--")
        for number, (name, found) in enumerate(whole.items()):
            shift = 0.3 * (number - (len(whole) - 1) / 2)
            for place, signal in enumerate(signals):
                row, style = found[signal, score], style_of(number)
                height, label = place + shift, name if place == 0 else None
                if "seed_low" in row:
                    panel.plot(
                        [row["seed_low"], row["seed_high"]], [height] * 2, color=style["color"], linewidth=1
                    )
                panel.plot([row["low"], row["high"]], [height] * 2, color=style["color"], linewidth=3.5, alpha=0.5)
                panel.plot(row["difference"], height, label=label, linestyle="", markersize=5, **style)
        panel.set(yticks=range(len(signals)), yticklabels=signals, ylim=(len(signals) - 0.5, -0.5))
        panel.set_xlabel(TITLES[score][0], fontsize=9)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3, axis="x")
    figure.suptitle(f"difference from {first[0]['baseline']}; right is better", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def tuning_curves(rows: Sequence[Row], scores: Sequence[str]) -> Figure:
    """Draw validation scores over the learning rate, a line a loss; the chosen rate is filled."""
    figure = Figure((3.6 * len(scores), 3.2), layout="constrained")
    for panel, score in zip(figure.subplots(1, len(scores)), scores, strict=True):
        for number, loss in enumerate(dict.fromkeys(row["loss"] for row in rows)):
            own, style = [row for row in rows if row["loss"] == loss], style_of(number)
            rates, values = ([row[name] for row in own] for name in ("learning_rate", score))
            panel.plot(rates, values, label=loss, markerfacecolor="white", **style)
            panel.plot(*zip(*[(r["learning_rate"], r[score]) for r in own if r["chosen"]], strict=True), **style)
        panel.set(xscale="log", xlabel="learning rate", ylabel=f"{TITLES[score][0]} in validation")
        panel.grid(alpha=0.3)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return figure


def spectrogram_figure(pairs: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw spectrograms of waveforms [samples]: a row a place, with a common scale, and a column a signal."""
    names = list(next(iter(pairs.values())))
    figure = Figure((3.4 * len(names), 2.1 * len(pairs) + 0.5), layout="constrained")
    panels = figure.subplots(len(pairs), len(names), squeeze=False)
    for (place, waveforms), line in zip(pairs.items(), panels, strict=True):
        levels = {name: spectrogram(waveform) for name, waveform in waveforms.items()}
        top = max(level.max() for level in levels.values())
        for name, panel in zip(names, line, strict=True):
            image = show_spectrogram(panel, levels[name], waveforms[name].size / SAMPLE_RATE, top)
            panel.set_title(f"{place}: {name}" if name == names[0] else name, fontsize=9)
            panel.set_xlabel("time (s)", fontsize=9)
            panel.set_ylabel("kHz", fontsize=9)
        figure.colorbar(image, ax=line[-1], label="dB")
    return figure


def spectrogram_grid(waveforms: Mapping[str, np.ndarray]) -> Figure:
    """Draw spectrograms of the waveforms [samples] of one place, four a row, with a common scale."""
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
    """Draw training and validation loss over epochs, a panel a label, and below two validation scores.

    histories: rows of history.csv by label and seed.
    """
    scores = {"valid_pesq": TITLES["pesq"][0], "valid_si_sdr": TITLES["si_sdr"][0]}
    columns = 3
    lines = -(-len(histories) // columns)
    figure = Figure((3.2 * columns, 2.1 * (lines + 1) + 0.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(lines, 1.3))
    panels = above.subplots(lines, columns, squeeze=False)
    for number, (panel, (label, seeds)) in enumerate(zip(panels.flat, histories.items(), strict=False)):
        for shade, (seed, rows) in zip(np.linspace(1, 0.35, max(len(seeds), 2)), seeds.items(), strict=False):
            for kind, line in (("train", "-"), ("valid", "--")):
                values = [row[f"{kind}_loss"] for row in rows]
                epochs = [row["epoch"] for row in rows]
                style = {"color": COLOURS[number % len(COLOURS)], "alpha": float(shade)}
                panel.plot(epochs, values, line, label=f"{kind}, seed {seed}", **style)
        panel.set(title=label, xlabel="epoch", ylabel="loss")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(histories) :]:
        panel.set_axis_off()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    legend = above.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    for handle in legend.legend_handles:
        handle.set_color("0.2")  # in the panels, the colour is the loss's
    for panel, (column, title) in zip(below.subplots(1, 2), scores.items(), strict=True):
        for number, (label, seeds) in enumerate(histories.items()):
            for seed, rows in seeds.items():
                name = label if seed == next(iter(seeds)) else None
                values = [row.get(column, math.nan) for row in rows]
                panel.plot([row["epoch"] for row in rows], values, label=name, markersize=4, **style_of(number))
        panel.set(xlabel="epoch", ylabel=f"{title} in validation")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    below.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return figure


def save_figure(
    figure: Figure, folder: Path, name: str, kinds: Sequence[str] = ("png", "pdf"), dpi: int = 120
) -> None:
    """Write <name>.<kind> of each kind to the folder."""
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine(None)  # the same for all kinds, and not computed again for each
    for kind in kinds:
        with replacing(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, dpi=dpi)
