"""Figures of the loss report."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

COLUMNS = 4


def curves_over_snr(values: pd.DataFrame, terms: Sequence[str], what: str) -> Figure:
    """Draw a panel a term: median over utterances and the middle 80% over the SNR, a line a signal.

    what: value or gradient, of columns <what>_<term>; gradients are drawn on a logarithmic scale.
    """
    lines = math.ceil(len(terms) / COLUMNS)
    figure = Figure((3.0 * COLUMNS, 2.2 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, COLUMNS, squeeze=False, sharex=True)
    for term, panel in zip(terms, panels.flat, strict=False):
        for signal, own in values.groupby("signal", sort=False):
            spread = own.groupby("snr_db")[f"{what}_{term}"].quantile([0.1, 0.5, 0.9]).unstack()
            panel.plot(spread.index, spread[0.5], marker="o", markersize=3, label=signal)
            panel.fill_between(spread.index, spread[0.1], spread[0.9], alpha=0.15, linewidth=0)
        panel.set_title(term)
        panel.grid(alpha=0.3)
        if what == "gradient":
            drawn = np.concatenate([line.get_ydata() for line in panel.lines])
            panel.set_yscale("log")
            panel.set_ylim(drawn[drawn > 0].min() / 4, drawn.max() * 4)  # a decade, so that labels fit
    for panel in panels.flat[len(terms) :]:
        panel.set_axis_off()
    for panel in panels.flat[: len(terms)][-COLUMNS:]:
        panel.tick_params(labelbottom=True)
    figure.supxlabel("SNR of the noisy speech (dB)")
    figure.supylabel("norm of the gradient" if what == "gradient" else "value")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4), frameon=False)
    return figure


def correlation_map(table: pd.DataFrame, title: str) -> Figure:
    """Draw correlations of terms (rows) with scores, as colours and numbers; -1 is best for a loss."""
    lines, columns = table.shape
    figure = Figure((1.2 * columns + 2.2, 0.32 * lines + 1.6), layout="constrained")
    panel = figure.subplots()
    image = panel.imshow(table, vmin=-1, vmax=1, cmap="PuOr", aspect="auto")
    panel.set_xticks(range(columns), table.columns)
    panel.set_yticks(range(lines), table.index)
    for (line, column), value in np.ndenumerate(table):
        colour = "white" if abs(value) > 0.7 else "black"
        panel.text(column, line, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    panel.set_title(title)
    figure.colorbar(image)
    return figure


def cost_bars(shares: pd.DataFrame) -> Figure:
    """Draw the cost of each term (rows) relative to a network step, a panel a quantity."""
    lines, quantities = shares.shape
    figure = Figure((4.2 * quantities, 0.3 * lines + 1.2), layout="constrained")
    panels = figure.subplots(1, quantities, squeeze=False, sharey=True)[0]
    for quantity, panel in zip(shares, panels, strict=True):
        bars = panel.barh(shares.index, 100 * shares[quantity], color="0.45")
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        panel.set_xlabel(f"{quantity}, % of a network step")
        panel.margins(x=0.15)
        panel.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    return figure
