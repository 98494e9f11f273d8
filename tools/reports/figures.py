"""Figures of scores, of trainings and of speech, drawn without a display."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from config import SAMPLE_RATE
from tools.common.audio import show_spectrogram, spectrogram
from tools.common.files import replacing
from tools.reports.comparison import EVERYWHERE, UTTERANCE, by_signal, per_utterance
from tools.reports.significance import confidence_interval
from tools.scoring.scores import METRICS

GREY = "0.45"
# fmt: off
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#e377c2", "#8c564b",
           "#bcbd22", "#003f5c", "#7f0000", "#004d00", "#b8860b", "#4b0082", "#00a087", "#ff1493")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">", "p", "h", "d", "8", "H", "+", "x")
# fmt: on


def style_of(number: int) -> dict[str, str]:
    """Return colour and marker of the number-th signal, from 0; a colour that comes again has another marker."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def score_curves(scores: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Draw each metric's gain over the noisy speech over dB: a panel a metric and noise type, a line a signal.

    The bands are 95% confidence intervals of the mean paired difference (Student's t), in which utterances with
    the same clean speech count once.
    """
    noise_types = scores["noise_type"].unique()
    abreast = max(1, min(math.ceil(math.sqrt(len(metrics))), 8 // len(noise_types)))
    lines, columns = math.ceil(len(metrics) / abreast), abreast * len(noise_types)
    figure = Figure((3.3 * columns + 0.4, 2.3 * lines + 0.7), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    panels = grid.reshape(lines * abreast, len(noise_types))
    clean_id = scores.groupby(UTTERANCE)["clean_id"].last()
    for metric, row in zip(metrics, panels, strict=False):
        values = by_signal(scores, metric).dropna()
        gains = values.drop(columns="noisy").sub(values["noisy"], axis=0)
        cells = gains.groupby(level=["noise_type", "snr_db"], group_keys=False)
        gains = cells.apply(per_utterance, scores, metric)
        gains["clean_id"] = clean_id.loc[gains.index]
        for noise_type, panel in zip(noise_types, row, strict=True):
            _draw_gains(panel, gains[gains.index.get_level_values("noise_type") == noise_type])
            panel.set_title(f"{METRICS[metric].title}, {noise_type}", fontsize=10)
            panel.set_xlabel("SNR of the noisy speech (dB)", fontsize=9)
            panel.set_ylabel("gain over noisy (95% band)", fontsize=9)
        _share_limits(row)
    for panel in panels[len(metrics) :].flat:
        panel.set_axis_off()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 2 * columns), frameon=False)
    return figure


def _draw_gains(panel: Axes, gains: pd.DataFrame) -> None:
    """Draw the mean gain of each signal over noisy with its band."""
    for number, signal in enumerate(gains.columns.drop("clean_id")):
        means = gains.groupby(level="snr_db")[signal].mean()
        of_speech = gains.groupby(["snr_db", "clean_id"])[signal].mean()
        bands = [confidence_interval(own) for _, own in of_speech.groupby(level="snr_db")]
        low, high = np.reshape(bands, (-1, 2)).T
        style = style_of(number)
        panel.plot(means.index, means, markersize=4, linewidth=1.3, label=signal, **style)
        panel.fill_between(means.index, low, high, alpha=0.12, linewidth=0, color=style["color"])
    panel.axhline(0, color=GREY, linewidth=1, linestyle="--", label="noisy")
    panel.grid(alpha=0.3)


def difference_figure(comparisons: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw each loss's difference from the baseline over the whole grid: a panel a metric, a colour a comparison.

    comparisons: results of `find_differences` by name. Thick bars are 95% intervals over utterances; thin ones, if
    there are several seeds, over seeds and utterances.
    """
    whole = {
        name: rows[rows["noise_type"] == EVERYWHERE].set_index(["metric", "signal"])
        for name, rows in comparisons.items()
    }
    first = next(iter(whole.values()))
    signals = list(dict.fromkeys(signal for rows in whole.values() for signal in rows.index.unique("signal")))
    metrics = [name for name in first.index.unique("metric") if all(name in rows.index for rows in whole.values())]
    figure = Figure((2.5 * len(metrics) + 1.2, 0.3 * len(signals) + 1.3), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        panel.axvline(0, color=GREY, linewidth=1, linestyle="--")
        for number, (name, rows) in enumerate(whole.items()):
            own, style = rows.loc[metric].reindex(signals), style_of(number)
            heights = np.arange(len(signals)) + 0.3 * (number - (len(whole) - 1) / 2)
            if "seed_low" in own:
                panel.hlines(heights, own["seed_low"], own["seed_high"], style["color"], linewidth=1)
            panel.hlines(heights, own["low"], own["high"], style["color"], linewidth=3.5, alpha=0.5)
            panel.plot(own["difference"], heights, label=name, linestyle="", markersize=5, **style)
        panel.set(yticks=range(len(signals)), yticklabels=signals, ylim=(len(signals) - 0.5, -0.5))
        panel.set_xlabel(METRICS[metric].title, fontsize=9)
        if METRICS[metric].sign < 0:
            panel.invert_xaxis()
        panel.tick_params(labelsize=8)
        panel.locator_params(axis="x", nbins=5)
        panel.grid(alpha=0.3, axis="x")
    figure.suptitle(f"difference from {first['baseline'].iloc[0]}; right is better", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def spectrogram_figure(rows: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> Figure:
    """Draw spectrograms of waveforms [samples] by name: rows with a title, or "", and a scale of their own."""
    columns = max(len(waveforms) for _, waveforms in rows)
    figure = Figure((3.4 * columns, 2.1 * len(rows) + 0.5), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for (title, waveforms), line in zip(rows, panels, strict=True):
        levels = {name: spectrogram(waveform) for name, waveform in waveforms.items()}
        top = max(level.max() for level in levels.values())
        for panel, (name, level) in zip(line, levels.items(), strict=True):
            image = show_spectrogram(panel, level, waveforms[name].size / SAMPLE_RATE, top)
            panel.set_title(f"{title}: {name}" if title and panel is line[0] else name, fontsize=9)
            panel.set_xlabel("time (s)", fontsize=9)
            panel.set_ylabel("kHz", fontsize=9)
        figure.colorbar(image, ax=line[-1], label="dB")
    return figure


def training_curves(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Draw validation loss (in training dashed), PESQ and SI-SDR over epochs: a column a label, a line a seed.

    histories: history.csv of each seed by label.
    """
    rows = {"loss": "loss"} | {name: METRICS[name].title for name in ("pesq", "si_sdr")}
    figure = Figure((2.6 * len(histories) + 0.6, 1.9 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(histories), sharex=True, squeeze=False)
    for number, (label, seeds) in enumerate(histories.items()):
        colour = style_of(number)["color"]
        for (name, title), panel in zip(rows.items(), grid[:, number], strict=True):
            for history in seeds:
                panel.plot(history["epoch"], history[f"valid_{name}"], color=colour)
                if name == "loss":
                    panel.plot(history["epoch"], history["train_loss"], "--", color=colour)
            panel.set(xlabel="epoch", ylabel=title, title=label if name == "loss" else "")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.grid(alpha=0.3)
    for line in grid[1:]:  # losses have scales of their own
        _share_limits(line)
    return figure


def _share_limits(panels: Sequence[Axes]) -> None:
    """Give panels that are drawn the same vertical axis."""
    limits = np.array([panel.get_ylim() for panel in panels])
    for panel in panels:
        panel.set_ylim(limits.min(), limits.max())


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
            if kind == "png":  # 256 colours are enough, in a fifth to a half of the space
                with Image.open(temporary) as image:
                    few = image.convert("RGB").quantize(256)
                few.save(temporary, format="png", optimize=True)
