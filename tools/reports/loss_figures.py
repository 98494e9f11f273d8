"""Figures of the loss report."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

COLUMNS = 4


def curves_over_snr(rows: Sequence[Mapping], terms: Sequence[str], signals: Sequence[str], what: str) -> Figure:
    """Draw a panel a term: median over utterances and the middle 80% over the SNR, a line a signal.

    what: column of the rows, with {} for the term; gradients are drawn on a logarithmic scale.
    """
    lines = math.ceil(len(terms) / COLUMNS)
    figure = Figure((3.0 * COLUMNS, 2.2 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, COLUMNS, squeeze=False, sharex=True)
    snrs = sorted({row["snr_db"] for row in rows})
    for term, panel in zip(terms, panels.flat, strict=False):
        for signal in signals:
            cells = [
                [row[what.format(term)] for row in rows if row["snr_db"] == snr and row["signal"] == signal]
                for snr in snrs
            ]
            low, middle, high = np.array([np.quantile(cell, (0.1, 0.5, 0.9)) for cell in cells]).T
            panel.plot(snrs, middle, marker="o", markersize=3, label=signal)
            panel.fill_between(snrs, low, high, alpha=0.15, linewidth=0)
        panel.set_title(term)
        panel.grid(alpha=0.3)
        if what.startswith("gradient"):
            drawn = np.concatenate([line.get_ydata() for line in panel.lines])
            panel.set_yscale("log")
            panel.set_ylim(drawn[drawn > 0].min() / 4, drawn.max() * 4)  # a decade, so that labels fit
    for panel in panels.flat[len(terms) :]:
        panel.set_axis_off()
    for panel in panels.flat[: len(terms)][-COLUMNS:]:
        panel.tick_params(labelbottom=True)
    figure.supxlabel("SNR of the noisy speech (dB)")
    figure.supylabel("norm of the gradient" if what.startswith("gradient") else "value")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4), frameon=False)
    return figure


def correlation_map(found: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Draw correlations of terms with scores, as colours and numbers; -1 is best for a loss."""
    columns = list(next(iter(found.values())))
    table = np.array([[row[column] for column in columns] for row in found.values()])
    figure = Figure((1.2 * len(columns) + 2.2, 0.32 * len(found) + 1.6), layout="constrained")
    panel = figure.subplots()
    image = panel.imshow(table, vmin=-1, vmax=1, cmap="PuOr", aspect="auto")
    panel.set_xticks(range(len(columns)), columns)
    panel.set_yticks(range(len(found)), list(found))
    for (line, column), value in np.ndenumerate(table):
        colour = "white" if abs(value) > 0.7 else "black"
        panel.text(column, line, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    panel.set_title(title)
    figure.colorbar(image)
    return figure


def cost_bars(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the cost of each term relative to a network step, a panel a quantity."""
    quantities = list(next(iter(shares.values())))
    figure = Figure((4.2 * len(quantities), 0.3 * len(shares) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(quantities), squeeze=False, sharey=True)[0]
    for quantity, panel in zip(quantities, panels, strict=True):
        bars = panel.barh(list(shares), [100 * row[quantity] for row in shares.values()], color="0.45")
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        panel.set_xlabel(f"{quantity}, % of a network step")
        panel.margins(x=0.15)
        panel.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    return figure
